"""The dataset of digits: real, disjoint, repeatable, and complete or absent."""

import builtins
import json
import os
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from mmvitx.datasets import digits, make_digits

pytest.importorskip('sklearn')


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob('*') if p.is_file()}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return make_digits(tmp_path_factory.mktemp('digits') / 'data', train=12, val=5)


def test_same_seed_same_bytes(root, tmp_path):
    again = make_digits(tmp_path / 'again', train=12, val=5)
    assert files(again) == files(root)
    other = make_digits(tmp_path / 'other', train=12, val=5, seed=1)
    assert files(other)['train/000001.png'] != files(root)['train/000001.png']


def test_splits_share_no_handwriting():
    train, train_labels = digits.load_samples('train')
    val, val_labels = digits.load_samples('val')
    assert len(train) + len(val) == 1797
    assert set(train_labels) == set(val_labels) == set(range(10))
    assert not {x.tobytes() for x in train} & {x.tobytes() for x in val}


@pytest.mark.parametrize(('split', 'count'), [('train', 12), ('val', 5)])
def test_coco_reads_what_was_drawn(root, split, count):
    coco = COCO(root / 'annotations' / f'instances_{split}.json')
    assert [c['name'] for c in coco.loadCats(coco.getCatIds())] == list('0123456789')
    assert len(coco.imgs) == count

    for info, canvas in zip(coco.imgs.values(), digits.draw_split(split, count), strict=True):
        image = cv2.imread(str(root / split / info['file_name']))
        np.testing.assert_array_equal(image, canvas.image)
        annotations = coco.loadAnns(coco.getAnnIds(info['id']))
        assert [a['category_id'] for a in annotations] == canvas.labels.tolist()
        for annotation, mask in zip(annotations, canvas.masks, strict=True):
            np.testing.assert_array_equal(coco.annToMask(annotation).astype(bool), mask)
            ys, xs = np.nonzero(mask)
            x, y, width, height = annotation['bbox']
            assert (x, y, x + width, y + height) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
            assert annotation['area'] == mask.sum()


@pytest.mark.parametrize(('split', 'count'), [('train', 12), ('val', 5)])
def test_label_maps_are_what_was_drawn(root, split, count):
    for i, canvas in enumerate(digits.draw_split(split, count), 1):
        labels = cv2.imread(str(root / f'semantic/{split}/{i:06d}.png'), cv2.IMREAD_UNCHANGED)
        expected = np.zeros(labels.shape, np.uint8)
        for digit, mask in zip(canvas.labels, canvas.masks, strict=True):
            expected += mask * np.uint8(1 + digit)  # no pixel is of two
        np.testing.assert_array_equal(labels, expected)
        assert labels.shape == canvas.image.shape[:2]


def test_masks_are_the_visible_pixels():
    """One ink covers another: the pixel belongs to the digit on top, and has its colour."""
    for canvas in digits.draw_split('train', 50):
        assert canvas.masks.sum(0).max() == 1
        assert canvas.masks.any((1, 2)).all()
        background = ~canvas.masks.any(0)
        assert all(canvas.image[m].mean() > canvas.image[background].mean() for m in canvas.masks)


def test_later_digits_cover_earlier_ones(monkeypatch):
    monkeypatch.setattr(digits, '_free_square', lambda *_: (0, 0, 40))
    drawing = digits.MANY._replace(side=(40, 40))
    ink = np.ones((1, 8, 8), np.float32)
    canvas = digits.draw_canvas(np.random.default_rng(0), ink, np.array([3]), drawing)
    assert [m.sum() for m in canvas.masks[:-1]] == [0] * (len(canvas.masks) - 1)
    assert canvas.masks[-1].sum() == 40 * 40


def test_second_call_is_instant_and_other_settings_write_anew(root):
    before = {p: p.stat().st_mtime_ns for p in root.rglob('*')}
    start = time.monotonic()
    make_digits(root, train=12, val=5)
    assert time.monotonic() - start < 0.1
    assert {p: p.stat().st_mtime_ns for p in root.rglob('*')} == before


def test_other_settings_replace(tmp_path):
    root = make_digits(tmp_path / 'data', train=3, val=1)
    make_digits(root, train=2, val=1)
    assert len(list((root / 'train').iterdir())) == 2
    assert os.listdir(tmp_path) == ['data']


def test_interruption_leaves_nothing_or_what_was_there(tmp_path, monkeypatch):
    root = make_digits(tmp_path / 'data', train=3, val=1)
    before = files(root)
    real = digits.draw_split

    def interrupted(split, *settings):
        if split == 'val':
            raise KeyboardInterrupt
        return real(split, *settings)

    monkeypatch.setattr(digits, 'draw_split', interrupted)
    for name in ('data', 'new'):
        with pytest.raises(KeyboardInterrupt):
            make_digits(tmp_path / name, train=2, val=1)
    assert files(root) == before
    assert os.listdir(tmp_path) == ['data']


def test_full_disk_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, 'imwrite', lambda *_: False)  # what OpenCV does instead of raising
    with pytest.raises(OSError, match='disk full'):
        make_digits(tmp_path / 'data', train=2, val=1)
    assert not list(tmp_path.iterdir())


def test_refuses_a_folder_of_something_else(tmp_path):
    (tmp_path / 'thesis.tex').write_text('years of work')
    with pytest.raises(FileExistsError, match='another folder'):
        make_digits(tmp_path, train=2, val=1)
    assert os.listdir(tmp_path) == ['thesis.tex']


def test_without_scikit_learn(tmp_path, monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith('sklearn'):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', missing)
    with pytest.raises(ImportError, match='pip install scikit-learn'):
        make_digits(tmp_path / 'data', train=2, val=1)
    assert not list(tmp_path.iterdir())


def test_stamp_says_the_settings(root):
    stamp = json.loads((root / 'digits.json').read_text())
    assert stamp == dict(version=digits.VERSION, train=12, val=5, seed=0)
