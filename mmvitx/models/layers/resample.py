"""Bilinear resampling between the levels of a pyramid."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def resample_tokens(x: Tensor, size: tuple[int, int], scale: float, to_size: tuple[int, int]):
    """Take tokens from one level of a pyramid to another, bilinearly (align_corners False).

    Both grids lie on one image and each has the ceil size of its stride, so the step is by exactly
    the ratio of the strides, also where sizes do not divide: upwards what exceeds the finer grid is
    cut, downwards the last row and column are repeated as far as the coarser grid reaches.

    Args:
        x: (B, H * W, C), float.
        size: (H, W), the grid of x.
        scale: Stride of x over the stride to go to: 2, 4, ... upwards and 1/2, 1/4, ... downwards.
        to_size: The grid to go to.

    Returns:
        (B, to_H * to_W, C).
    """
    x = x.unflatten(1, size).permute(0, 3, 1, 2)  # (B, C, H, W), channels-last in memory
    if scale < 1:
        bottom = round(to_size[0] / scale) - size[0]
        right = round(to_size[1] / scale) - size[1]
        if bottom or right:
            x = F.pad(x, (0, right, 0, bottom), mode='replicate')
    x = F.interpolate(x, scale_factor=scale, mode='bilinear', align_corners=False)
    x = x[:, :, : to_size[0], : to_size[1]]
    return x.permute(0, 2, 3, 1).flatten(1, 2)
