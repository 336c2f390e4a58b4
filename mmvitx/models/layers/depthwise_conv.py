"""Depth-wise convolutions of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def depthwise_conv(x: Tensor, size: tuple[int, int], weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve every channel of a token map with its own kernel, padded to keep the size.

    On a CPU it runs in float32 whatever the input is: half-precision depth-wise convolutions in
    channels-last take there some 200 times as long.

    Args:
        x: (B, H * W, C) with ``size`` = (H, W).
        size: The grid of x.
        weight: (C, 1, k, k), k odd.
        bias: (C,).

    Returns:
        (B, H * W, C); float32 on a CPU, elsewhere of the dtype that autocast or x asks for.
    """
    x = x.unflatten(1, size).permute(0, 3, 1, 2)  # (B, C, H, W), channels-last in memory
    in_float32 = x.device.type == 'cpu'
    if in_float32:
        x, weight, bias = x.float(), weight.float(), bias.float()
    with torch.autocast('cpu', enabled=False) if in_float32 else nullcontext():
        x = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=weight.shape[0])
    return x.permute(0, 2, 3, 1).flatten(1, 2)


class DepthwiseConv(nn.Module):
    """A depth-wise convolution of image tokens, stride 1, the size kept by zero padding.

    Args:
        dim: Channels C.
        kernel_size: Side of the kernel, odd.
    """

    def __init__(self, dim: int, kernel_size: int):
        super().__init__()
        self.proj = nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Map tokens (B, H * W, C) on the grid ``size`` = (H, W) to (B, H * W, C)."""
        return depthwise_conv(x, size, self.proj.weight, self.proj.bias)


class WindowedDepthwiseConv(nn.Module):
    """A depth-wise convolution whose kernel size differs by attention head.

    Run as one convolution with the largest window, the smaller kernels set into its middle: exactly
    the same function, and in channels-last faster than one convolution a window.

    Args:
        dim: Channels C of all heads together.
        num_heads: Heads, each of C / num_heads channels.
        windows: Kernel size -> number of heads that have it, in the order of the heads. The sizes are
            odd and ascending, the numbers add up to ``num_heads``.

    Raises:
        ValueError: ``windows`` does not fit ``num_heads``, or holds an even size.
    """

    def __init__(self, dim: int, num_heads: int, windows: Mapping[int, int]):
        super().__init__()
        if sum(windows.values()) != num_heads or any(size % 2 == 0 for size in windows):
            raise ValueError(
                f'crpe_window must give odd kernel sizes to all {num_heads} heads, '
                f'as {{3: 2, 5: 3, 7: 3}} does to 8, not {dict(windows)}.'
            )
        head_dim = dim // num_heads
        self.convs = nn.ModuleList(
            nn.Conv2d(
                heads * head_dim,
                heads * head_dim,
                size,
                padding=size // 2,
                groups=heads * head_dim,
            )
            for size, heads in windows.items()
        )
        self.kernel_size = max(windows)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Map tokens (B, H * W, C) on the grid ``size`` = (H, W) to (B, H * W, C)."""
        margins = [(self.kernel_size - conv.kernel_size[0]) // 2 for conv in self.convs]
        weight = torch.cat([F.pad(c.weight, [m] * 4) for c, m in zip(self.convs, margins)])
        bias = torch.cat([conv.bias for conv in self.convs])
        return depthwise_conv(x, size, weight, bias)
