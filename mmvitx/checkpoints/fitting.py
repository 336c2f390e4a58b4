"""Putting weights into a model, with a report of what went where."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from mmengine.dist import master_only
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import Tensor, nn

from mmvitx.checkpoints.loading import CheckpointError
from mmvitx.checkpoints.official import count_parts


class Fit(NamedTuple):
    """What a model takes of a checkpoint.

    Attributes:
        taken: The tensors that the model takes, by its own names.
        dropped: The checkpoint's other names -> why the model does not take them.
        missing: The names of the model that the checkpoint lacks, or has in another shape.
    """

    taken: dict[str, Tensor]
    dropped: dict[str, str]
    missing: list[str]

    def report(self, model: nn.Module) -> str:
        """Say it in a line: how much was taken, what was dropped and why, what is missing."""
        of = len(self.taken) + len(self.dropped)
        parts = [f'{type(model).__name__} takes {len(self.taken)} of {of} tensors']
        if self.dropped:
            reasons = Counter((name.split('.')[0], why) for name, why in self.dropped.items())
            parts.append('drops ' + ', '.join(f'{p} ({n}: {w})' for (p, w), n in reasons.items()))
        if self.missing:
            parts.append(f'lacks {count_parts(self.missing)}, which stay as initialized')
        return '; '.join(parts)


def fit(state_dict: Mapping[str, Tensor], model: nn.Module, source: str = 'the checkpoint') -> Fit:
    """Find what of a checkpoint a model takes, by name and shape.

    A backbone by itself takes what is under ``backbone.`` in the checkpoint of a whole model. A
    part of the model with a method ``adapt_state_dict(state_dict, prefix)``, as our backbones have
    it, makes the entries under its prefix fit first (position embeddings of another resolution) or
    refuses them (another architecture).

    Args:
        state_dict: Names and tensors.
        model: What is to take them.
        source: What to call the checkpoint in an error.

    Raises:
        CheckpointError: The model takes nothing at all, or a part of it refuses its weights.
    """
    model = unwrap(model)
    own = {name: value.shape for name, value in model.state_dict().items()}
    given = {name: value for name, value in state_dict.items() if isinstance(value, Tensor)}
    outside = {}
    prefix = 'backbone.'
    is_backbone = hasattr(model, 'adapt_state_dict')
    if is_backbone and any(name.startswith(prefix) for name in given):
        outside = {name: 'not of the backbone' for name in given if not name.startswith(prefix)}
        given = {n[len(prefix) :]: value for n, value in given.items() if n.startswith(prefix)}
    for name, part in model.named_modules():
        if hasattr(part, 'adapt_state_dict'):
            try:
                part.adapt_state_dict(given, name + '.' if name else '')
            except CheckpointError as e:
                raise CheckpointError(f'{source} does not fit the model: {e}') from e

    taken = {name: value for name, value in given.items() if own.get(name) == value.shape}
    if not taken:
        raise CheckpointError(
            f'none of the {len(given) + len(outside)} tensors of {source} fits the '
            f'{type(model).__name__}: the first of the checkpoint is {_first(state_dict)}, that of '
            f'the model {_first(model.state_dict())}'
        )
    dropped = {
        name: f'{tuple(value.shape)}, not {tuple(own[name])}' if name in own else 'not in the model'
        for name, value in given.items()
        if name not in taken
    }
    missing = [name for name in own if name not in taken and 'num_batches_tracked' not in name]
    return Fit(taken, {**outside, **dropped}, missing)


def _first(tensors):
    for name, tensor in tensors.items():
        return f'{name} {tuple(tensor.shape)}'
    return None


def has_adapting_part(model: nn.Module) -> bool:
    """Whether a part of the model adapts weights, as our backbones do."""
    return any(hasattr(part, 'adapt_state_dict') for part in model.modules())


def load_state_dict(
    model: nn.Module, state_dict: Mapping[str, Tensor], strict: bool = False, logger=None
) -> None:
    """Load weights into a model and log one line about it; of all that mmengine's function takes.

    Args:
        model: What takes them; wrappers (DistributedDataParallel, test-time augmentation) are
            looked through.
        state_dict: Names and tensors.
        strict: Whether anything dropped or missing is an error.
        logger: mmengine's.

    Raises:
        CheckpointError: :func:`fit` failed, or the fit is not exact though ``strict``.
    """
    result = fit(state_dict, model)
    report = result.report(unwrap(model))
    if strict and (result.dropped or result.missing):
        raise CheckpointError(f'the weights do not fit the model exactly: {report}')
    level = logging.WARNING if result.missing else logging.INFO
    master_only(print_log)(report, logger=logger, level=level)
    unwrap(model).load_state_dict(result.taken, strict=False)


def unwrap(model: nn.Module) -> nn.Module:
    """Give the model inside wrappers."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model
