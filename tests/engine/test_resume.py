"""A training that is stopped and resumed ends with exactly the weights of one that is not."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mmvitx.checkpoints import load_file

RANDOM = dict(
    mmdet="train_pipeline.insert(3, dict(type='RandomFlip', prob=0.5))",
    mmseg="train_pipeline.insert(2, dict(type='RandomFlip', prob=0.5))\n"
    "train_pipeline.insert(3, dict(type='PhotoMetricDistortion'))",
    mmpretrain="train_pipeline.insert(1, dict(type='RandomFlip', prob=0.5))\n"
    "train_pipeline.insert(2, dict(type='ColorJitter', brightness=0.5))",
)
BY_ITERATIONS = """
train_cfg = dict(type='IterBasedTrainLoop', max_iters=7, val_interval=3)
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=False, end=7)]
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=3, max_keep_ckpts=1))
"""
BY_EPOCHS = """
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=4, val_interval=2)
param_scheduler = [dict(type='MultiStepLR', milestones=[2], by_epoch=True)]
default_hooks = dict(checkpoint=dict(by_epoch=True, interval=1, max_keep_ckpts=1))
"""
INFINITE = "train_dataloader['sampler'] = dict(type='InfiniteSampler', shuffle=True)\n"


@HOOKS.register_module(force=True)
class SignalHook(Hook):
    """Sends a signal in the middle of an iteration of the training, or of a validation."""

    def __init__(self, at: int, of: str = 'train', number: int = signal.SIGTERM):
        self.at, self.of, self.number = at, of, number

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if self.of == 'train' and runner.iter + 1 == self.at:
            os.kill(os.getpid(), self.number)

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if self.of == 'val' and runner.iter == self.at:
            os.kill(os.getpid(), self.number)


@pytest.fixture
def train(tool, write_config, tmp_path):
    """Train the tiny model of a host in a folder by the tool; returns the runner."""

    def train(folder, host, extra, *args, stop_at=None, of='train'):
        hooks = [dict(type='SignalHook', at=stop_at, of=of)] * (stop_at is not None)
        extra = f"{extra}\ncustom_hooks = (globals().get('custom_hooks') or []) + {hooks}\n"
        (tmp_path / 'config').mkdir(exist_ok=True)
        config = write_config(tmp_path / 'config', host, extra=extra)
        return tool('train').main([config, '--work-dir', str(tmp_path / folder), *args])

    return train


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file((folder / 'last_checkpoint').read_text())['state_dict']


def assert_equal(first: Path, second: Path) -> None:
    first, second = weights_of(first), weights_of(second)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize(
    'host, schedule, stop_at, of',
    [
        ('mmdet', BY_ITERATIONS + INFINITE, 5, 'train'),
        ('mmdet', BY_EPOCHS, 3, 'train'),
        ('mmseg', BY_ITERATIONS + INFINITE, 3, 'val'),
        ('mmseg', BY_ITERATIONS, 5, 'train'),
        ('mmpretrain', BY_EPOCHS, 4, 'train'),
        ('mmpretrain', BY_EPOCHS, 4, 'val'),
        ('mmpretrain', BY_ITERATIONS, 6, 'val'),
    ],
)
def test_a_resumed_run_ends_with_the_same_weights(
    train, tmp_path, host, schedule, stop_at, of, workers
):
    extra = f"{RANDOM[host]}\n{schedule}\ntrain_dataloader['num_workers'] = {workers}\n"
    train('whole', host, extra, '--seed', '3')
    with pytest.raises(SystemExit) as stopped:
        train('parts', host, extra, '--seed', '3', stop_at=stop_at, of=of)
    assert stopped.value.code == 143
    assert stopped.value.iterations == stop_at
    runner = train('parts', host, extra, '--resume')
    assert runner.iter == runner.max_iters
    assert_equal(tmp_path / 'whole', tmp_path / 'parts')
    assert not list((tmp_path / 'parts').glob('stopped.pth'))
    assert len(list((tmp_path / 'parts').glob('*.pth'))) == 1
    whole = train('whole', host, extra, '--resume').message_hub.log_scalars
    for name in ('coco/bbox_mAP', 'mIoU', 'accuracy/top1'):  # no validation is left out
        if f'val/{name}' in whole:
            assert len(runner.message_hub.log_scalars[f'val/{name}'].data[0]) == len(
                whole[f'val/{name}'].data[0]
            )
