"""Bilinear resampling between the levels of a pyramid."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor


def resample_tokens(x: Tensor, size: tuple[int, int], scale: float, to_size: tuple[int, int]):
    """Take tokens from one stride to another, bilinearly (align_corners False).

    Both grids lie on one image and each has the ceil size of its stride, so the step is by exactly
    the ratio of the strides, also where sizes do not divide: what exceeds the grid to go to is cut,
    and where that reaches further, the last row and column are repeated.

    Args:
        x: (B, H * W, C), float.
        size: (H, W), the grid of x.
        scale: Stride of x over the stride to go to: above 1 upwards, below 1 downwards.
        to_size: The grid to go to.

    Returns:
        (B, to_H * to_W, C).
    """
    x = x.unflatten(1, size).permute(0, 3, 1, 2)  # (B, C, H, W), channels-last in memory
    bottom, right = (_reach(n, to, scale) - n for n, to in zip(size, to_size))
    if bottom or right:
        x = F.pad(x, (0, right, 0, bottom), mode='replicate')
    x = F.interpolate(x, scale_factor=scale, mode='bilinear', align_corners=False)
    x = x[:, :, : to_size[0], : to_size[1]]
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _reach(side, to_side, scale):
    """Give the side that x needs, as interpolation rounds what it scales down.

    A side that scaling does not change would be copied as it is.
    """
    side = max(side, math.ceil(to_side / scale))
    while int(side * scale) < to_side or (scale != 1 and int(side * scale) == side):
        side = side + 1  # not in place: in a trace it is a tensor
    return side
