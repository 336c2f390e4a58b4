"""Which maps a backbone or a neck puts out, found without weights, mostly without memory."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmvitx.apis.trial import leave_out_weights
from mmvitx.engine.configs import find_dicts
from mmvitx.errors import first_line

SIZE = 512  # side of the images in pixels, for what takes any


class Level(NamedTuple):
    """A map (B, channels, H / stride, W / stride) out of images (B, 3, H, W).

    A vector (B, channels) has the stride 0.
    """

    stride: int
    channels: int


class Measured(NamedTuple):
    """What a backbone is.

    Attributes:
        levels: The maps that it puts out in training; None if that is no list of maps.
        is_transformer: Whether it has self-attention.
        error: Why its output is not known.
    """

    levels: list[Level] | None = None
    is_transformer: bool = False
    error: str = 'its backbone does not put out a list of maps'


def measure_backbone(backbone: Mapping, scope: str) -> Measured:
    """Build a backbone on the meta device, and see what it makes of images.

    Args:
        backbone: Its config.
        scope: The host, as ``mmdet``.
    """
    side = backbone.get('img_size') or SIZE  # some transformers take one size only
    side = max(side) if isinstance(side, (list, tuple)) else side
    side = side if side % 32 == 0 else SIZE
    try:
        module, out = _run(backbone, scope, torch.Size((2, 3, side, side)))
    except Exception as e:  # a host's module may raise anything
        return Measured(error=f'its backbone cannot be built and run ({describe(e)})')
    levels = _as_levels(out, side)
    names = [name for name, _ in module.named_parameters()]
    attends = any(re.search(r'qkv|in_proj|\battn\.[qk]\b', name) for name in names)
    if levels and all(level.stride for level in levels):
        return Measured(levels, attends)
    return Measured(is_transformer=attends)


def measure_neck(neck: Any, scope: str, levels: Sequence[Level]) -> list[Level] | None:
    """See what a neck makes of these levels; None if it does not take them."""
    shapes = [torch.Size((2, c, SIZE // stride, SIZE // stride)) for stride, c in levels]
    try:
        return _as_levels(_run(neck, scope, *shapes, several=True)[1], SIZE)
    except Exception:
        return None


def describe(error: Exception) -> str:
    """Give the kind of an error and its first line."""
    return f'{type(error).__name__}: {first_line(error)}'


class _LinspaceOnCPU(TorchFunctionMode):
    """Keeps ``torch.linspace`` off the meta device: constructors read drop rates from it."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.linspace:
            kwargs.setdefault('device', 'cpu')
        return func(*args, **kwargs)


def _run(
    part: Any, scope: str, *shapes: torch.Size, several: bool = False
) -> tuple[nn.Module, Any]:
    """Build a part of a model and run it on inputs of these shapes.

    It is on the meta device, unless one of its operators, such as a deformable convolution, has no
    kernel there.
    """
    part = copy.deepcopy(part)
    for settings in find_dicts(part):
        leave_out_weights(settings)
        settings.pop('eps', None)  # of a batch norm; 0 in NAS-FCOS, which PyTorch refuses by now
    with MODELS.switch_scope_and_registry(scope) as registry:
        try:
            with torch.device('meta'):
                with _LinspaceOnCPU():
                    module = registry.build(part)
                inputs = [torch.empty(shape) for shape in shapes]
                return module, module(tuple(inputs) if several else inputs[0])
        except RuntimeError:
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                module = registry.build(part)
                inputs = [torch.rand(shape) for shape in shapes]
                return module, module(tuple(inputs) if several else inputs[0])


def _as_levels(out: Any, side: int) -> list[Level] | None:
    maps = list(out) if isinstance(out, (list, tuple)) else [out]
    if not maps or not all(isinstance(x, Tensor) and x.ndim in (2, 4) for x in maps):
        return None
    levels = [Level(-(-side // x.shape[2]) if x.ndim == 4 else 0, x.shape[1]) for x in maps]
    sides = [side // level.stride for level in levels if level.stride]
    return levels if sides == [x.shape[2] for x in maps if x.ndim == 4] else None
