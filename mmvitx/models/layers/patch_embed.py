"""Patch embedding as one matrix product."""

from __future__ import annotations

from torch import Tensor, nn

from .linear import linear
from .recording import ceil_div, pad_to


class PatchEmbed(nn.Module):
    """Embed square patches that do not overlap.

    The convolution with kernel = stride = ``patch_size`` of the papers, written as a product of the
    patches with its weight: what comes out is channels-last without a copy. A map whose sides
    ``patch_size`` does not divide gets zeros at the right and the bottom.

    Args:
        in_channels: Channels C_in of the map.
        dim: Channels C of the tokens.
        patch_size: Side P of a patch in pixels of the map.
        norm_eps: Epsilon of the LayerNorm behind the projection; None for no norm.
    """

    def __init__(self, in_channels: int, dim: int, patch_size: int, norm_eps: float | None = 1e-5):
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, dim, patch_size, stride=patch_size)
        self.norm = nn.Identity() if norm_eps is None else nn.LayerNorm(dim, eps=norm_eps)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Embed a channels-last map.

        Args:
            x: (B, H, W, C_in), any strides.

        Returns:
            The tokens (B, h * w, C), row by row, of the dtype of the parameters also under
            autocast, and their grid (h, w) = (ceil(H / P), ceil(W / P)).
        """
        p = self.patch_size
        batch, height, width, channels = x.shape
        grid = ceil_div(height, p), ceil_div(width, p)
        x = pad_to(x, (grid[0] * p, grid[1] * p))
        x = x.unflatten(1, (grid[0], p)).unflatten(3, (grid[1], p))  # (B, h, P, w, P, C_in)
        x = x.permute(0, 1, 3, 2, 4, 5).reshape(batch, grid[0] * grid[1], p * p * channels)
        weight = self.proj.weight.permute(0, 2, 3, 1).flatten(1)  # (C, P * P * C_in)
        x = linear(x, weight, self.proj.bias)
        return self.norm(x.to(self.proj.weight.dtype)), grid
