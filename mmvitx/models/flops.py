"""Counting multiply-adds: one is a product of a matrix product, linear layer or convolution."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmvitx.models import layers  # noqa: F401  registers the operators that are counted


def multiply_adds(run: Callable[[], object]) -> int:
    """Count the multiply-adds of a call, attention included."""
    # only the MATH backend shows its products to the counter
    with (
        FlopCounterMode(display=False, custom_mapping=_OURS) as counter,
        sdpa_kernel(SDPBackend.MATH),
    ):
        run()
    return counter.get_total_flops() // 2


def _talking_heads(qkv_shape, *_, out_shape=None, **__) -> int:
    """Count talking-heads attention: scores, values, and two mixes of the heads."""
    batch, length, _, heads, dim = qkv_shape
    return 2 * batch * length**2 * (2 * heads * dim + 2 * heads**2)


def _linear(x_shape, weight_shape, *_, out_shape=None, **__) -> int:
    """Count a linear layer by oneDNN."""
    return 2 * x_shape.numel() * weight_shape[0]


_OURS = {
    torch.ops.mmvitx.talking_heads_attention: _talking_heads,
    torch.ops.mmvitx.linear: _linear,
}
