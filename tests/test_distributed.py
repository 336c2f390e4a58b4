"""Two processes on the CPU: training by tools/train.py, and the arithmetic of the bare backbone."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from conftest import load_tool
from torch import nn

from mmvitx.datasets import make_digits
from mmvitx.engine import signals
from mmvitx.engine.hooks.checkpoint import CheckpointHook
from mmvitx.engine.hooks.stop import StopHook, Stopped
from mmvitx.registry import MODELS

ROOT = Path(__file__).parents[1]
DEMOS = ('mask_rcnn_coat_lite_tiny_digits', 'semantic_fpn_coat_lite_tiny_digits')


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def spawn(function, *args) -> None:
    """Run a function in two processes, with the variables that torchrun sets."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_enter, (port, function, args), nprocs=2)


def _enter(rank: int, port: int, function, args) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2')
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    torch.set_num_threads(1)
    function(rank, *args)


def train_demo(rank: int, folder: Path, demo: str) -> None:
    options = [
        f'train_dataloader.dataset.data_root={folder}/digits',
        'train_dataloader.batch_size=2',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        'train_cfg.max_iters=3',
        *(f'{key}=None' for key in ('val_cfg', 'val_dataloader', 'val_evaluator')),
        'default_hooks.logger.interval=1',
    ]
    runner = load_tool('train').main(
        [str(ROOT / f'configs/demo/{demo}.py'), '--work-dir', str(folder / 'work')]
        + ['--launcher', 'pytorch', '--cfg-options', *options]
    )
    assert isinstance(runner.model, nn.parallel.DistributedDataParallel)
    assert not runner.model.find_unused_parameters
    losses, _ = runner.message_hub.get_scalar('train/loss').data
    result = dict(weights=runner.model.module.state_dict(), losses=losses.tolist())
    torch.save(result, folder / f'rank{rank}.pth')
    dist.destroy_process_group()


@pytest.mark.parametrize('demo', DEMOS)
def test_both_processes_end_with_the_same_weights(tmp_path, demo):
    make_digits(tmp_path / 'digits', train=12, val=1)
    spawn(train_demo, tmp_path, demo)
    first, second = (torch.load(tmp_path / f'rank{rank}.pth', weights_only=True) for rank in (0, 1))
    assert len(first['losses']) == 3
    assert first['losses'] != second['losses']  # each saw images of its own
    assert first['weights'].keys() == second['weights'].keys()
    for name, value in first['weights'].items():
        assert torch.equal(value, second['weights'][name]), name


class SlowCheckpointHook(CheckpointHook):
    def save_stopped(self, runner, iterations):
        if dist.get_rank() == 0:
            time.sleep(1)
            runner.target.touch()


def stop(rank: int, folder: Path) -> None:
    dist.init_process_group('gloo')
    runner = SimpleNamespace(iter=0, hooks=[SlowCheckpointHook()], target=folder / 'saved')
    with signals.listening(), pytest.raises(Stopped):
        os.kill(os.getpid(), signal.SIGTERM)
        StopHook().after_train_iter(runner, 0)
    assert runner.target.exists()
    dist.destroy_process_group()


def test_no_process_ends_before_the_checkpoint_is_written(tmp_path):
    spawn(stop, tmp_path)


BACKBONES = dict(
    coat=dict(type='mmvitx.CoaT', arch='lite_tiny'),
    cait=dict(type='mmvitx.CaiT', arch=dict(embed_dim=48, depth=4, num_heads=4)),
    crossvit=dict(type='mmvitx.CrossViT', arch='tiny'),
)


def backbone(family: str) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(BACKBONES[family])
    model.init_weights()
    return model


def step_backbone(rank: int, folder: Path, family: str) -> None:
    dist.init_process_group('gloo')
    model = nn.parallel.DistributedDataParallel(backbone(family))
    steps(model, torch.load(folder / 'images.pth', weights_only=True)[:, 2 * rank : 2 * rank + 2])
    torch.save(model.module.state_dict(), folder / f'rank{rank}.pth')
    dist.destroy_process_group()


def steps(model: nn.Module, batches: torch.Tensor) -> None:
    """A step of SGD a batch; the loss is a mean over the samples."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for images in batches:
        loss = sum(level.square().mean((1, 2, 3)) for level in model(images)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize('family', BACKBONES)
def test_two_processes_equal_one_on_the_joint_batch(tmp_path, family):
    images = torch.randn(3, 4, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    torch.save(images, tmp_path / 'images.pth')
    spawn(step_backbone, tmp_path, family)
    model = backbone(family)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    steps(model, images)
    moved = 0.0
    for rank in (0, 1):
        weights = torch.load(tmp_path / f'rank{rank}.pth', weights_only=True)
        for name, value in model.state_dict().items():
            torch.testing.assert_close(weights[name], value, atol=1e-6, rtol=0, msg=name)
            moved = max(moved, float((value - before[name]).abs().max()))
    assert moved > 1e-2  # so that 1e-6 says something
