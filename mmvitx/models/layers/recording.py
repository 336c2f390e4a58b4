"""What lets ``torch.compile``, ``torch.export`` and ONNX record a model for images of any size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def ceil_div(n: int, divisor: int) -> int:
    """Divide whole numbers, n >= 1, and round up.

    In this form the compiler sees that the quotient of a quotient is one quotient, and ONNX, whose
    division cuts, agrees.
    """
    return (n - 1) // divisor + 1


def may_differ(size: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two sizes differ; in what is recorded for many sizes, whether they do in any."""
    if not torch.compiler.is_compiling():
        return tuple(size) != tuple(other)
    from torch.fx.experimental.symbolic_shapes import statically_known_true  # slow to import

    return not all(statically_known_true(a == b) for a, b in zip(size, other))


def pad_to(x: Tensor, size: Sequence[int], mode: str = 'constant') -> Tensor:
    """Pad a map (B, C, H, W), or (B, H, W, C) with zeros, at the right and the bottom.

    Args:
        x: The map, channels-last for ``mode='constant'``, else channels-first.
        size: (H, W) to pad to; where x has it, x is returned.
        mode: Of :func:`torch.nn.functional.pad`.
    """
    first = 1 if mode == 'constant' else 2
    old = x.shape[first : first + 2]
    if not may_differ(old, size):
        return x
    return F.pad(x, (0, 0) * (2 - first) + (0, size[1] - old[1], 0, size[0] - old[0]), mode)


def crop_to(x: Tensor, size: Sequence[int]) -> Tensor:
    """Crop a map (B, C, H, W) at the right and the bottom.

    It is a view, but in what is recorded for many sizes a copy: how a view can be used would depend
    on whether anything is cut.
    """
    if not torch.compiler.is_compiling():
        return x[:, :, : size[0], : size[1]]
    for axis, side in enumerate(size, start=2):
        if may_differ([side], [x.shape[axis]]):
            x = x.index_select(axis, torch.arange(side, device=x.device))
    return x


def is_recorded() -> bool:
    """Whether a model is traced, exported or compiled, all of which want plain operators."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling()


def is_exporting() -> bool:
    """Whether a model is recorded to run elsewhere (export, trace), without operators of our own.

    ``torch.compile`` knows those, and their gradients.
    """
    # torch.compiler.is_exporting() is what to ask, but to torch.compile it is True as well.
    return torch.jit.is_tracing() or getattr(torch.compiler, '_is_exporting_flag', False)
