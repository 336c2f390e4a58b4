"""Datasets and models so small that a tool runs on them in seconds, one of each host."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
from functools import partial
from pathlib import Path
from types import ModuleType
from unittest import mock

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer
from torch import Tensor

from mmvitx.checkpoints.official import convert_official
from mmvitx.engine import launch

# no conftest.py beside the tests that use it: tests import this one by its name
pytest_plugins = ['campaign_plugin']

ROOT = Path(__file__).parents[1]
CLASSES = ('square', 'bar', 'plate')

LOOPS = """
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-3))
param_scheduler = [dict(type='MultiStepLR', milestones=[8], by_epoch=True)]
auto_scale_lr = dict(enable=False, base_batch_size=16)
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(pipeline=train_pipeline, **dataset),
)
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(pipeline=test_pipeline, test_mode=True, **dataset),
)
test_dataloader = val_dataloader
test_evaluator = val_evaluator
"""

MMDET = """
_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py', 'mmdet::_base_/default_runtime.py']
custom_imports = dict(imports=['mmvitx'])
model = dict(
    backbone=dict(depth=18, base_channels=8, init_cfg=None, frozen_stages=-1, norm_eval=False),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=32, num_classes=3),
        mask_roi_extractor=dict(out_channels=16),
        mask_head=dict(num_convs=1, in_channels=16, conv_out_channels=16, num_classes=3),
    ),
    train_cfg=dict(rpn_proposal=dict(nms_pre=50, max_per_img=20)),
    test_cfg=dict(rpn=dict(nms_pre=50, max_per_img=20), rcnn=dict(score_thr=0.0, max_per_img=10)),
)
train_pipeline = test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='PackDetInputs'),
]
dataset = dict(
    type='CocoDataset', data_root='{root}', ann_file='coco.json', data_prefix=dict(img='images'),
    metainfo=dict(classes={classes}),
)
val_evaluator = dict(type='CocoMetric', ann_file='{root}/coco.json', metric=['bbox', 'segm'])
"""

MMSEG = """
_base_ = ['mmseg::_base_/default_runtime.py']
custom_imports = dict(imports=['mmvitx'])
norm_cfg = dict(type='BN')
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', size=(64, 64), seg_pad_val=255),
    backbone=dict(type='ResNet', depth=18, base_channels=8, norm_cfg=norm_cfg),
    decode_head=dict(
        type='FCNHead', in_channels=64, channels=8, num_convs=1, num_classes=4, norm_cfg=norm_cfg,
    ),
    test_cfg=dict(mode='whole'),
)
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs'),
]
dataset = dict(
    type='BaseSegDataset', data_root='{root}', img_suffix='.png',
    data_prefix=dict(img_path='images', seg_map_path='masks'),
    metainfo=dict(classes=('ground', *{classes}), palette=[[i * 60] * 3 for i in range(4)]),
)
val_evaluator = dict(type='IoUMetric')
"""

MMPRETRAIN = """
_base_ = ['mmpretrain::_base_/default_runtime.py']
custom_imports = dict(imports=['mmvitx'])
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(num_classes=3),
    backbone=dict(type='ResNet', depth=18, stem_channels=8, base_channels=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=64, topk=(1,)),
)
train_pipeline = test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
dataset = dict(
    type='CustomDataset', data_root='{root}', ann_file='classes.txt', data_prefix='images',
    metainfo=dict(classes={classes}),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
"""

CONFIGS = dict(mmdet=MMDET, mmseg=MMSEG, mmpretrain=MMPRETRAIN)


def load_tool(name: str, folder: str = 'tools') -> ModuleType:
    """Import a tool, which is a script and not in the package."""
    spec = importlib.util.spec_from_file_location(f'tool_{name}', ROOT / f'{folder}/{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_data(root: Path, images: int = 4) -> None:
    """Write images of 64 px with three rectangles, labelled as each host wants it."""
    rng = np.random.default_rng(0)
    for folder in ('images', 'masks'):
        (root / folder).mkdir(parents=True)
    coco = dict(images=[], annotations=[])
    coco['categories'] = [dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)]
    for i in range(images):
        image = rng.integers(0, 60, (64, 64, 3), dtype=np.uint8)
        mask = np.zeros((64, 64), dtype=np.uint8)
        coco['images'].append(dict(id=i, file_name=f'{i}.png', height=64, width=64))
        for category, (w, h) in enumerate([(20, 20), (8, 30), (30, 12)], start=1):
            x, y = (int(v) for v in rng.integers(0, 30, 2))
            image[y : y + h, x : x + w] = 80 * category
            mask[y : y + h, x : x + w] = category
            coco['annotations'].append(
                dict(
                    id=len(coco['annotations']) + 1,
                    image_id=i,
                    category_id=category,
                    bbox=[x, y, w, h],
                    area=w * h,
                    iscrowd=0,
                    segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
                )
            )
        cv2.imwrite(str(root / 'images' / f'{i}.png'), image)
        cv2.imwrite(str(root / 'masks' / f'{i}.png'), mask)
    (root / 'coco.json').write_text(json.dumps(coco))
    (root / 'classes.txt').write_text(''.join(f'{i}.png {i % 3}\n' for i in range(images)))


def official_keys(model: str) -> dict[str, list[int]]:
    """Give the names in an authors' ImageNet checkpoint, with their shapes."""
    return json.loads((ROOT / f'tests/data/parity/{model}.json').read_text())['keys']


def official_weights(model: str) -> dict[str, Tensor]:
    """Make the tensors of an authors' ImageNet checkpoint: shared parameters under each name."""
    keys = official_keys(model)
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(shape, generator=generator) for name, shape in keys.items()}
    converted = convert_official(weights)
    for name, ours in converted.copies.items():
        weights[name] = converted.state_dict[ours]
    return weights


def official_detector(model, backbone_keys) -> dict:
    """Make an authors' detector of MMDetection 2.x from the names and shapes of ours.

    Its other parts have had the same names since; the backbone has their names, in which shared
    parameters appear under each block that uses them.
    """
    rest = {n: v.clone() for n, v in model.state_dict().items() if not n.startswith('backbone.')}
    own = model.state_dict()
    renamed = convert_official({n: torch.empty(s) for n, s in backbone_keys.items()})
    theirs = {
        f'backbone.{name}': own[ours].clone()
        for name, ours in {**renamed.renamed, **renamed.copies}.items()
        if ours in own  # a detector has no classifier
    }
    meta = dict(mmdet_version='2.11.0', CLASSES=('person', 'bicycle'), epoch=12, iter=87960)
    return dict(meta=meta, state_dict={**theirs, **rest}, optimizer=dict(state={}))


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Take the network away, and all cached weights; returns the folder for published files."""
    import huggingface_hub.constants as constants

    def resolve(host, *args, **kwargs):
        raise socket.gaierror(f'{host} is not known')

    monkeypatch.setattr(socket, 'getaddrinfo', resolve)
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)  # else it tries again for 20 s
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'hub'))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    return tmp_path / 'torch/hub/checkpoints'


@pytest.fixture(scope='session')
def tiny_data(tmp_path_factory) -> Path:
    """The folder of a tiny dataset, for all hosts and all tests: copy it to change it."""
    root = tmp_path_factory.mktemp('tiny') / 'data'
    write_data(root)
    return root


@pytest.fixture
def data(tiny_data, tmp_path) -> Path:
    """A copy of the tiny dataset that a test may spoil."""
    return Path(shutil.copytree(tiny_data, tmp_path / 'data'))


@pytest.fixture(scope='session')
def write_config(tiny_data):
    """Write the tiny config of a host into a folder."""

    def write(folder: Path, host: str = 'mmdet', root: Path = tiny_data, extra: str = '') -> str:
        text = CONFIGS[host].replace('{root}', str(root)).replace('{classes}', repr(CLASSES))
        path = folder / f'tiny_{host}.py'
        path.write_text(text + LOOPS + extra)
        return str(path)

    return write


@pytest.fixture
def read_config(data, tmp_path, write_config):
    """Read the tiny config of a host, for the data that a test may spoil."""

    def read(host: str = 'mmdet', extra: str = '') -> Config:
        cfg = Config.fromfile(write_config(tmp_path, host, data, extra))
        cfg.work_dir = str(tmp_path / 'run')
        return cfg

    return read


@pytest.fixture(scope='session')
def tool():
    """Load a tool by name, to run it in this process."""

    def load(*name: str) -> ModuleType:
        # named by the second: two quick runs would share one
        for named in MessageHub, MMLogger, *Visualizer.__subclasses__():
            named._instance_dict.clear()
        torch.set_num_threads(1)  # on this little work threads wait for each other
        return load_tool(*name)

    threads = torch.get_num_threads()
    with mock.patch.object(launch, 'draw_sheet', partial(launch.draw_sheet, count=1)):
        yield load
    torch.set_num_threads(threads)
