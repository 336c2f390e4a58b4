"""The pyramid of a backbone that has one or two strides."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .recording import ceil_div, crop_to, pad_to

IN_STRIDES = (8, 16)
OUT_STRIDES = (4, 8, 16, 32)


class Upsample(nn.Module):
    """A transposed convolution with kernel = stride = 2, as one matrix product.

    Args:
        dim: Channels C.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.proj = nn.ConvTranspose2d(dim, dim, kernel_size=2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, ..., C) to (B, ..., 4, C), the four row by row."""
        weight = self.proj.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (2 * 2 * C_out, C_in)
        return F.linear(x, weight, self.proj.bias.repeat(4)).unflatten(-1, (4, -1))


class Pyramid(nn.Module):
    """Take maps of stride 8 or 16 to the levels of a pyramid, as ViTDet does (arXiv 2203.16527).

    Up by a 2x2 transposed convolution, twice with a LayerNorm and GELU in between, down by max
    pooling over 2x2; a map that has the stride of its level stays as it is. Channels are kept.

    Args:
        in_channels: Channels C_i of the maps, one map a level.
        in_strides: Their strides, 8 or 16.
        out_strides: Strides s_i of the levels, each another out of 4, 8, 16 and 32.

    Raises:
        ValueError: The three are not equally many, or a stride is none of these or given twice.
    """

    def __init__(
        self, in_channels: Sequence[int], in_strides: Sequence[int], out_strides: Sequence[int]
    ):
        super().__init__()
        if not len(in_channels) == len(in_strides) == len(out_strides):
            raise ValueError(
                'in_channels, in_strides and out_strides need one number a level each, not '
                f'{in_channels}, {in_strides} and {out_strides}.'
            )
        distinct = set(out_strides)
        if (
            not set(in_strides) <= set(IN_STRIDES)
            or not distinct <= set(OUT_STRIDES)
            or len(distinct) < len(out_strides)
        ):
            raise ValueError(
                f'in_strides must be out of {IN_STRIDES} and out_strides distinct out of '
                f'{OUT_STRIDES}, not {in_strides} and {out_strides}.'
            )
        self.in_strides = tuple(in_strides)
        self.out_strides = tuple(out_strides)
        self.ups = nn.ModuleDict(  # by stride, so that fewer levels have the same names
            {
                str(out_stride): _make_up(dim, in_stride // out_stride)
                for dim, in_stride, out_stride in zip(in_channels, in_strides, out_strides)
            }
        )

    def forward(self, levels: Sequence[Tensor], image_size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Take each map to the stride of its level.

        Args:
            levels: Tokens (B, h_i * w_i, C_i), the grid of each being the ceil size of its stride.
            image_size: (H, W) of the images.

        Returns:
            Maps (B, C_i, ceil(H / s_i), ceil(W / s_i)), of the dtype of the tokens, NCHW-contiguous
            because mmcv's RoIAlign reads any other layout as if it were this one.
        """
        maps = []
        for x, in_stride, out_stride in zip(levels, self.in_strides, self.out_strides):
            size, to_size = (
                tuple(ceil_div(n, stride) for n in image_size) for stride in (in_stride, out_stride)
            )
            feature = _assemble(self.ups[str(out_stride)](x), size)
            while in_stride < out_stride:
                feature = _halve(feature)
                in_stride *= 2
            feature = crop_to(feature, to_size)
            maps.append(feature.to(x.dtype).contiguous())
        return tuple(maps)


def _make_up(dim, factor):
    if factor < 2:
        return nn.Identity()
    if factor == 2:
        return Upsample(dim)
    return nn.Sequential(Upsample(dim), nn.LayerNorm(dim, eps=1e-6), nn.GELU(), Upsample(dim))


def _halve(x):
    """Pool a map by 2x2; the last row and column of odd sides by themselves."""
    if not torch.compiler.is_compiling():
        return F.max_pool2d(x, kernel_size=2, ceil_mode=True)
    # Recorded for many sizes: ceil_mode would ask whether they are even.
    return F.max_pool2d(pad_to(x, [ceil_div(n, 2) * 2 for n in x.shape[2:]], 'replicate'), 2)


def _assemble(x, size):
    """Make a map (B, C, f * H, f * W) of tokens (B, H * W[, 4[, 4]], C): each 4 are 2x2 places."""
    x = x.unflatten(1, size)
    for axis in range(3, 2 * x.ndim - 5, 2):
        x = x.unflatten(axis, (2, 2))
    # (B, H, W, 2, 2, ..., C): the axes of the rows, then those of the columns.
    rows, columns = [1, *range(3, x.ndim - 1, 2)], [2, *range(4, x.ndim - 1, 2)]
    x = x.permute(0, x.ndim - 1, *rows, *columns)
    height = 1 + len(rows)
    return x.flatten(1 + height).flatten(2, height)
