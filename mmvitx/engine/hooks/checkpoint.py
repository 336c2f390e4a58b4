"""Checkpoints from which a training goes on as if nothing had happened."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process
from mmengine.hooks import CheckpointHook as PlainCheckpointHook
from mmengine.hooks import EarlyStoppingHook, EMAHook
from mmengine.logging import print_log
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from mmvitx.checkpoints.fitting import unwrap
from mmvitx.checkpoints.schemes import PROGRESS
from mmvitx.engine.batches import Batches
from mmvitx.engine.files import unfinished, write_whole_files
from mmvitx.engine.randomness import get_random_state, set_random_state
from mmvitx.registry import HOOKS

STOPPED = 'stopped.pth'  # what a run that was asked to stop writes, between two checkpoints


@HOOKS.register_module()
class CheckpointHook(PlainCheckpointHook):
    """mmengine's hook of the same name and arguments, that loses nothing.

    - A file is complete when it gets its name; then ``last_checkpoint`` names it, and only then
      are old ones removed. So there is a complete checkpoint at every moment, also with
      ``max_keep_ckpts=1``. The best ones and those of an EMA are written the same way.
    - Checkpoints also hold the random states of all processes, the state of early stopping, and
      whether their validation is done: after a validation the checkpoint is written once more. If a
      run is resumed from before a validation, that comes first.
    - A validation leaves the random states as they were, so the training does not depend on it.
    - Weights that are not finite are not saved.

    A run goes on at its place in the data if its loader is :func:`make_resumable`, as
    ``tools/train.py`` has it.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.saved_at = None  # the iterations that the newest regular checkpoint has
        self._resumed = None  # what the checkpoint says that the run goes on from
        self._states = None  # random states of all processes: of a save, or before a validation
        self._validated = False
        self._due = None  # the checkpoint to write once more after a validation

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take what the checkpoint says of the progress, if the run goes on from it."""
        if runner._resume:
            self._resumed = checkpoint.get(PROGRESS, dict(validated=True))

    def before_train(self, runner: Runner) -> None:
        """Go on where the checkpoint was written, if the run is resumed."""
        write_whole_files()
        super().before_train(runner)
        self.file_backend = _RemoveLater(self.file_backend)
        if self._resumed is None:
            return
        self.saved_at, self.last_ckpt = runner.iter, runner._load_from
        if getattr(self, 'best_ckpt_path', None):
            self.best_ckpt_path = self._find_again(self.best_ckpt_path)
        for key, path in getattr(self, 'best_ckpt_path_dict', {}).items():
            self.best_ckpt_path_dict[key] = path and self._find_again(path)
        self._outdate(self._resumed.get('outdated', ()))
        _restore(runner, self._resumed)
        _pass_over(runner.train_loop)
        if not self._resumed['validated'] and _is_validation_due(runner):
            print_log('The validation that was due comes first', logger='current')
            runner.val_loop.run()
        loop = runner.train_loop
        by_epochs = isinstance(loop, EpochBasedTrainLoop)
        done, last = (loop.epoch, loop.max_epochs) if by_epochs else (loop.iter, loop.max_iters)
        if done >= last or loop.stop_training:
            what = 'epochs' if by_epochs else 'iterations'
            print_log(f'The run is finished: its {done} {what} are done', logger='current')

    def before_val(self, runner: Runner) -> None:
        """Put the random states aside."""
        if self._is_training():
            self._states = all_gather_object(get_random_state())

    def after_val(self, runner: Runner) -> None:
        """Take the random states back, and write what the validation has changed."""
        if not self._is_training():
            return
        set_random_state(self._states[get_rank()])
        self._states = None
        if self._due is None and self.saved_at == runner.iter:
            step = runner.epoch if self.by_epoch else runner.iter
            self._due = step, dict(epoch=runner.epoch, iter=runner.iter)
        if self._due is not None:
            due, self._due = self._due, None
            self._validated = True
            self._save_checkpoint_with_step(runner, *due)
            self._validated = False
        self.file_backend.remove_now()

    def save_stopped(self, runner: Runner, iterations: int) -> None:
        """Save where a run stops between two checkpoints.

        Args:
            runner: The runner, behind an iteration of the training or of a validation.
            iterations: How many iterations of training are done.
        """
        if self._states is not None:  # a validation has the weights of an EMA
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):
                    hook.after_val_epoch(runner)
        if self.saved_at != iterations and _is_finite(runner):
            self._write(runner, STOPPED, dict(epoch=runner.epoch, iter=iterations))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add to a checkpoint what mmengine leaves out."""
        if self._states is None:
            return  # saved by somebody else
        checkpoint[PROGRESS] = dict(
            validated=self._validated,
            random_states=self._states,
            settings=describe_settings(runner.cfg),
            early_stopping=[
                (hook.wait_count, float(hook.best_score)) for hook in _early_stopping(runner)
            ],
            stop_training=bool(getattr(runner.train_loop, 'stop_training', False)),
            # still there if the run is killed before it removes them
            outdated=[Path(path).name for path in self.file_backend.outdated],
            # of iterations that the optimizer has not stepped for yet
            gradients={
                name: parameter.grad.cpu()
                for name, parameter in unwrap(runner.model).named_parameters()
                if parameter.grad is not None
            },
        )

    def _save_checkpoint_with_step(self, runner, step, meta):
        if self._states is not None:  # in a validation, whose other hooks have not seen the metrics
            self._due = step, meta
            return
        if not _is_finite(runner):
            text = (
                f'not saved: after {meta["iter"]} iterations there are weights that are not finite'
            )
            print_log(text, logger='current', level=logging.WARNING)
            return
        outdated = [STOPPED]
        if self.max_keep_ckpts > 0:
            kept = [*(old for old in self.keep_ckpt_ids if old != step), step]
            self.keep_ckpt_ids = kept[-self.max_keep_ckpts :]
            runner.message_hub.update_info('keep_ckpt_ids', self.keep_ckpt_ids)
            outdated += map(self.filename_tmpl.format, kept[: -self.max_keep_ckpts])
        self._outdate(outdated)
        self._write(runner, self.filename_tmpl.format(step), meta)
        self.saved_at = meta['iter']
        if is_main_process():
            self.file_backend.remove_now()

    def _outdate(self, names):
        """Have checkpoints removed when the next one is written."""
        for path in map(self._path, names):
            if is_main_process() and self.file_backend.isfile(path):
                self.file_backend.remove(path)

    def _save_best_checkpoint(self, runner, metrics):
        super()._save_best_checkpoint(runner, metrics)
        # the new one may have the name of the old one: an iteration-based run is always in epoch 0
        best = getattr(self, 'best_ckpt_path_dict', {}).values()
        self.file_backend.keep({getattr(self, 'best_ckpt_path', None), *best})

    def _write(self, runner, name, meta):
        """Write a checkpoint, and let ``last_checkpoint`` name it."""
        path = self._path(name)
        runner.message_hub.update_info('last_ckpt', path)
        states = self._states
        self._states = states or all_gather_object(get_random_state())
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        self._states = states
        self.last_ckpt = path  # no sooner: if the disk is full, the one before is the last
        if is_main_process():
            with unfinished(Path(runner.work_dir, 'last_checkpoint'), sync=True) as note:
                note.write_text(path)

    def _path(self, name):
        return self.file_backend.join_path(self.out_dir, name)

    def _find_again(self, path):
        """Find a file of a work dir that was moved."""
        moved = self._path(Path(path).name)
        return moved if self.file_backend.isfile(moved) else path

    def _is_training(self):
        return isinstance(getattr(self, 'file_backend', None), _RemoveLater)


class _RemoveLater:
    """A file backend that removes files when it is told that what replaces them is there."""

    def __init__(self, backend: Any):
        self.backend, self.outdated = backend, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        if path not in self.outdated:
            self.outdated.append(path)

    def keep(self, paths: Collection[str | None]) -> None:
        self.outdated = [path for path in self.outdated if path not in paths]

    def remove_now(self) -> None:
        for path in self.outdated:
            self.backend.remove(path)
        self.outdated = []


class _PassedOver:
    """Batches of an iteration-based loop, without those that it is about to pass over."""

    def __init__(self, batches: Iterator, number: int):
        self.batches, self.number = batches, number

    def __next__(self) -> Any:
        if not self.number:
            return next(self.batches)
        self.number -= 1
        return None


def _pass_over(loop: BaseLoop) -> None:
    """Let mmengine's loops go on at the place in the data at which the batches begin."""
    batches = loop.dataloader.batch_sampler
    if not isinstance(batches, Batches):
        return
    epoch, start = batches.beginning
    if isinstance(loop, IterBasedTrainLoop):
        loop.dataloader_iterator._epoch = epoch
        loop.dataloader_iterator = _PassedOver(loop.dataloader_iterator, loop.iter)
    elif start:
        run_iter = loop.run_iter

        def run_later_iter(idx, data_batch):
            run_iter(idx + start * (loop.epoch == epoch), data_batch)

        loop.run_iter = run_later_iter


def _restore(runner: Runner, progress: dict) -> None:
    states = progress.get('random_states', ())
    if len(states) == get_world_size():
        set_random_state(states[get_rank()])
    elif states:
        print_log(
            f'the checkpoint is of {len(states)} processes, not {get_world_size()}: the run goes '
            'on with other random numbers and another order of the data',
            logger='current',
            level=logging.WARNING,
        )
    for hook, state in zip(_early_stopping(runner), progress.get('early_stopping', ())):
        hook.wait_count, hook.best_score = state
    runner.train_loop.stop_training = progress.get('stop_training', False)
    gradients = progress.get('gradients', {})
    for name, parameter in unwrap(runner.model).named_parameters():
        if name in gradients:
            parameter.grad = gradients[name].to(parameter.device)


def _is_validation_due(runner: Runner) -> bool:
    """Whether an undisturbed run would validate before its next iteration."""
    loop = runner.train_loop
    if runner.val_loop is None or not isinstance(loop, (EpochBasedTrainLoop, IterBasedTrainLoop)):
        return False
    loop._decide_current_val_interval()
    done, last = loop.iter, loop.max_iters
    if isinstance(loop, EpochBasedTrainLoop):
        if loop.iter != loop.epoch * len(loop.dataloader):
            return False
        done, last = loop.epoch, loop.max_epochs
    return 0 < done >= loop.val_begin and (done % loop.val_interval == 0 or done == last)


def _is_finite(runner: Runner) -> bool:
    return all(bool(parameter.isfinite().all()) for parameter in runner.model.parameters())


def _early_stopping(runner: Runner) -> list[EarlyStoppingHook]:
    return [hook for hook in runner.hooks if isinstance(hook, EarlyStoppingHook)]


def describe_settings(cfg: Config) -> dict[str, Any]:
    """Give the settings by which a run is known, as plain data."""
    return {name: _plain(cfg.get(name)) for name in ('model', 'optim_wrapper', 'param_scheduler')}


def _plain(value):
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)
