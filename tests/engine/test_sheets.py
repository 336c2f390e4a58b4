"""A sheet shows what the pipeline makes of the data, and leaves a run as it was."""

from __future__ import annotations

import copy
import shutil

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, DefaultScope
from mmengine.visualization import Visualizer

from mmvitx.engine import sheets
from mmvitx.engine.randomness import get_random_state
from mmvitx.engine.sheets import GAP, draw_sheet
from mmvitx.errors import UserError

HOSTS = ('mmdet', 'mmseg', 'mmpretrain')
SIDE = 160  # smaller than that of the sheets, and sooner drawn
TILE = SIDE + GAP
LOAD = dict(type='LoadImageFromFile')
PACK = dict(
    mmdet=dict(type='PackDetInputs'),
    mmseg=dict(type='PackSegInputs'),
    mmpretrain=dict(type='PackInputs'),
)
ANNOTATIONS = dict(
    mmdet=[dict(type='LoadAnnotations', with_bbox=True, with_mask=True)],
    mmseg=[dict(type='LoadAnnotations')],
    mmpretrain=[],
)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(sheets, 'SIDE', SIDE)


@pytest.fixture(scope='module')
def root(tiny_data, tmp_path_factory):
    """The tiny data with images that are twice as wide as high, blue beside red, grey above."""
    root = shutil.copytree(tiny_data, tmp_path_factory.mktemp('colours') / 'data')
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, :64], image[:, 64:] = (255, 0, 0), (0, 0, 255)
    image[:20] = 100
    for path in root.glob('images/*.png'):
        cv2.imwrite(str(path), image)
    for path in root.glob('masks/*.png'):
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), np.hstack([labels, np.zeros_like(labels)]))
    return root


@pytest.fixture
def build(write_config, root, tmp_path):
    """Build the dataset of a host with a pipeline between loading and packing."""

    def build(host, *steps, **changes):
        cfg = Config.fromfile(write_config(tmp_path, host, root)).train_dataloader.dataset
        cfg.pipeline = [LOAD, *(steps or ANNOTATIONS[host]), PACK[host]]
        cfg.update(changes)
        with DefaultScope.overwrite_default_scope(host):
            return DATASETS.build(cfg)

    return build


@pytest.fixture
def draw(tmp_path):
    """Draw a sheet and read it."""

    def draw(dataset, host, count=8):
        path = tmp_path / 'samples.jpg'
        draw_sheet(dataset, host, path, count)
        assert [one.name for one in tmp_path.glob('*samples*')] == ['samples.jpg']
        return cv2.imread(str(path))

    return draw


@pytest.fixture
def warnings(monkeypatch):
    lines = []
    monkeypatch.setattr(sheets, 'print_log', lambda text, **settings: lines.append(text))
    return lines


def same(one, other, tolerance=4):
    return one.shape == other.shape and cv2.absdiff(one, other).mean() < tolerance


@pytest.mark.parametrize('host', HOSTS)
def test_a_sheet_of_each_host(build, host, root, tmp_path, warnings):
    path = tmp_path / 'samples.jpg'
    opened = draw_sheet(build(host), host, path)
    assert opened == [str(root / f'images/{i}.png') for i in range(4)]
    sheet = cv2.imread(str(path))
    assert sheet.shape == (2 * (SIDE // 2 + GAP), 3 * TILE, 3)  # 4 samples of 2:1
    assert warnings == []

    tile = sheet[GAP // 2 :, GAP // 2 :][: SIDE // 2, :SIDE].astype(int)
    corners = tile[-20:-5, 5:20].mean((0, 1)), tile[-20:-5, -20:-5].mean((0, 1))
    assert corners[0][0] > 100 + corners[0][2]  # blue, and red, as OpenCV has read it
    assert corners[1][2] > 100 + corners[1][0]
    assert sheet[-40:, -40:].min() > 250  # nothing in the last place
    plain = cv2.resize(cv2.imread(opened[0]), (SIDE, SIDE // 2), interpolation=cv2.INTER_NEAREST)
    assert abs(tile - plain).max(2).mean() > 5  # it is drawn on


@pytest.mark.parametrize('host', HOSTS)
def test_samples_are_spread_through_wrappers(build, host, root, tmp_path):
    dataset = build(host)
    with DefaultScope.overwrite_default_scope(host):
        double = dict(type='ConcatDataset', datasets=[dataset, dataset])
        dataset = DATASETS.build(dict(type='RepeatDataset', times=2, dataset=double))
    opened = draw_sheet(dataset, host, tmp_path / 'samples.jpg', 2)
    assert opened == [str(root / 'images/0.png'), str(root / 'images/3.png')]
    draw_sheet(dataset, host, tmp_path / 'samples.jpg', 200)
    assert cv2.imread(str(tmp_path / 'samples.jpg')).shape[1] == 6 * TILE  # 16 samples


@pytest.mark.parametrize('host', ['mmdet', 'mmseg'])
def test_annotations_follow_the_image(build, draw, host):
    """Where they are loaded after the image was resized, too, as in most tests."""
    before = draw(build(host), host)
    resize = dict(type='Resize', scale=(300, 150), keep_ratio=True)
    pad = dict(type='Pad', size_divisor=64)
    load = ANNOTATIONS[host]
    assert same(draw(build(host, *load, resize), host), before, 8)
    assert same(draw(build(host, resize, pad, *load), host), before, 8)
    flip = dict(type='RandomFlip', prob=1.0)
    flipped = draw(build(host, *load, flip), host, 1)
    assert not same(flipped, draw(build(host), host, 1))


@pytest.mark.parametrize('host', HOSTS)
def test_normalized_images_are_seen_as_they_were(build, draw, host):
    before = draw(build(host), host)
    settings = dict(mean=[150.0, 100.0, 50.0], std=[58.0, 57.0, 56.0])
    for to_rgb in (True, False):
        normalize = dict(type='mmcv.Normalize', **settings, to_rgb=to_rgb)
        assert same(draw(build(host, *ANNOTATIONS[host], normalize), host), before)


@pytest.mark.parametrize('scale', [1 / 255, 200.0])
def test_other_ranges_of_values(build, draw, scale):
    """From 0 to 1, or of 16 bits."""
    dataset = build('mmdet')
    before = draw(dataset, 'mmdet')
    pack = dataset.pipeline.transforms[-1]
    dataset.pipeline.transforms[-1] = lambda results: pack(
        {**results, 'img': results['img'] * np.float32(scale)}
    )
    assert same(draw(dataset, 'mmdet'), before)


def test_images_in_memory_are_rgb(draw):
    """As mmpretrain's CIFAR has them; those of digits have one channel."""
    colour = np.zeros((32, 32, 3), np.uint8)
    colour[..., 0] = 255
    grey = np.full((32, 32), 200, np.uint8)

    class Images(BaseDataset):
        def load_data_list(self):
            return [dict(img=colour, gt_label=0), dict(img=grey, gt_label=0)]

    with DefaultScope.overwrite_default_scope('mmpretrain'):
        from mmpretrain.registry import TRANSFORMS

        dataset = Images(pipeline=[TRANSFORMS.build(dict(type='mmpretrain.PackInputs'))])
    left, right = np.hsplit(draw(dataset, 'mmpretrain'), 2)
    assert left[-50, TILE // 2].tolist() == pytest.approx([0, 0, 255], abs=9)
    assert right[-50, TILE // 2].tolist() == pytest.approx([200] * 3, abs=9)


class Counting(BaseTransform):
    """Keeps what it has seen, as mosaics that cache images do, and draws random numbers."""

    def __init__(self):
        self.seen = []

    def transform(self, results):
        self.seen.append(results['img_path'])
        torch.rand(1), np.random.rand()
        return results


def test_a_run_is_as_before(build, tmp_path):
    dataset, counting = build('mmdet'), Counting()
    dataset.pipeline.transforms.insert(1, counting)
    state, call = get_random_state(), BaseTransform.__call__
    instances = copy.copy(Visualizer._instance_dict)
    draw_sheet(dataset, 'mmdet', tmp_path / 'samples.jpg')
    assert str(get_random_state()) == str(state)
    assert Visualizer._instance_dict == instances
    assert counting.seen == []
    assert BaseTransform.__call__ is call


def test_the_same_sheet_again(build, draw):
    dataset = build('mmdet', *ANNOTATIONS['mmdet'], dict(type='RandomFlip', prob=0.5))
    assert (draw(dataset, 'mmdet') == draw(dataset, 'mmdet')).all()


@pytest.mark.parametrize('host', HOSTS)
def test_without_annotations(build, draw, warnings, host):
    """Images alone, as of a test set whose labels are not published."""
    resize = dict(type='Resize', scale=(64, 32))
    dataset = build(host, resize)
    if host == 'mmpretrain':
        pack = dataset.pipeline.transforms[-1]
        dataset.pipeline.transforms[-1] = lambda results: pack({**results, 'gt_label': []})
    sheet = draw(dataset, host, 1)
    assert sheet[GAP + SIDE // 4, GAP + 20].tolist() == pytest.approx([255, 0, 0], abs=9)
    assert warnings == []


def test_without_objects(build, draw, warnings):
    dataset = build('mmdet', metainfo=dict(classes=('other',)))
    sheet = draw(dataset, 'mmdet')
    assert sheet[GAP + SIDE // 4, GAP + 20].tolist() == pytest.approx([255, 0, 0], abs=9)
    assert warnings == []


@pytest.mark.parametrize('palette', [[], [[1, 2, 3]], 'random', None, ((1, 2, 3),) * 4])
@pytest.mark.parametrize('host', ['mmdet', 'mmseg'])
def test_without_a_palette_that_fits(build, draw, warnings, host, palette):
    dataset = build(host)
    dataset._metainfo = {**dataset.metainfo, 'palette': palette}
    assert draw(dataset, host) is not None
    assert warnings == []


@pytest.mark.parametrize('host', HOSTS)
def test_without_classes(build, draw, warnings, host):
    dataset = build(host)
    dataset._metainfo = {}
    assert draw(dataset, host) is not None
    assert warnings == []


def test_labels_of_no_class_are_left_out(build, draw, warnings):
    """Of mmdet's visualizer, too, which has no such labels."""
    import mmdet.structures
    from mmengine.structures import PixelData

    dataset = build('mmdet')
    labels = torch.zeros(1, 64, 128, dtype=torch.uint8)
    labels[..., 64:], labels[..., 100:] = 2, 133

    class Stuff(torch.utils.data.Dataset):
        metainfo = dataset.metainfo

        def __len__(self):
            return 1

        def __getitem__(self, index):
            sample = mmdet.structures.DetDataSample()
            sample.gt_sem_seg = PixelData(sem_seg=labels)
            return dict(inputs=dataset[0]['inputs'], data_samples=sample)

    tile = draw(Stuff(), 'mmdet')[GAP // 2 :, GAP // 2 :]
    assert abs(tile[SIDE // 2 - 4, 120].astype(int) - [0, 0, 255]).max() > 50
    assert tile[SIDE // 2 - 4, SIDE - 4].tolist() == pytest.approx([0, 0, 255], abs=9)
    assert warnings == []


class Changed(torch.utils.data.Dataset):
    """Gives what a function makes of the samples of another dataset."""

    def __init__(self, dataset, change):
        self.dataset, self.change, self.metainfo = dataset, change, dataset.metainfo

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        return self.change(self.dataset[index], index)


def branches(sample, index):
    return {key: dict(student=value, teacher=value, sup=None) for key, value in sample.items()}


def views(sample, index):
    return {key: [value, value] for key, value in sample.items()}


def views_of_one(sample, index):
    return {**sample, 'inputs': [sample['inputs']] * 2}


def frames(sample, index):
    from mmdet.structures import TrackDataSample

    track = TrackDataSample()
    track.video_data_samples = [sample['data_samples']] * 2
    return dict(inputs=torch.stack([sample['inputs']] * 2), data_samples=track)


@pytest.mark.parametrize(
    ('host', 'change'),
    [
        ('mmdet', branches),  # semi-supervised
        ('mmdet', frames),  # tracking
        ('mmseg', views),  # test-time augmentation
        ('mmpretrain', views_of_one),  # self-supervised
    ],
)
def test_samples_of_several_images(build, draw, warnings, host, change):
    dataset = build(host)
    sheet = draw(Changed(dataset, change), host)
    assert sheet.shape[1] == 4 * TILE  # of 8
    assert warnings == []


def test_of_a_video_one_frame_is_loaded(build, draw, monkeypatch):
    dataset, asked = build('mmdet'), []
    videos = Changed(dataset, lambda sample, index: sample)
    videos.get_len_per_video = lambda index: 10 + index
    monkeypatch.setattr(
        Changed, '__getitem__', lambda self, index: asked.append(index) or dataset[index[0]]
    )
    draw(videos, 'mmdet', 2)
    assert asked == [(0, 5), (3, 6)]


def test_what_cannot_be_drawn_is_a_warning(build, draw, warnings):
    """The image is seen if it is there; the other samples are drawn."""

    def break_some(sample, index):
        if index == 0:
            raise OSError('no such image')
        if index == 1:
            sample['data_samples'].gt_instances.labels += 77
        if index == 2:
            del sample['inputs']
        return sample

    sheet = draw(Changed(build('mmdet'), break_some), 'mmdet')
    assert sheet.shape[1] == 2 * TILE
    (warning,) = warnings
    assert warning.startswith('3 of the samples for ')
    assert warning.endswith('the first error is: OSError: no such image')


def test_nothing_to_draw(build, tmp_path, warnings):
    def fail(sample, index):
        raise ValueError

    path = tmp_path / 'samples.jpg'
    path.write_text('of an earlier run')
    opened = draw_sheet(Changed(build('mmseg'), fail), 'mmseg', path)
    assert len(opened) == 4 and not path.exists()
    assert warnings[0].endswith('the first error is: ValueError: ValueError')


def test_a_dataset_that_cannot_be_copied(build, tmp_path, warnings):
    dataset = build('mmseg')
    dataset.file = (i for i in range(3))
    assert draw_sheet(dataset, 'mmseg', tmp_path / 'samples.jpg') == []
    assert 'cannot pickle' in warnings[0]


def test_a_place_that_cannot_be_written(build, tmp_path):
    with pytest.raises(UserError, match=r'none/samples.jpg cannot be written'):
        draw_sheet(build('mmseg'), 'mmseg', tmp_path / 'none/samples.jpg')
