"""A training whose loss stays NaN ends, and keeps the last good checkpoint."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import HOOKS

from mmvitx.checkpoints import load_file
from mmvitx.engine.hooks import FiniteHook
from mmvitx.errors import UserError

SCHEDULE = """
train_cfg = dict(type='IterBasedTrainLoop', max_iters=12, val_interval=100)
train_dataloader['sampler'] = dict(type='InfiniteSampler', shuffle=True)
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=2, max_keep_ckpts=1), logger=dict(interval=1)
)
optim_wrapper['clip_grad'] = dict(max_norm=1.0)
"""


@HOOKS.register_module(force=True)
class SpoilHook(Hook):
    """Makes weights of the head NaN before an iteration."""

    def __init__(self, at: int):
        self.at = at

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.at:
            runner.model.head.fc.weight.data.fill_(float('nan'))


@pytest.fixture
def train(tool, write_config, tmp_path):
    def train(at, *args):
        extra = f"{SCHEDULE}custom_hooks = [dict(type='SpoilHook', at={at})]"
        config = write_config(tmp_path, 'mmpretrain', extra=extra)
        return tool('train').main([config, '--work-dir', str(tmp_path / 'run'), *args])

    return train


def test_it_ends_with_the_iteration_and_its_images(train, tmp_path):
    with pytest.raises(UserError) as error:
        train(5)
    text = str(error.value)
    assert 'grad_norm and loss not finite for 6 iterations, since iteration 5 (loss nan' in text
    assert text.count('.png') == 2 and '/images/' in text
    assert f'the last checkpoint is {tmp_path}/run/iter_4.pth' in text
    assert '\n' not in text
    weights = load_file(tmp_path / 'run/iter_4.pth')['state_dict']
    assert all(value.isfinite().all() for value in weights.values())
    assert [path.name for path in (tmp_path / 'run').glob('*.pth')] == ['iter_4.pth']


def test_it_can_go_on(train, tmp_path):
    assert train(5, '--no-nan-check').iter == 12
    assert [path.name for path in (tmp_path / 'run').glob('*.pth')] == ['iter_4.pth']


@pytest.mark.parametrize('amp', [False, True])
def test_skipped_steps_of_mixed_precision_do_not_count(amp):
    hub = MessageHub.get_instance(f'finite {amp}')
    wrapper = AmpOptimWrapper if amp else OptimWrapper
    runner = SimpleNamespace(message_hub=hub, optim_wrapper=wrapper.__new__(wrapper), iter=0)
    hook, raised = FiniteHook(), False
    for _ in range(6):
        hub.update_scalar('train/loss', 1.0)
        hub.update_scalar('train/grad_norm', float('inf'))
        try:
            hook.after_train_iter(runner, 0, outputs=dict(loss=1.0))
        except UserError:
            raised = True
    assert raised is not amp


def test_a_few_iterations_do_not_matter():
    hub = MessageHub.get_instance('a few')
    runner = SimpleNamespace(message_hub=hub, optim_wrapper=None, iter=0)
    hook = FiniteHook()
    for loss in 3 * [*5 * [float('nan')], 1.0]:
        hub.update_scalar('train/loss', loss)
        hook.after_train_iter(runner, 0, outputs=dict(loss=loss))


def test_weights_that_are_nan_are_not_evaluated(train, tool, tmp_path):
    train(50)
    checkpoint = load_file(tmp_path / 'run/iter_12.pth')
    checkpoint['state_dict']['head.fc.bias'][0] = float('nan')
    torch.save(checkpoint, tmp_path / 'nan.pth')
    with pytest.raises(UserError, match=r'nan.pth holds NaN in 1 of \d+ tensors .head.fc.bias'):
        tool('test').main([str(tmp_path / 'tiny_mmpretrain.py'), str(tmp_path / 'nan.pth')])
