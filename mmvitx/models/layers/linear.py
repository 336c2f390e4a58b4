"""Linear layers, by the faster of the two libraries that PyTorch has for them on a CPU.

PyTorch computes float32 products on a CPU with MKL, and MKL does not use AVX-512 on AMD's
processors. oneDNN, which PyTorch is built with as well, does. How much that is worth depends on the
processor, so it is measured when a product is first needed: see :func:`choose_library`.

It is an operator, which ``torch.compile`` knows; what is exported or traced has PyTorch's own.
"""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmvitx.errors import UserError

from .recording import is_exporting

_HOOKS = '_forward_hooks', '_forward_pre_hooks', '_backward_hooks', '_backward_pre_hooks'
MIN_ROWS = 16  # with fewer, as of class tokens, reading the weights is all that counts

LIBRARIES = 'mkl', 'onednn'
VARIABLE = 'MMVITX_LINEAR'
# oneDNN is chosen if it is so many times as fast as MKL. Processors were found at 1.05 to 1.15,
# where whole models gain nothing, and at 2. The bound lies between the two, so that each process on
# a machine chooses the same, also a busy one: a run that is resumed computes the same bits.
MIN_GAIN = 1.5
TURNS = 20


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


def available_libraries() -> Sequence[str]:
    """Name those of ``LIBRARIES`` that this PyTorch has."""
    return LIBRARIES[: 1 + hasattr(torch.ops.mkldnn, '_linear_pointwise')]


@functools.cache
def choose_library() -> str:
    """Choose the library for linear layers in float32 on a CPU, once in a process.

    The environment variable ``MMVITX_LINEAR`` names it. Otherwise both are measured, for
    some 20 ms.

    Returns:
        ``mkl``, PyTorch's own choice, or ``onednn``.

    Raises:
        UserError: The variable names neither, or oneDNN where PyTorch has no operator of it.
    """
    available = available_libraries()
    chosen = os.environ.get(VARIABLE)
    if chosen in available:
        return chosen
    if chosen:
        raise UserError(
            f'{VARIABLE} must be one of {", ".join(available)} with this PyTorch, not '
            f'{chosen!r}: set another or leave it out'
        )
    if len(available) == 1:
        return 'mkl'
    # In a thread of its own, which no mode (fake tensors, autocast, a device) of the caller reaches
    with ThreadPoolExecutor(1) as pool:
        seconds = pool.submit(_measure).result()
    return 'onednn' if seconds['mkl'] > MIN_GAIN * seconds['onednn'] else 'mkl'


def _measure():
    """Give the seconds of a product by each library, the best of several turns.

    With one thread: the gain is that of a core, and on a busy machine several threads wait for each
    other so irregularly that one of four processes chose otherwise.
    """
    x, weight = (torch.ones(256, 256, dtype=torch.float32, device='cpu') for _ in range(2))
    seconds = dict.fromkeys(LIBRARIES, math.inf)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(TURNS):
            for library in LIBRARIES:
                start = time.perf_counter()
                compute(library, x, weight)
                seconds[library] = min(seconds[library], time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return seconds


def compute(library: str, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute :func:`linear` on a CPU by a library out of ``LIBRARIES``, without gradients."""
    if library == 'mkl':
        return F.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'none', [], '')


@torch.compiler.assume_constant_result  # a compiler cannot measure: it calls this when it compiles
def _is_onednn_chosen():
    return choose_library() == 'onednn'


def _takes_onednn(x, weight):
    return (
        not is_exporting()
        and x.device.type == 'cpu'
        and x.dtype == weight.dtype == torch.float32
        and torch.backends.mkldnn.enabled
        # what is compiled for any size does not ask how many rows there are
        and (torch.compiler.is_compiling() or x.numel() >= MIN_ROWS * x.shape[-1])
        and not torch.is_autocast_enabled('cpu')
        and _is_onednn_chosen()
    )


@torch.library.custom_op('mmvitx::linear', mutates_args=())
def _onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return compute('onednn', _dense(x), _dense(weight), bias)


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
