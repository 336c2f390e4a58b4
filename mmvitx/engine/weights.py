"""The weights that a run starts from: read and checked before it begins."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.runner import Runner

from mmvitx.checkpoints import CheckpointError
from mmvitx.checkpoints.fitting import Fit, fit, unwrap
from mmvitx.checkpoints.published import PUBLISHED, SCHEME
from mmvitx.checkpoints.schemes import PROGRESS, find_weights, is_readable, read_checkpoint
from mmvitx.errors import UserError, shorten


class Weights(NamedTuple):
    """What a run starts from.

    Attributes:
        source: What to call it.
        state_dict: Its names, with tensors without data.
        meta: What mmengine notes of the run that wrote it.
        progress: What :class:`mmvitx.engine.hooks.CheckpointHook` adds.
    """

    source: str
    state_dict: dict[str, torch.Tensor]
    meta: dict
    progress: dict


def check_pretrained(model: torch.nn.Module) -> None:
    """Check the weights that parts of the model are initialized from; download them if need be.

    Raises:
        CheckpointError: If they cannot be had, or if nothing of them fits their part.
    """
    for name, module, init in _find_pretrained(model):
        path = init['checkpoint']
        if not is_readable(path):
            continue
        try:
            checkpoint, _ = read_checkpoint(path)
        except CheckpointError as e:
            hint = '; --from-scratch starts from random weights' if 'backbone' in name else ''
            raise CheckpointError(f'{e}{hint}') from e
        weights = _keep_shapes(path, checkpoint, init.get('prefix'))
        where = '.'.join(filter(None, ('model', name, 'init_cfg')))
        fit(weights.state_dict, module, f'{weights.source} ({where})')


def drop_pretrained(model: torch.nn.Module, taken: Fit) -> None:
    """Let no part be initialized from a file if a checkpoint has all its weights.

    mmengine initializes the model before it loads the checkpoint, and would need the file for that.
    The config is left as it is.

    Args:
        model: What will be initialized.
        taken: What it takes of the checkpoint.
    """
    for name, module, _ in _find_pretrained(model):
        if not any(missing.startswith(name) for missing in taken.missing):
            module.init_cfg = None


def _find_pretrained(model: torch.nn.Module) -> Iterator[tuple[str, BaseModule, dict]]:
    """Yield the parts that mmengine initializes from a file, with their names and settings."""
    for name, module in unwrap(model).named_modules():
        if isinstance(module, BaseModule) and not _reads_by_itself(module):
            for init in _inits(module):
                if init.get('checkpoint'):
                    yield name, module, init


def check_teacher(model: torch.nn.Module, dataset: Any) -> None:
    """Load the teacher of a distillation, and compare its classes with those of the data.

    Args:
        model: That of the run.
        dataset: What it is trained on.

    Raises:
        UserError: If the teacher cannot be had, or has other classes.
    """
    model = unwrap(model)
    if not hasattr(model, 'load_teacher'):
        return
    theirs = getattr(model.load_teacher(), 'classes', None)
    ours = getattr(dataset, 'metainfo', {}).get('classes')
    if theirs and ours and list(ours) != list(theirs):
        raise UserError(
            f'the teacher knows the classes {shorten(theirs)}, but the training data have '
            f'{shorten(ours)}: distillation needs a teacher of the same classes'
        )


def note_start(
    runner: Runner, weights: Weights | None, taken: Fit | None, from_scratch: bool
) -> None:
    """Log what a training starts from: a checkpoint, or what its backbone does.

    Args:
        runner: The runner, before it trains.
        weights: What :func:`read_weights` has read.
        taken: What the model takes of them.
        from_scratch: Whether random weights are meant, so that no others are suggested.
    """
    if weights is not None:
        if runner._resume:
            text = f'Going on from {weights.source}, after {weights.meta["iter"]} iterations'
        else:
            report = taken.report(unwrap(runner.model))
            text = f'Starting from the weights of {weights.source}: {report}'
        print_log(text, logger='current')
        return
    for name, module in unwrap(runner.model).named_modules():
        if not hasattr(module, 'arch_name'):
            continue
        arch = module.arch_name
        starts = [init['checkpoint'] for init in _inits(module) if init.get('checkpoint')]
        known = [known for known, entry in PUBLISHED.items() if entry.arch == arch and entry.size]
        text = (
            f'The {arch or type(module).__name__} starts from {(starts or ["random weights"])[0]}'
        )
        # a classifier may always be meant to be trained from scratch
        meant = from_scratch or runner.cfg.default_scope == 'mmpretrain'
        if not starts and known and not meant:
            text += (
                '. From those of ImageNet it starts with '
                f'--cfg-options model.{name}.init_cfg.checkpoint={SCHEME}{known[0]}'
            )
        print_log(text, logger='current')


def _inits(module):
    inits = getattr(module, 'init_cfg', None) or []
    return inits if isinstance(inits, (list, tuple)) else [inits]


def _reads_by_itself(module: BaseModule) -> bool:
    """Whether a module converts its file, as mmdet's Swin does that of the authors."""
    return 'CheckpointLoader' in module.init_weights.__code__.co_names


def read_weights(cfg: Config) -> Weights | None:
    """Read what the run will start from; download it if need be.

    Args:
        cfg: Its ``load_from`` and ``resume``.

    Raises:
        CheckpointError: If it cannot be had, holds NaN, or too little to resume from.
    """
    path = cfg.get('load_from')
    if path and not isinstance(path, (str, Path)):
        raise UserError(f'load_from is {path!r}: expected the path of a checkpoint')
    if not path or not is_readable(path):
        return None
    checkpoint, _ = read_checkpoint(path)
    weights = _keep_shapes(path, checkpoint)
    wrong = [name for name, value in find_weights(checkpoint).items() if value.isnan().any()]
    if wrong:
        raise CheckpointError(
            f'the checkpoint {path} holds NaN in {len(wrong)} of {len(weights.state_dict)} tensors '
            f'({shorten(wrong)}), so its training has failed: name an earlier one'
        )
    missing = {'meta', 'message_hub', 'optimizer'} - checkpoint.keys()
    if cfg.get('resume') and missing:
        raise lacks(missing, path)
    return weights


def lacks(parts: Collection[str], path: str | Path) -> CheckpointError:
    """Say that a checkpoint lacks what a training needs to go on from it."""
    return CheckpointError(
        f'the checkpoint {path} has no {", ".join(sorted(parts))}, so no training can be resumed '
        f'from it: start from its weights with --cfg-options load_from={path}'
    )


def _keep_shapes(path: str, checkpoint: Any, prefix: str | None = None) -> Weights:
    """Take of a checkpoint what mmengine does: of a prefix only what is under it."""
    tensors = (
        checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, dict) else checkpoint
    )
    if not isinstance(tensors, dict):
        kind = type(tensors).__name__
        raise CheckpointError(
            f'the checkpoint {path} holds a {kind}, a dict of weights was expected'
        )
    start = prefix.rstrip('.') + '.' if prefix else ''
    weights = {
        name.removeprefix(start or 'module.'): value.to('meta')
        for name, value in tensors.items()
        if isinstance(value, torch.Tensor) and name.startswith(start)
    }
    source = f'{path} under {start}*' if prefix else path
    return Weights(source, weights, checkpoint.get('meta', {}), checkpoint.get(PROGRESS, {}))


def check_weights(weights: Weights | None, model: torch.nn.Module) -> Fit | None:
    """Check that at least one of the weights fits the model.

    Returns:
        What the model takes of them; None without weights.

    Raises:
        CheckpointError: If none has a name and shape of the model's, or the model refuses them.
    """
    return weights and fit(weights.state_dict, model, weights.source)
