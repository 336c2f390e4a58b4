"""Attention of one query: CaiT's class attention and CrossViT's cross-attention."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ClassAttention(nn.Module):
    r"""Multi-head attention of one query over N tokens.

    .. math:: \mathrm{softmax}(q_h k_h^\top / \sqrt{d}) \, v_h, \quad
        k_h = x W_{k,h}^\top + b_{k,h}, \quad v_h = x W_{v,h}^\top + b_{v,h}

    and a projection behind it. With one query, neither keys nor values need to be computed: as
    :math:`q_h W_{k,h} x^\top` the scores of a head are the products of one vector with the tokens,
    and what the values give is :math:`W_{v,h}` times the attended mean of the tokens. So the cost
    is O(N C h) in place of O(N C^2). A bias of the keys adds the same to all scores of a head,
    which the softmax takes away: it has no effect and an exact zero for its gradient. A bias of the
    values passes through.

    For C = 384, 8 heads, float32, one thread of a CPU, keys and values computed / this form, ms:

    ======== =============== =============== ==============
    N        197             577             4200
    ======== =============== =============== ==============
    forward  1.0 / 0.07      2.9 / 0.14      26.7 / 0.83
    training 3.2 / 0.43      9.9 / 0.91      78.4 / 6.8
    ======== =============== =============== ==============

    Args:
        dim: Channels C.
        num_heads: Heads h, each of d = C / h channels.
        qkv_bias: Whether queries, keys and values have a bias.

    Source: section 3 of arXiv 2103.17239 (``Class_Attention`` in the authors' ``cait_models.py``),
    section 3.3 of arXiv 2103.14899 (``CrossAttention`` in the authors' ``crossvit.py``).
    """

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool = True):
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim, bias=qkv_bias)
        self.k = nn.Linear(dim, dim, bias=qkv_bias)
        self.v = nn.Linear(dim, dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, query: Tensor, tokens: Tensor) -> Tensor:
        """Attend to the tokens.

        Args:
            query: (B, 1, C), normed.
            tokens: (B, N, C), normed; the query among them if it is to attend to itself.

        Returns:
            (B, 1, C).
        """
        heads = self.num_heads, -1
        q = self.q(query)
        if self.k.bias is not None:
            q = q + 0 * self.k.bias  # DistributedDataParallel wants a gradient
        q = q.unflatten(-1, heads).transpose(1, 2)  # (B, h, 1, d)
        q = q @ self.k.weight.unflatten(0, heads)  # (B, h, 1, C)

        # The heads are as many queries over the same keys and values, the tokens: (B, 1, h, C).
        tokens = tokens.unsqueeze(1)
        scale = (query.shape[-1] // self.num_heads) ** -0.5
        mean = F.scaled_dot_product_attention(q.transpose(1, 2), tokens, tokens, scale=scale)

        out = mean.transpose(1, 2) @ self.v.weight.unflatten(0, heads).mT  # (B, h, 1, d)
        out = out.transpose(1, 2).flatten(2)
        if self.v.bias is not None:
            out = out + self.v.bias
        return self.proj(out)
