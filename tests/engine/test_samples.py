"""What a loader's samples are checked for, in whichever process that loads them."""

from __future__ import annotations

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample
from torch.utils.data import DataLoader, Dataset

from mmvitx.engine.samples import Samples, find_limit, guard_samples
from mmvitx.errors import UserError


class Given(Dataset):
    """Gives one sample."""

    def __init__(self, sample):
        self.sample = sample

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return dict(inputs=torch.zeros(3, 1, 2), data_samples=self.sample)


def detection(*labels):
    sample = DetDataSample(metainfo=dict(img_path='a.jpg'))
    sample.gt_instances = InstanceData(labels=torch.tensor(labels, dtype=torch.long))
    return sample


def segmentation(*labels, shape=(1, 1, -1)):
    sample = SegDataSample(metainfo=dict(img_path='a.jpg', seg_map_path='a.png', ori_shape=(1, 4)))
    sample.gt_sem_seg = PixelData(data=torch.tensor(labels).view(shape))
    return sample


def classification(*labels):
    return DataSample(metainfo=dict(img_path='a.jpg')).set_gt_label(list(labels))


CASCADE = dict(
    backbone=dict(num_classes=1000),
    rpn_head=dict(num_classes=1),
    roi_head=dict(bbox_head=[dict(num_classes=4), dict(num_classes=3)]),
    teacher=dict(bbox_head=dict(num_classes=2)),
)
SEGMENTOR = dict(
    decode_head=dict(num_classes=3, ignore_index=7), auxiliary_head=[dict(num_classes=2)]
)
CLASSIFIER = dict(head=dict(num_classes=3))


@pytest.mark.parametrize(
    'host, model, make, right, wrong, message',
    [
        (
            'mmdet',
            CASCADE,
            detection,
            [(), (0, 2)],
            (0, 3),
            'a.jpg has the label 3, but model.roi_head.bbox_head.1.num_classes is 3',
        ),
        (
            'mmseg',
            SEGMENTOR,
            segmentation,
            [(0, 2), (255, 2), (7, 255)],
            (0, 11),
            'label map a.png holds the label 11, but model.decode_head.num_classes is 3 .*'
            'model.decode_head.ignore_index=11 and val_evaluator.ignore_index=11',
        ),
        (
            'mmpretrain',
            CLASSIFIER,
            classification,
            [(2,), (0, 1)],
            (5,),
            'a.jpg has the label 5, but model.head.num_classes is 3',
        ),
    ],
)
def test_labels_that_a_model_has_no_output_for(host, model, make, right, wrong, message):
    cfg = Config(dict(default_scope=host, model=model))
    for labels in right:
        assert len(Samples(Given(make(*labels)), cfg, 'train_dataloader')([0])) == 1
    with pytest.raises(UserError, match=message):
        Samples(Given(make(*wrong)), cfg, 'train_dataloader')([0])
    assert Samples(Given(make(*wrong)), cfg, 'train_dataloader', check=False)([0])


def test_a_label_map_that_does_not_fit():
    cfg = Config(dict(default_scope='mmseg', model=SEGMENTOR))
    for labels, shape, message in (
        ((0, 1, 2), (1, 1, 3), 'a.png has 3 x 1 pixels, but its image a.jpg has 2 x 1'),
        ((0, 1, 2, 0, 0, 0), (3, 1, 2), r'a.png is a picture of shape \(3, 1, 2\)'),
    ):
        with pytest.raises(UserError, match=message):
            Samples(Given(segmentation(*labels, shape=shape)), cfg, 'train_dataloader')([0])
    # as it was loaded, beside an image that was resized
    assert Samples(Given(segmentation(0, 1, 2, 0)), cfg, 'val_dataloader')([0])


@pytest.mark.parametrize(
    'model', [{}, dict(rpn_head=dict(num_classes=1)), dict(language_model={}, **CASCADE)]
)
def test_models_without_a_limit(model):
    assert find_limit(Config(dict(default_scope='mmdet', model=model))) is None


def test_an_error_in_a_worker_names_the_setting():
    class Failing(Given):
        def __getitem__(self, index):
            from mmengine.dataset import Compose

            return Compose([dict(type='mmcv.Resize', scale=(0, 0))])(dict(img=torch.zeros(2, 2)))

    step = dict(type='mmcv.Resize', scale=(0, 0))
    cfg = Config(
        dict(default_scope='mmdet', model={}, train_dataloader=dict(dataset=dict(pipeline=[step])))
    )
    loader = DataLoader(Failing(None), num_workers=1)
    guard_samples(loader, cfg, 'train_dataloader', True)
    with pytest.raises(UserError, match=r'train_dataloader.dataset.pipeline.0 \(type='):
        next(iter(loader))
