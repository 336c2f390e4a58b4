"""The feed-forward part of a transformer block."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .linear import call_linear, is_plain, linear, needs_gradient, weight_gradient
from .recording import is_recorded

# On a CPU so many bytes of the hidden layer are worked on at a time. Products of fewer rows are
# slower with two threads; what is larger leaves the cache and, new each time, costs page faults.
PIECE_BYTES = 8 << 20


class Mlp(nn.Module):
    """Linear, GELU (exact, by erf), Linear, on the last axis, of tokens that are normed first.

    Tokens of several kinds (scales, class tokens) can go through it together. For the backward pass
    the tokens and the input of the GELU are kept; what the norm and the GELU put out is computed
    again: it is the most that a transformer block holds, and cheap. On a CPU a piece of the tokens
    at a time goes through all of it, forward and backward.

    Args:
        dim: Channels C that go in and come out.
        hidden_dim: Channels in between.
    """

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, groups: Sequence[Tensor], norms: Sequence[nn.LayerNorm]) -> list[Tensor]:
        """Map tokens to tokens.

        Args:
            groups: Tokens (..., C) each.
            norms: The norm of each group.

        Returns:
            Tensors shaped like ``groups``, under autocast of its dtype.
        """
        device = groups[0].device.type
        if (
            is_recorded()
            or not is_plain(self.fc1, self.fc2, *norms)
            or len({norm.eps for norm in norms}) > 1
            or not any(x.numel() for x in groups)
            or not torch.amp.is_autocast_available(device)  # meta tensors
        ):
            hidden = (call_linear(self.fc1, norm(x)) for x, norm in zip(groups, norms))
            return [call_linear(self.fc2, F.gelu(x)) for x in hidden]
        dtype = self.fc1.weight.dtype
        if torch.is_autocast_enabled(device) and dtype != torch.float64:
            dtype = torch.get_autocast_dtype(device)
        layers = self.fc1, self.fc2, *norms
        parameters = (parameter for layer in layers for parameter in (layer.weight, layer.bias))
        tensors = *parameters, *groups
        with torch.autocast(device, enabled=False):
            if needs_gradient(*tensors):
                return list(_NormMlp.apply(norms[0].eps, dtype, len(groups), *tensors))
            return _forward(norms[0].eps, dtype, len(groups), *tensors)


def _forward(eps, dtype, num_groups, *tensors, keep=None):
    """Give the outputs; append the input of the GELU, piece by piece, to the list ``keep``."""
    linears, norms, groups = _unpack(num_groups, tensors)
    w1, b1, w2, b2 = (parameter.to(dtype) for parameter in linears)
    flat = [x.reshape(-1, x.shape[-1]) for x in groups]
    lengths = [len(x) for x in flat]
    outs = []
    for parts in _cut(lengths, w1):
        x = _join([_norm(flat[i][rows], norms[i], eps)[0] for i, rows in parts])
        x = linear(x.to(dtype), w1, b1)
        if keep is None:
            torch.ops.aten.gelu_(x)
        else:
            keep.append(x)
            x = F.gelu(x)
        outs.append(linear(x, w2, b2))
    return [out.view(x.shape) for out, x in zip(_join(outs).split(lengths), groups)]


class _NormMlp(torch.autograd.Function):
    """The MLP of normed tokens, that keeps the tokens and the input of the GELU."""

    @staticmethod
    def forward(ctx, eps, dtype, num_groups, *tensors):
        ctx.settings = eps, dtype, num_groups
        hidden = []
        outs = _forward(*ctx.settings, *tensors, keep=hidden)
        ctx.save_for_backward(*tensors, *hidden)
        return tuple(outs)

    @staticmethod
    def backward(ctx, *grads):
        eps, dtype, num_groups = ctx.settings
        needs = ctx.needs_input_grad[3:]
        saved = ctx.saved_tensors
        tensors, hidden = saved[: len(needs)], saved[len(needs) :]
        if torch.is_grad_enabled():  # second derivatives are asked for: those of plain operations
            # by a name of its own each, as one norm may serve several groups
            tensors = [tensor.view_as(tensor) for tensor in tensors]
            wanted = [tensor for tensor, need in zip(tensors, needs) if need]
            outs = _plain(*ctx.settings, *tensors)
            found = iter(torch.autograd.grad(outs, wanted, grads, create_graph=True))
            return None, None, None, *(next(found) if need else None for need in needs)

        linears, norms, groups = _unpack(num_groups, tensors)
        w1, w2 = (weight.to(dtype) for weight in linears[::2])
        flat, flat_grads = ([x.reshape(-1, x.shape[-1]) for x in xs] for xs in (groups, grads))
        dtypes = [torch.promote_types(t.dtype, torch.float32) for t in tensors[:-num_groups]]
        dtypes += [x.dtype for x in groups]  # the others are sums over the pieces
        found = [
            torch.zeros(t.shape, dtype=kind, device=t.device) if need else None
            for t, kind, need in zip(tensors, dtypes, needs)
        ]
        (grad_w1, grad_b1, grad_w2, grad_b2), grad_norms, grad_groups = _unpack(num_groups, found)
        for parts, h in zip(_cut([len(x) for x in flat], w1), hidden):
            normed = [_norm(flat[i][rows], norms[i], eps) for i, rows in parts]
            g = _join([flat_grads[i][rows] for i, rows in parts])
            _add_product(grad_w2, F.gelu(h), g)
            _add_sum(grad_b2, g)
            g = linear(g, w2.mT)
            g = torch.ops.aten.gelu_backward.grad_input(g, h, grad_input=g)
            _add_product(grad_w1, _join([y for y, *_ in normed]).to(dtype), g)
            _add_sum(grad_b1, g)
            if not any(needs[4:]):
                continue
            g = linear(g, w1.mT).split([len(y) for y, *_ in normed])
            for (i, rows), (_, mean, rstd), grad in zip(parts, normed, g):
                weight, bias = norms[i]
                grad_x, *grad_norm = torch.ops.aten.native_layer_norm_backward(
                    grad.to(flat[i].dtype),
                    flat[i][rows],
                    weight.shape,
                    mean,
                    rstd,
                    weight,
                    bias,
                    (True,) * 3,
                )
                if grad_groups[i] is not None:
                    grad_groups[i].view_as(flat[i])[rows] = grad_x
                for total, grad in zip(grad_norms[i], grad_norm):
                    if total is not None:
                        total += grad
        return None, None, None, *found


def _plain(eps, dtype, num_groups, *tensors):
    linears, norms, groups = _unpack(num_groups, tensors)
    w1, b1, w2, b2 = (parameter.to(dtype) for parameter in linears)
    normed = (_norm(x, norm, eps)[0].to(dtype) for x, norm in zip(groups, norms))
    return [F.linear(F.gelu(F.linear(x, w1, b1)), w2, b2) for x in normed]


def _unpack(num_groups, tensors):
    """Part what is of the linear layers, of each norm, and of each group."""
    linears, norms, groups = tensors[:4], tensors[4:-num_groups], tensors[-num_groups:]
    return linears, list(zip(norms[::2], norms[1::2])), groups


def _cut(lengths, weight):
    """Cut the rows of several matrices, as if they were one, into pieces.

    All is one piece where there is no small cache to stay in.

    Yields:
        The parts of a piece, as pairs of a matrix's index and a slice of its rows.
    """
    total = sum(lengths)
    num_pieces = 1
    if weight.device.type == 'cpu':
        num_pieces = -(-total * len(weight) * weight.dtype.itemsize // PIECE_BYTES)
    size = -(-total // num_pieces)
    for start in range(0, total, size):
        parts, offset = [], 0
        for i, length in enumerate(lengths):
            low, high = max(start - offset, 0), min(start + size - offset, length)
            if low < high:
                parts.append((i, slice(low, high)))
            offset += length
        yield parts


def _norm(x, norm, eps):
    return torch.native_layer_norm(x, norm[0].shape, *norm, eps)


def _join(parts):
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _add_product(total, x, grad):
    """Add the gradient (C_out, C_in) of a weight to ``total``, unless that is None."""
    if total is not None:
        total += weight_gradient(x, grad)


def _add_sum(total, grad):
    if total is not None:
        total += grad.sum(0)
