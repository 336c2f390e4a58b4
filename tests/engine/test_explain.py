"""Errors of the hosts become a sentence with the path of the setting that they come from."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import BaseModel
from mmengine.registry import MODELS, OPTIMIZERS, TRANSFORMS, DefaultScope
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from mmvitx.engine.explain import explain
from mmvitx.engine.locations import SETTINGS
from mmvitx.errors import UserError


def explanation(cfg: dict, run, where: str = '') -> str | None:
    with DefaultScope.overwrite_default_scope('mmdet'):
        try:
            run()
        except Exception as e:
            sentence = explain(e, Config(dict(default_scope='mmdet', **cfg)), where)
            assert sentence is None or isinstance(sentence, UserError)
            assert '\n' not in str(sentence)
            return sentence and str(sentence)
    raise AssertionError('nothing was raised')


def test_what_is_built_in_what_is_built():
    """Equal settings in several places: the outer ones tell which of them it is."""
    wrong = dict(type='FPN', in_channels=8, out_channels=4, num_outs=1)
    cfg = dict(
        teacher=dict(type='Sequential', modules=[wrong]),
        model=dict(type='RetinaNet', backbone=dict(type='ResNet', depth=18), neck=wrong),
    )
    found = explanation(cfg, lambda: MODELS.build({**cfg['model'], 'bbox_head': None}))
    message = 'the check `assert isinstance(in_channels, list)` fails'
    assert found == f'model.neck.in_channels is 8: {message}'


@pytest.mark.parametrize(
    'name, meant',
    [
        ('CoaT', ': did you mean mmvitx.CoaT?'),
        ('mmvitx.Coat', ': did you mean mmvitx.CoaT?'),
        ('ResNext', ': did you mean ResNeXt?'),
        ('Quux', ''),
    ],
)
def test_the_name_of_a_type(name, meant):
    cfg = dict(model=dict(backbone=dict(type=name)))
    found = explanation(cfg, lambda: MODELS.build(cfg['model']['backbone']))
    assert found == f'model.backbone.type is {name!r}, no type that mmdet has{meant}'


def test_the_name_of_a_setting():
    optimizer = dict(type='SGD', lr=1, momentun=0.9)
    cfg = dict(optim_wrapper=dict(optimizer=optimizer))
    build = dict(optimizer, params=nn.Linear(1, 1).parameters())  # as mmengine adds them
    found = explanation(cfg, lambda: OPTIMIZERS.build(build))
    assert found == (
        'optim_wrapper.optimizer.momentun: SGD has no such setting: did you mean momentum?'
    )
    del build['momentun']
    cfg['optim_wrapper']['optimizer'] = dict(type='SGD', lr='fast')
    found = explanation(cfg, lambda: OPTIMIZERS.build({**build, 'lr': 'fast'}))
    assert found.startswith("optim_wrapper.optimizer.lr is 'fast': TypeError: ")


def test_a_part_of_a_model():
    class Model(BaseModel):
        def __init__(self):
            super().__init__()
            self.neck = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(5, 4, 1))

        def forward(self, inputs):
            return self.neck(inputs)

    cfg = dict(model=dict(type='Mine', neck=dict(type='Mine', channels=5)))
    found = explanation(cfg, lambda: Model()(torch.zeros(1, 3, 8, 8)))
    assert found.startswith("model.neck (type='Mine', channels=5): RuntimeError: Given groups=1")


def test_a_transform_and_its_image():
    steps = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(0, 0))]
    cfg = {
        f'{split}_dataloader': dict(dataset=dict(type='Any', pipeline=steps))
        for split in ('train', 'val')
    }
    pipeline = Compose(steps)
    pipeline.transforms[0] = lambda results: dict(results, img=torch.zeros(4, 4, 3).numpy())
    found = explanation(cfg, lambda: pipeline(dict(img_path='a.jpg')), 'val_dataloader')
    assert found.startswith('val_dataloader.dataset.pipeline.1 (type=')
    assert found.endswith('(for a.jpg)')


def test_code_of_the_users_own_keeps_its_traceback(monkeypatch):
    class Mine(BaseTransform):
        def transform(self, results):
            raise ValueError('a bug')

    TRANSFORMS.register_module(module=Mine, force=True)
    cfg = dict(train_dataloader=dict(dataset=dict(pipeline=[dict(type='Mine')])))
    steps = cfg['train_dataloader']['dataset']['pipeline']
    assert explanation(cfg, lambda: Compose(steps)({}), 'train_dataloader') is None
    monkeypatch.setattr(Mine, 'transform', lambda self, results: np.reshape([1, 2], 3))
    assert explanation(cfg, lambda: Compose(steps)({}), 'train_dataloader') is None


def test_what_has_no_place_keeps_its_traceback():
    assert explanation({}, lambda: torch.zeros(2).view(3)) is None
    assert explanation({}, lambda: torch.nn.functional.linear(None, None)) is None


def _fail(samples):
    raise ValueError('a bug')


def test_what_a_loader_process_left_unexplained_keeps_its_traceback():
    loader = DataLoader([0], num_workers=1, collate_fn=_fail)
    assert explanation({}, lambda: next(iter(loader)), 'train_dataloader') is None


def test_too_little_memory():
    def run():
        raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB')

    found = explanation({}, run)
    assert 'Tried to allocate 2 GiB' in found and 'train_dataloader.batch_size' in found


def test_errors_that_are_sentences_already_stay():
    def run():
        raise UserError('one sentence')

    assert explanation({}, run) == 'one sentence'


def test_the_runner_has_the_methods_that_stand_for_settings():
    """Else a sentence would lose its setting without notice."""
    parameters = inspect.signature(Runner.__init__).parameters
    for method, setting in SETTINGS.items():
        assert hasattr(Runner, method) and setting in parameters
