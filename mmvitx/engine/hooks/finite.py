"""End a training whose loss is NaN or infinite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner

from mmvitx.errors import UserError
from mmvitx.registry import HOOKS


@HOOKS.register_module()
class FiniteHook(Hook):
    """Ends a training whose loss or gradient norm stays NaN or infinite.

    In mixed precision gradients that are not finite do not count: the loss scaler leaves such a
    step out and lowers its scale.

    Args:
        patience: Iterations in a row that may have such numbers.

    Raises:
        UserError: It stays so; the message has the first of the iterations, its losses and images.
    """

    priority = 'LOW'  # before checkpoints are written

    def __init__(self, patience: int = 5):
        self.patience = patience
        self._count = 0
        self._first = self._wrong = ''

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Mapping | None = None,
    ) -> None:
        """Look at the iteration's numbers, which mmengine has put into its message hub."""
        names = [f'train/{name}' for name in outputs or ()]
        if not isinstance(runner.optim_wrapper, AmpOptimWrapper):
            names.append('train/grad_norm')
        scalars = runner.message_hub.log_scalars
        numbers = {
            name.removeprefix('train/'): scalars[name].current()
            for name in names
            if name in scalars and len(scalars[name].data[0])
        }
        wrong = {name: value for name, value in numbers.items() if not math.isfinite(value)}
        if not {'loss', 'grad_norm'} & wrong.keys():
            self._count = 0
            return
        if not self._count:
            losses = ', '.join(f'{name} {value:.4g}' for name, value in numbers.items())
            self._first = f'iteration {runner.iter + 1} ({losses}; {_name_images(data_batch)})'
        self._count += 1
        self._wrong = ' and '.join(sorted(wrong))
        if self._count > self.patience:
            raise self._describe()

    def after_train(self, runner: Runner) -> None:
        """Refuse to end with such weights as if something had been learnt."""
        if self._count and not all(each.isfinite().all() for each in runner.model.parameters()):
            raise self._describe()

    def _describe(self):
        return UserError(
            f'{self._wrong} not finite for {self._count} iterations, since {self._first}: lower '
            'the learning rate, clip gradients, or look at these images and their annotations; '
            '--no-nan-check goes on all the same'
        )


def _name_images(data_batch):
    samples = data_batch.get('data_samples', ()) if isinstance(data_batch, Mapping) else ()
    paths = [str(getattr(sample, 'img_path', '')) for sample in samples]
    paths = [path for path in paths if path]
    more = f' and {len(paths) - 8} more' if len(paths) > 8 else ''
    return f'images {", ".join(paths[:8])}{more}' if paths else 'images without names'
