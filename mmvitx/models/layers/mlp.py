"""The feed-forward part of a transformer block."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Mlp(nn.Module):
    """Linear, GELU (exact, by erf), Linear, on the last axis.

    For the backward pass the input of the GELU is kept and its output, computed again, is not: that
    output is the largest tensor of a transformer block, and cheap.

    Args:
        dim: Channels C that go in and come out.
        hidden_dim: Channels in between.
    """

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., C)."""
        x = self.fc1(x)
        if torch.is_grad_enabled() and not torch.jit.is_tracing():
            return _GeluLinear.apply(x, self.fc2.weight, self.fc2.bias)
        return self.fc2(F.gelu(x))


class _GeluLinear(torch.autograd.Function):
    """Linear(GELU(x)) that keeps x alone."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return F.linear(F.gelu(x), weight, bias)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        grad_x = grad_weight = grad_bias = None
        if needs_x:
            grad_x = torch.ops.aten.gelu_backward(grad @ weight.to(grad.dtype), x)
        grad = grad.reshape(-1, grad.shape[-1])
        if needs_weight:
            grad_weight = grad.mT @ F.gelu(x).reshape(-1, x.shape[-1])
        if needs_bias:
            grad_bias = grad.sum(0)
        return grad_x, grad_weight, grad_bias
