"""Multi-head self-attention."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .linear import call_linear


class SelfAttention(nn.Module):
    r"""Multi-head self-attention by PyTorch's ``scaled_dot_product_attention``.

    .. math:: \mathrm{softmax}(Q K^\top / \sqrt{d}) \, V

    and a projection behind it. O(N^2 C + N C^2) operations; the N x N matrices are never held.

    Args:
        dim: Channels C.
        num_heads: Heads h, each of d = C / h channels.
    """

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, C) to (B, N, C)."""
        q, k, v = (
            t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, h, N, d)
            for t in call_linear(self.qkv, x).chunk(3, -1)
        )
        x = F.scaled_dot_product_attention(q, k, v)
        return call_linear(self.proj, x.transpose(1, 2).flatten(2))
