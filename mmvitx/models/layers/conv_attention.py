"""Conv-attention of CoaT: factorized attention with a convolutional relative position encoding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .depthwise_conv import WindowedDepthwiseConv
from .linear import call_linear, is_plain, linear, needs_gradient
from .recording import is_recorded


def factorized_context(
    k: Tensor, v: Tensor, cls_k: Tensor, cls_v: Tensor, num_heads: int
) -> Tensor:
    r"""Compute :math:`\mathrm{softmax}(K)^\top V`, the softmax over all tokens.

    It is computed in float32 and divided by the sum after the product: a softmax over N tokens
    holds numbers around 1 / N, which float16 cannot tell from zero once N is in the ten thousands.

    Args:
        k: Keys of the image tokens, (B, N, C).
        v: Their values, (B, N, C).
        cls_k: Key of the class token, (B, 1, C).
        cls_v: Its value, (B, 1, C).
        num_heads: Heads h, each of d = C / h channels.

    Returns:
        (B, h, d, d), float32 (float64 for float64), rows by key channel, columns by value channel.
        O(N C d) operations, O(N C) memory.
    """
    with torch.autocast(k.device.type, enabled=False):
        dtype = torch.promote_types(k.dtype, torch.float32)
        k, v, cls_k, cls_v = (t.to(dtype) for t in (k, v, cls_k, cls_v))
        top = torch.maximum(k.amax(1, keepdim=True), cls_k).detach()  # (B, 1, C)
        k, cls_k = (k - top).exp_(), (cls_k - top).exp_()
        total = k.sum(1, keepdim=True) + cls_k  # (B, 1, C)
        k, v, cls_k, cls_v, total = (
            _split_heads(t, num_heads) for t in (k, v, cls_k, cls_v, total)
        )
        context = k.transpose(2, 3) @ v + cls_k.transpose(2, 3) * cls_v
        return context / total.transpose(2, 3)


class ConvAttention(nn.Module):
    r"""Factorized attention with a convolutional relative position encoding (CoaT).

    .. math:: Q / \sqrt{d} \; (\mathrm{softmax}(K)^\top V) + Q \circ \mathrm{DepthwiseConv}(V)

    and a projection behind it. The second term exists for image tokens only. The cost is linear in
    the number N of tokens.

    Args:
        dim: Channels C.
        num_heads: Heads h; they divide C.

    Source: conv-attention of arXiv 2104.06399; ``FactorAtt_ConvRelPosEnc`` in the authors'
    ``src/models/coat.py``.
    """

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(
        self,
        tokens: Sequence[Tensor],
        norm: nn.Module,
        size: tuple[int, int],
        crpe: WindowedDepthwiseConv | None,
    ) -> tuple[Tensor, ...]:
        """Attend to all tokens.

        For the backward pass queries, keys and values are kept; what becomes of them up to the
        projection is computed again.

        Args:
            tokens: The class token (B, 1, C) and the image tokens (B, H * W, C).
            norm: The norm that they go through first.
            size: The grid (H, W) of the image tokens.
            crpe: The encoding that the blocks of this scale share; None if only the class token is
                asked for.

        Returns:
            What the attention finds for the class token and, unless ``crpe`` is None, for the
            image tokens; shaped like them.
        """
        cls_token, x = map(norm, tokens)
        cls_q, cls_k, cls_v = self.qkv(cls_token).chunk(3, -1)
        q, k, v = self._project(x, crpe is not None)
        context = _recompute(factorized_context, k, v, cls_k, cls_v, self.num_heads)
        del x, k  # without gradients nothing else holds them
        context = (context * self.scale).to(v.dtype)
        cls_out = self.proj(_attend(cls_q, context))
        if crpe is None:
            return (cls_out,)
        return cls_out, call_linear(self.proj, _recompute(_add_encoding, q, v, context, size, crpe))

    def _project(self, x, with_q):
        """Give q, or None in place of it, k and v: tensors of their own, not views of one."""
        if not is_plain(self.qkv):
            return self.qkv(x).chunk(3, -1)
        parts = zip((with_q, True, True), self.qkv.weight.chunk(3), self.qkv.bias.chunk(3))
        return [linear(x, weight, bias) if needed else None for needed, weight, bias in parts]


def _recompute(function, *inputs):
    """Call a function; its backward pass will compute it again from its inputs."""
    tensors = (each for each in inputs if isinstance(each, Tensor))
    if needs_gradient(*tensors) and not is_recorded():
        return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
    return function(*inputs)


def _add_encoding(q, v, context, size, crpe):
    out = _attend(q, context)
    return out.addcmul_(q, crpe(v, size))


def _split_heads(x, num_heads):
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)  # (B, h, N, d)


def _attend(q, context):
    return (_split_heads(q, context.shape[1]) @ context).transpose(1, 2).flatten(2)  # (B, N, C)
