"""Stopping a training when a signal asks for it, with nothing lost."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import all_reduce, barrier
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmvitx.engine.batches import guard_workers
from mmvitx.engine.hooks.checkpoint import CheckpointHook
from mmvitx.engine.signals import asked_to_stop, status
from mmvitx.registry import HOOKS


class Stopped(SystemExit):
    """A training ends because a signal asked for it.

    Args:
        code: The exit status.
        iterations: How many are done, and saved.
    """

    def __init__(self, code: int, iterations: int):
        super().__init__(code)
        self.iterations = iterations


@HOOKS.register_module()
class StopHook(Hook):
    """Ends a training after the iteration in which a signal asked for it, and saves it.

    All processes end after the same iteration of the training, whichever of them got the signal. A
    validation, in which they may have different numbers of iterations, ends for each of them by
    itself; it is run again when the training is resumed.

    Raises:
        Stopped: With 128 and the signal's number as the exit status.
    """

    priority = 'LOWEST'  # behind the regular checkpoint

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Look for a signal."""
        number = torch.tensor(asked_to_stop())
        all_reduce(number, op='max')
        if number:
            _save(runner, runner.iter + 1)
            barrier()  # when one process has ended, a launcher soon kills the one that still saves
            raise Stopped(status(int(number)), runner.iter + 1)

    def before_val(self, runner: Runner) -> None:
        """Let the processes that load data end with this one."""
        guard_workers(runner.val_dataloader)

    def before_test(self, runner: Runner) -> None:
        """Let the processes that load data end with this one."""
        guard_workers(runner.test_dataloader)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Look for a signal to this process."""
        if asked_to_stop():
            _save(runner, runner.iter)
            raise Stopped(status(asked_to_stop()), runner.iter)


def _save(runner, iterations):
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook):
            hook.save_stopped(runner, iterations)
