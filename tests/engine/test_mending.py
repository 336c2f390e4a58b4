"""Annotations that a host would misread are mended in a copy, which the run reads."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from mmengine.runner import Runner
from PIL import Image

from mmvitx.datasets.description import describe
from mmvitx.engine.mending import mend_data
from mmvitx.errors import UserError

COCO = Path(os.environ.get('MMVITX_COCO', Path(__file__).parents[2] / 'data/coco'))
TRAIN = COCO / 'annotations/instances_train2017.json'
LOOPS = ('train', 'val', 'test')


def spoil(path, **values):
    coco = json.loads(path.read_text())
    coco['annotations'][4].update(values)
    path.write_text(json.dumps(coco))


def build(cfg, loop='train'):
    init_default_scope(cfg.default_scope)
    return DATASETS.build(cfg[f'{loop}_dataloader'].dataset)


def test_clean_data_stay_where_they_are(read_config, tmp_path):
    assert mend_data(read_config(), LOOPS, tmp_path / 'mended') == ({}, [])
    assert not (tmp_path / 'mended').exists()


@pytest.mark.parametrize('host', ['mmseg', 'mmpretrain'])
def test_other_hosts_have_no_coco_files(read_config, tmp_path, host):
    assert mend_data(read_config(host), LOOPS, tmp_path) == ({}, [])


def test_a_run_reads_the_mended_copies(read_config, data, tmp_path):
    spoil(data / 'coco.json', area=None)
    cfg = read_config()
    settings, lines = mend_data(cfg, LOOPS, tmp_path / 'mended')
    train, val = (str(tmp_path / f'mended/{loop}_dataloader.dataset.json') for loop in LOOPS[:2])
    assert settings == {
        'train_dataloader.dataset.ann_file': train,
        'val_dataloader.dataset.ann_file': val,
        'val_evaluator.ann_file': val,
        'test_dataloader.dataset.ann_file': val,  # the same split, examined once
        'test_evaluator.ann_file': val,
    }
    assert lines == [
        f'{data}/coco.json: objects without an area, for which that of the box is taken: 1 '
        '(first: annotation 5 of 1.png)',
        *(f'{data}/coco.json: read from the mended copy {copy}' for copy in (train, val)),
    ]
    cfg.merge_from_dict(settings)
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=1, val_interval=1)
    cfg.param_scheduler = []
    runner = Runner.from_cfg(cfg)
    runner.train()
    runner.test()
    assert mend_data(cfg, LOOPS, tmp_path / 'mended') == ({}, [])


def test_wrapped_datasets_and_several_evaluators(read_config, data, tmp_path):
    shutil.copy(data / 'coco.json', data / 'other.json')
    spoil(data / 'other.json', area=None)
    cfg = read_config()
    dataset = cfg.train_dataloader.dataset
    other = {**dataset, 'ann_file': str(data / 'other.json')}
    both = dict(type='ConcatDataset', datasets=[dataset, other])
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=both)
    cfg.val_evaluator = [
        dict(type='CocoMetric', metric='bbox', ann_file=str(data / 'coco.json')),
        dict(type='CocoMetric', metric='bbox', ann_file=str(data / 'other.json')),
    ]
    settings, _ = mend_data(cfg, LOOPS[:2], tmp_path)
    where = 'train_dataloader.dataset.dataset.datasets.1'
    assert settings == {
        f'{where}.ann_file': str(tmp_path / f'{where}.json'),
        'val_evaluator.1.ann_file': str(tmp_path / 'val_evaluator.1.json'),
    }
    cfg.merge_from_dict(settings)
    assert describe(build(cfg), 'train')[2].startswith(
        'train 1: 4 images of 64 x 64 px, 12 objects'
    )


@pytest.mark.parametrize(
    'remote',
    [
        dict(backend_args=dict(backend='petrel')),
        dict(data_root='s3://bucket/data'),
        dict(type='CocoPanopticDataset'),
        dict(type='CocoDatset'),
        dict(ann_file=3),
    ],
)
def test_what_is_elsewhere_or_in_another_format_is_left_to_the_run(
    read_config, data, tmp_path, remote
):
    (data / 'coco.json').write_text('no JSON')
    cfg = read_config()
    cfg.train_dataloader.dataset.update(remote)
    assert mend_data(cfg, ['train'], tmp_path) == ({}, [])


def test_classes_in_a_file(read_config, data, tmp_path):
    cfg = read_config()
    names = data / 'names.txt'
    names.write_text('bar\nsquare\n')
    cfg.train_dataloader.dataset.metainfo.classes = str(names)
    with pytest.raises(UserError, match=r'\(bar, square\) must be in the order of the categories'):
        mend_data(cfg, ['train'], tmp_path)


def test_images_annotated_as_stored(read_config, data, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    coco = json.loads((data / 'coco.json').read_text())
    for image in coco['images']:
        Image.new('RGB', (64, 48)).save(data / 'images' / image['file_name'], exif=exif)
        image['height'] = 48
    (data / 'coco.json').write_text(json.dumps(coco))
    cfg = read_config()
    settings, lines = mend_data(cfg, ['train'], tmp_path)
    assert settings == {
        'train_dataloader.dataset.pipeline.0.color_type': 'color_ignore_orientation'
    }
    assert 'annotated as stored, loaded so: 4 (first: 0.png)' in lines[0]
    cfg.merge_from_dict(settings)
    assert build(cfg)[0]['data_samples'].ori_shape == (48, 64)
    assert mend_data(cfg, ['train'], tmp_path) == ({}, [])
    cfg.train_dataloader.dataset.pipeline[0].update(imdecode_backend='pillow', color_type='color')
    assert mend_data(cfg, ['train'], tmp_path) == ({}, [])


def test_folder_that_cannot_be_written(read_config, data, tmp_path):
    spoil(data / 'coco.json', area=None)
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='the output folder .*file cannot be written .*--work-dir'):
        mend_data(read_config(), ['train'], tmp_path / 'file')


@pytest.mark.e2e
@pytest.mark.skipif(
    not TRAIN.is_file(), reason=f'needs COCO in {COCO}: name its place in MMVITX_COCO'
)
def test_real_annotations_need_no_mending(tmp_path):
    from mmvitx.engine.configs import move_data

    root = Path(__file__).parents[2]
    cfg = Config.fromfile(root / 'configs/mask_rcnn_coat_small_1x_coco.py')
    move_data(cfg, str(COCO))
    settings, found = mend_data(cfg, LOOPS, tmp_path)
    assert settings == {}
    text, classes = describe(build(cfg), 'train')
    coco = json.loads(TRAIN.read_text())
    crowds = sum(one['iscrowd'] for one in coco['annotations'])
    objects = len(coco['annotations']) - crowds
    empty = {one['id'] for one in coco['images']} - {one['image_id'] for one in coco['annotations']}
    assert f'{len(coco["images"]) - len(empty):,} images of' in text
    assert f' px, {objects:,} objects and {crowds:,} to ignore (crowds)' in text
    assert 'most often person' in classes
    assert f'images without objects, which training leaves out: {len(empty):,} ' in found[0]
    print(*found, text, classes, sep='\n')


@pytest.mark.parametrize('annotations', [None, []])
def test_one_of_several_datasets_may_be_without_labels(read_config, data, tmp_path, annotations):
    coco = json.loads((data / 'coco.json').read_text())
    coco.pop('annotations')
    if annotations is not None:
        coco['annotations'] = annotations
    (data / 'unlabelled.json').write_text(json.dumps(coco))
    cfg = read_config()
    labelled = cfg.train_dataloader.dataset
    unlabelled = {**labelled, 'ann_file': 'unlabelled.json'}
    cfg.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[labelled, unlabelled])
    assert mend_data(cfg, ['train'], tmp_path / 'mended') == ({}, [])
    cfg.train_dataloader.dataset = unlabelled
    with pytest.raises(UserError, match='unlabelled.json'):
        mend_data(cfg, ['train'], tmp_path / 'mended')


def test_boxes_without_masks_count_where_boxes_are_evaluated(read_config, data, tmp_path):
    spoil(data / 'coco.json', segmentation=[[1, 1, 9, 9]])
    cfg = read_config()  # whose pipelines load masks
    assert 'val_evaluator.ann_file' in mend_data(cfg, ['val'], tmp_path)[0]
    cfg.val_evaluator.metric = 'bbox'
    assert [*mend_data(cfg, ['val'], tmp_path)[0]] == ['val_dataloader.dataset.ann_file']
