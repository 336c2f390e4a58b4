"""What is said of the data of a run."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS, init_default_scope

from mmvitx.datasets import description
from mmvitx.datasets.description import describe
from mmvitx.errors import UserError


def build(cfg, loop='train'):
    init_default_scope(cfg.default_scope)
    return DATASETS.build(cfg[f'{loop}_dataloader'].dataset)


def test_describes_objects(read_config, data):
    coco = json.loads((data / 'coco.json').read_text())
    coco['annotations'] = [
        {**one, 'iscrowd': int(one['id'] == 1)}
        for one in coco['annotations']
        if one['category_id'] < 3 and one['image_id']
    ]
    coco['images'][1]['width'] = 80
    (data / 'coco.json').write_text(json.dumps(coco))
    assert describe(build(read_config()), 'train') == [
        'train: 4 images of 64 x 64 to 80 x 64 px (1 without objects), 6 objects',
        'train: objects of 2 of 3 classes, most often square 3, bar 3; none of plate',
    ]
    coco['annotations'] = []
    (data / 'coco.json').write_text(json.dumps(coco))
    with pytest.raises(UserError, match='no object to learn in any of its 4 images'):
        describe(build(read_config()), 'train')
    line = '4 images of 64 x 64 to 80 x 64 px (4 without objects), 0 objects'
    assert describe(build(read_config(), 'val'), 'val') == [f'val: {line}']
    unlabelled = build(read_config())
    both = SimpleNamespace(datasets=[unlabelled, unlabelled])  # as a semi-supervised training has
    assert describe(both, 'train') == [f'train 0: {line}', f'train 1: {line}']


def test_describes_label_maps(read_config, data):
    masks = data / 'masks'
    cv2.imwrite(str(masks / '0.png'), np.zeros((32, 64), np.uint8))
    cv2.imwrite(str(masks / '1.png'), np.zeros((64, 64, 3), np.uint8))
    (masks / '2.png').unlink()
    (data / 'images/3.png').write_text('no image')
    assert describe(build(read_config('mmseg')), 'train') == [
        'train: 4 images of 64 x 64 px',
        f'train: images that are damaged or of an unknown format: 1 (first: {data}/images/3.png)',
        f'train: label maps missing: 1 (first: {masks}/2.png)',
        f'train: label maps of another size than their image: 1 (first: {masks}/0.png)',
        f'train: label maps in colour instead of numbers: 1 (first: {masks}/1.png)',
    ]
    shutil.rmtree(masks)
    with pytest.raises(UserError, match='train has no label map that exists, as .*/0.png'):
        describe(build(read_config('mmseg')), 'train')


def test_describes_labels_of_images(read_config, data):
    assert describe(build(read_config('mmpretrain')), 'train') == [
        'train: 4 images of 64 x 64 px',
        'train: images of 3 of 3 classes, most often square 2, bar 1, plate 1',
    ]
    (data / 'classes.txt').write_text('0.png 0\n1.png 2\n')
    assert 'none of bar' in describe(build(read_config('mmpretrain')), 'train')[1]


def test_empty_dataset():
    with pytest.raises(UserError, match='train is empty'):
        describe([], 'train')
    assert describe([1, 2], 'train') == ['train: 2 samples']


def test_label_maps_without_labels(read_config, data, monkeypatch):
    for path in data.glob('masks/*'):
        cv2.imwrite(str(path), np.full((64, 64), 255, np.uint8))
    dataset = build(read_config('mmseg'))
    with pytest.raises(UserError, match='the 4 of 4 label maps .* hold no label but 255'):
        describe(dataset, 'train')
    monkeypatch.setattr(description, 'LABEL_MAPS', 2)  # the others may have some
    assert 'the 2 of 4 label maps' in ' '.join(describe(dataset, 'train'))
