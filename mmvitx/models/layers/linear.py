"""Linear layers, by the faster of the two libraries that PyTorch has for them on a CPU.

PyTorch computes float32 products on a CPU with MKL, and MKL does not use AVX-512 on AMD's
processors. oneDNN, which PyTorch is built with as well, does: on an AMD EPYC with AVX-512 (two
cores, torch 2.11) 200 to 250 GMAC/s where MKL has 100 to 110, forward and for both gradients, with
errors of the same size.

It is an operator, which ``torch.compile`` knows; what is exported or traced has PyTorch's own.
"""

from __future__ import annotations

import platform
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .recording import is_exporting

_HOOKS = '_forward_hooks', '_forward_pre_hooks', '_backward_hooks', '_backward_pre_hooks'
MIN_ROWS = 16  # with fewer, as of class tokens, reading the weights is all that counts


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    r"""Compute :math:`x W^\top + b`: ``torch.nn.functional.linear``, on some CPUs faster.

    Its gradient rule has gradients itself, but is unknown to ``torch.func.grad``.

    Args:
        x: (..., C_in).
        weight: (C_out, C_in), any strides.
        bias: (C_out,).

    Returns:
        (..., C_out), of the dtype of ``x``, under autocast of its.
    """
    return (_onednn_linear if _takes_onednn(x, weight) else F.linear)(x, weight, bias)


def weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """Compute the gradient of a linear layer's weight.

    Args:
        x: (N, C_in), what went in.
        grad: (N, C_out), the gradient of what came out, of the same dtype.

    Returns:
        (C_out, C_in).
    """
    if _takes_onednn(x.mT, grad):
        # in this order, as the number of rows is the largest of the three, it is the fastest
        return _onednn_linear(x.mT, grad.mT, None).mT
    return grad.mT @ x


def call_linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """Call a linear layer, by :func:`linear` if it is nothing but that."""
    return linear(x, layer.weight, layer.bias) if is_plain(layer) else layer(x)


def is_plain(*layers: nn.Module) -> bool:
    """Whether layers may be computed from their weight and bias, without being called.

    Not where one was replaced, by an adapter or a quantized layer, or has hooks or a tensor of
    another kind.
    """
    return all(
        type(layer) in (nn.Linear, nn.LayerNorm)
        and not any(getattr(layer, hooks) for hooks in _HOOKS)
        and 'forward' not in vars(layer)
        and type(layer.weight) is type(layer.bias) is nn.Parameter
        for layer in layers
    )


def needs_gradient(*tensors: Tensor | None) -> bool:
    """Whether what is computed of these tensors is to have a gradient."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def _has_fast_onednn() -> bool:
    if torch.backends.cpu.get_cpu_capability() != 'AVX512':
        return False
    try:
        processor = Path('/proc/cpuinfo').read_text()
    except OSError:  # not Linux
        processor = platform.processor()
    return 'AuthenticAMD' in processor and hasattr(torch.ops.mkldnn, '_linear_pointwise')


# Whether oneDNN's float32 products are faster here than those of MKL. A constant, as a compiler
# cannot ask a processor.
HAS_FAST_ONEDNN = _has_fast_onednn()


def _takes_onednn(x, weight):
    return (
        not is_exporting()
        and x.device.type == 'cpu'
        and x.dtype == weight.dtype == torch.float32
        and torch.backends.mkldnn.enabled
        # what is compiled for any size does not ask how many rows there are
        and (torch.compiler.is_compiling() or x.numel() >= MIN_ROWS * x.shape[-1])
        and not torch.is_autocast_enabled('cpu')
        and HAS_FAST_ONEDNN
    )


@torch.library.custom_op('mmvitx::linear', mutates_args=())
def _onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(_dense(x), _dense(weight), bias, 'none', [], '')


def _dense(x):
    """Copy a matrix unless it, or its transpose, is contiguous.

    oneDNN has no fast product for a weight with gaps, as rows of a transposed matrix have them:
    863 ms in place of 1.1 for 1024 x 64 times 1024 x 512.
    """
    return x if x.mT.is_contiguous() else x.contiguous()


@_onednn_linear.register_fake
def _(x, weight, bias):
    return x.new_empty(*x.shape[:-1], len(weight))


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:2])


def _backward(ctx, grad):
    """Compute the gradients by products of the same kind, so that they have gradients too."""
    x, weight = ctx.saved_tensors
    needs_x, needs_weight, needs_bias = ctx.needs_input_grad
    grad_x = linear(grad, weight.mT) if needs_x else None
    x, flat = (t.reshape(-1, t.shape[-1]) for t in (x, grad))
    grad_weight = weight_gradient(x, flat) if needs_weight else None
    return grad_x, grad_weight, flat.sum(0) if needs_bias else None


_onednn_linear.register_autograd(_backward, setup_context=_save)
