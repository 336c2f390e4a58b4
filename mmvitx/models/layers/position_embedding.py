"""Learned position embeddings at other sizes than the one that they were learned at."""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .recording import may_differ

MAX_CACHED = 8  # sizes; at 800x1333 an embedding takes up to some 10 MB


def resize_position_embedding(
    pos_embed: Tensor,
    size: tuple[int, int],
    num_extra_tokens: int = 0,
    source_size: tuple[int, int] | None = None,
) -> Tensor:
    """Resize a position embedding to another grid, bicubically (align_corners False, no antialias).

    It is computed in float32 (float64 for float64).

    Args:
        pos_embed: (1, num_extra_tokens + N, C), the grid row by row.
        size: The grid (H, W) to go to.
        num_extra_tokens: Tokens in front that have no place in the grid and stay as they are: 1 for
            a class token.
        source_size: The grid of ``pos_embed``; square by default.

    Returns:
        (1, num_extra_tokens + H * W, C), of the dtype of ``pos_embed``; ``pos_embed`` itself where
        it has that size.

    Raises:
        ValueError: N is not the number of places in ``source_size``, or no square number.
    """
    num_places = pos_embed.shape[1] - num_extra_tokens
    if source_size is None:
        source_size = (math.isqrt(max(num_places, 0)),) * 2
    if num_places < 1 or math.prod(source_size) != num_places:
        raise ValueError(
            f'a position embedding {tuple(pos_embed.shape)} with {num_extra_tokens} extra tokens '
            f'has {num_places} places, which are no grid of {source_size[0]}x{source_size[1]}; '
            'give its grid (H, W) as source_size.'
        )
    if not may_differ(size, source_size):
        return pos_embed
    extra, grid = pos_embed.split([num_extra_tokens, num_places], 1)
    dtype = torch.promote_types(pos_embed.dtype, torch.float32)
    grid = grid.to(dtype).unflatten(1, source_size).permute(0, 3, 1, 2)  # (1, C, H, W)
    grid = F.interpolate(grid, size=tuple(size), mode='bicubic', align_corners=False)
    grid = grid.permute(0, 2, 3, 1).flatten(1, 2).to(pos_embed.dtype)
    return torch.cat((extra, grid), 1) if num_extra_tokens else grid


class PositionEmbeddingResizer(nn.Module):
    """Resize a position embedding, and remember the result while the embedding stays as it is.

    Without gradients the last 8 sizes are remembered. They are forgotten with every ``train()``,
    ``eval()`` and ``to()``, and when the embedding is another tensor or was changed in place. A
    change through ``.data`` is not seen; mmengine's EMA hook makes such, and its loops then call
    ``eval()``. With gradients, or under ``torch.compile``, the embedding is resized each time.

    Args:
        num_extra_tokens: As of :func:`resize_position_embedding`.
        source_size: The same.
    """

    def __init__(self, num_extra_tokens: int = 0, source_size: tuple[int, int] | None = None):
        super().__init__()
        self.num_extra_tokens = num_extra_tokens
        self.source_size = source_size
        self._cached = OrderedDict()  # size -> embedding, the last used the last
        self._cached_of = self._cached_state = None

    def forward(self, pos_embed: Tensor, size: tuple[int, int]) -> Tensor:
        """Resize ``pos_embed``: see :func:`resize_position_embedding`."""
        with_gradient = torch.is_grad_enabled() and pos_embed.requires_grad
        if with_gradient or torch.compiler.is_compiling() or pos_embed.is_inference():
            return self._resize(pos_embed, size)
        state = pos_embed._version, pos_embed.data_ptr(), pos_embed.dtype
        if pos_embed is not self._cached_of or state != self._cached_state:
            self._cached.clear()
            self.__dict__.update(_cached_of=pos_embed, _cached_state=state)  # not as a parameter
        if size not in self._cached:
            with torch.inference_mode(False), torch.no_grad():  # the result can be used anywhere
                self._cached[size] = self._resize(pos_embed, size)
        self._cached.move_to_end(size)
        if len(self._cached) > MAX_CACHED:
            self._cached.popitem(last=False)
        return self._cached[size]

    def _resize(self, pos_embed, size):
        return resize_position_embedding(pos_embed, size, self.num_extra_tokens, self.source_size)

    def train(self, mode: bool = True) -> PositionEmbeddingResizer:
        """Set the mode, and forget."""
        self._cached.clear()
        return super().train(mode)

    def _apply(self, *args, **kwargs):
        """Move or cast, and forget."""
        self._cached.clear()
        return super()._apply(*args, **kwargs)

    def __getstate__(self):
        """Leave the memory behind: a copy has a tensor of its own."""
        return {**self.__dict__, '_cached': OrderedDict(), '_cached_of': None}
