"""Depth-wise convolutions of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from .recording import is_exporting


class DepthwiseConv(nn.Module):
    """A depth-wise convolution of image tokens, stride 1, the size kept by zero padding.

    On a CPU it runs in float32 also for half-precision input: with its gradients, a float16 one
    takes there 10 to 20 times as long (152 and 320 channels, 64x64, torch 2.11).

    Args:
        dim: Channels C.
        kernel_size: Side of the kernel, odd.
    """

    def __init__(self, dim: int, kernel_size: int):
        super().__init__()
        self.proj = nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Convolve the map of the tokens.

        Args:
            x: (B, H * W, C).
            size: Their grid (H, W).

        Returns:
            (B, H * W, C), of the dtype of x.
        """
        return _on_the_map(_windowed_conv, x, size, self.proj.bias, self.proj.weight).to(x.dtype)


class WindowedDepthwiseConv(nn.Module):
    """A depth-wise convolution whose kernel size differs by attention head.

    It is run as one convolution with the largest window, the smaller kernels set into its middle:
    exactly the same function, and in channels-last faster than one convolution a window.

    Args:
        dim: Channels C of all heads together.
        num_heads: Heads, each of C / num_heads channels.
        windows: Kernel size -> number of heads that have it, in the order of the heads. The sizes
            are odd, the numbers add up to ``num_heads``. Sizes may be strings, as JSON has them.

    Raises:
        ValueError: ``windows`` does not fit ``num_heads``, or holds an even size.
    """

    def __init__(self, dim: int, num_heads: int, windows: Mapping[int, int]):
        super().__init__()
        windows = {int(size): heads for size, heads in windows.items()}
        odd = all(size > 0 and size % 2 for size in windows)
        if not odd or min(windows.values()) < 1 or sum(windows.values()) != num_heads:
            raise ValueError(
                f'crpe_window must give odd kernel sizes to all {num_heads} heads, '
                f'as {{3: 2, 5: 3, 7: 3}} does to 8, not {windows}.'
            )
        widths = [heads * (dim // num_heads) for heads in windows.values()]
        self.convs = nn.ModuleList(
            nn.Conv2d(width, width, size, padding=size // 2, groups=width)
            for width, size in zip(widths, windows)
        )

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Convolve the map of the tokens: see :meth:`DepthwiseConv.forward`.

        On a CPU the result is float32 at least, so that what it is multiplied with is rounded once.
        """
        weights = [conv.weight for conv in self.convs]
        bias = torch.cat([conv.bias for conv in self.convs])
        # A trace takes plain operators.
        conv = _windowed_conv if torch.jit.is_tracing() else _WindowedConv.apply
        return _on_the_map(conv, x, size, bias, *weights)


def _on_the_map(conv, x, size, *parameters):
    x = x.unflatten(1, size).permute(0, 3, 1, 2)  # (B, C, H, W), channels-last in memory
    if x.device.type == 'cpu':
        if torch.compiler.is_compiling() and not is_exporting():
            conv = _compiled_conv
        dtype = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast('cpu', enabled=False):
            x = conv(x.to(dtype), *(p.to(dtype) for p in parameters))
    else:
        x = conv(x, *parameters)
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _conv(x, weight, bias):
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=weight.shape[0])


def _merge(weights):
    """Set the kernels of all windows into the middle of one as large as the largest."""
    if len(weights) == 1:
        return weights[0]
    largest = max(weight.shape[-1] for weight in weights)
    return torch.cat([F.pad(w, [(largest - w.shape[-1]) // 2] * 4) for w in weights])


def _windowed_conv(x, bias, *weights):
    return _conv(x, _merge(weights).to(x.dtype), bias.to(x.dtype))


def _windowed_gradients(x, weights, grad, needs_x, needs_bias, needs_weights):
    """Compute the gradients, those of the weights for each window by itself.

    That of one 7x7 kernel over all channels takes on a CPU 20 times as long as the convolution
    (320 channels, 64x64).
    """
    grad_x = _conv(grad, _merge(weights).flip(2, 3).to(grad.dtype), None) if needs_x else None
    grad_bias = grad.sum((0, 2, 3)) if needs_bias else None
    grad_weights = [None] * len(weights)
    if any(needs_weights):
        widths = [len(weight) for weight in weights]
        parts = zip(weights, x.split(widths, 1), grad.split(widths, 1))
        grad_weights = [
            conv2d_weight(x_part, w.shape, grad_part, padding=w.shape[-1] // 2, groups=len(w))
            for w, x_part, grad_part in parts
        ]
    return grad_x, grad_bias, grad_weights


class _WindowedConv(torch.autograd.Function):
    """One convolution for all windows, also for the gradient of the input."""

    @staticmethod
    def forward(ctx, x, bias, *weights):
        ctx.save_for_backward(x, *weights)
        return _windowed_conv(x, bias, *weights)

    @staticmethod
    def backward(ctx, grad):
        x, *weights = ctx.saved_tensors
        needs_x, needs_bias, *needs_weights = ctx.needs_input_grad
        grad_x, grad_bias, grad_weights = _windowed_gradients(
            x, weights, grad, needs_x, needs_bias, needs_weights
        )
        return grad_x, grad_bias, *grad_weights


# The same as an operator, for the compiler: on a CPU, Inductor of torch 2.11 fails to order the
# strides of the map, a view of the tokens, if it is kept for the backward pass of a convolution
# that it knows and the size of the images changes.


@torch.library.custom_op('mmvitx::depthwise_conv', mutates_args=())
def _conv_operator(x: Tensor, bias: Tensor, weights: Sequence[Tensor]) -> Tensor:
    return _windowed_conv(x, bias, *weights).contiguous(memory_format=torch.channels_last)


@_conv_operator.register_fake
def _(x, bias, weights):
    return torch.empty_like(x, memory_format=torch.channels_last)


def _save(ctx, inputs, output):
    x, _, weights = inputs
    ctx.save_for_backward(x, *weights)


def _backward(ctx, grad):
    x, *weights = ctx.saved_tensors
    return _windowed_gradients(x, weights, grad, *ctx.needs_input_grad)


_conv_operator.register_autograd(_backward, setup_context=_save)


def _compiled_conv(x, bias, *weights):
    return _conv_operator(x, bias, weights)
