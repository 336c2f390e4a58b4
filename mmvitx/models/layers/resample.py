"""Bilinear resampling between the levels of a pyramid."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .recording import ceil_div, crop_to, pad_to

# Recorded for all sizes, a map is padded to a multiple of the lower number of the scale's ratio.
MAX_UNDER = 32


def resample_tokens(x: Tensor, size: tuple[int, int], scale: float, to_size: tuple[int, int]):
    """Take tokens from one stride to another, bilinearly (align_corners False).

    Both grids lie on one image and each has the ceil size of its stride, so the step is by exactly
    the ratio of the strides, also where sizes do not divide: what exceeds the grid to go to is cut,
    and where that reaches further, the last row and column are repeated.

    ``torch.compile`` and ``torch.export`` record it for all sizes if the scale is a ratio of small
    numbers, as 2, 1/4 or 15/14.

    Args:
        x: (B, H * W, C), float.
        size: (H, W), the grid of x.
        scale: Stride of x over the stride to go to: above 1 upwards, below 1 downwards.
        to_size: The grid to go to.

    Returns:
        (B, to_H * to_W, C).
    """
    x = x.unflatten(1, size).permute(0, 3, 1, 2)  # (B, C, H, W), channels-last in memory
    ratio = _as_ratio(scale) if torch.compiler.is_compiling() else None
    if ratio:
        # Sides that the ratio takes to whole sides: scaling by size is then scaling by factor. As
        # both grids have ceil sizes, the units that cover the one cover the other.
        over, under = ratio
        units = [ceil_div(n, under) for n in size]
        sides = [unit * under for unit in units]
        how = dict(size=[unit * over for unit in units])
    else:
        sides = [_reach(n, to, scale) for n, to in zip(size, to_size)]
        how = dict(scale_factor=scale)
    x = pad_to(x, sides, 'replicate')
    x = F.interpolate(x, **how, mode='bilinear', align_corners=False)
    x = crop_to(x, to_size)
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _reach(side, to_side, scale):
    """Give the side that x needs, as interpolation rounds what it scales down.

    A side that scaling does not change would be copied as it is.
    """
    side = max(side, math.ceil(to_side / scale))
    while int(side * scale) < to_side or (scale != 1 and int(side * scale) == side):
        side = side + 1  # not in place: in a trace it is a tensor
    return side


def _as_ratio(number):
    """Give the whole numbers that a number is the quotient of; None if they are not small."""
    for under in range(1, MAX_UNDER + 1):
        over = round(number * under)
        if math.isclose(over / under, number):
            return over, under
    return None
