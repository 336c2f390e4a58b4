"""Evaluate one batch before a training, so that an error there does not cost an epoch."""

from __future__ import annotations

import logging

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner, ValLoop, autocast
from torch.nn.parallel import DistributedDataParallel

from mmvitx.engine.explain import explain
from mmvitx.engine.randomness import get_random_state, set_random_state
from mmvitx.errors import first_line

# What the weights at the beginning may be the reason of, and not the settings.
DOUBTFUL = ValueError, ArithmeticError, MemoryError, torch.OutOfMemoryError


class SanityHook(Hook):
    """Predicts the first batch of the validation data, and hands it to the evaluator.

    The weights, the random state and what is evaluated later are left as they are.

    Raises:
        UserError: It fails because of a setting; where other reasons are possible, it is a warning.
    """

    priority = 'VERY_LOW'  # behind the weights that hooks change before a training

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Evaluate a batch."""
        loop, model = runner.val_loop, runner.model
        if isinstance(model, DistributedDataParallel):
            model = model.module
        if type(loop) is not ValLoop or is_model_wrapper(model):
            return  # another loop prepares its model; a sharded model needs all processes
        if loop.dataloader.batch_sampler is None:
            return
        if hasattr(loop.dataloader.dataset, 'get_len_per_video'):  # its metrics keep what they saw
            return
        state = get_random_state()
        model.eval()
        try:
            self._evaluate(loop, model)
        except Exception as e:
            sentence = explain(e, runner.cfg, 'val_dataloader')
            if sentence and not isinstance(e, DOUBTFUL):
                raise sentence from e
            print_log(
                'the first batch of the validation data cannot be evaluated, and a validation may '
                f'fail in the same way: {sentence or first_line(e)}',
                logger='current',
                level=logging.WARNING,
            )
        finally:
            model.train()
            set_random_state(state)
            for metric in loop.evaluator.metrics:
                metric.results.clear()

    @torch.no_grad()
    def _evaluate(self, loop, model):
        loader = loop.dataloader
        indices = next(iter(loader.batch_sampler))
        load = getattr(loader.dataset, '__getitems__', None)
        samples = load(indices) if load else [loader.dataset[index] for index in indices]
        batch = loader.collate_fn(samples)
        with autocast(enabled=getattr(loop, 'fp16', False)):
            outputs = model.val_step(batch)
        loop.evaluator.process(data_samples=outputs, data_batch=batch)
