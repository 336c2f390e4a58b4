"""Talking-heads attention of CaiT, over blocks of queries."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .linear import call_linear
from .recording import is_exporting

# A block holds as many rows of the heads' score matrices as fit into so many bytes: on a CPU a few
# MB, so that they stay in the cache between one operation and the next; elsewhere what a device
# need not wait for. Of 0.1 to 16 MB, 1 to 4 are the fastest on a CPU for 576, 1296 and 4200 tokens
# (8 heads, float32, one and two threads), as long as a block has some 32 rows.
BLOCK_BYTES = {'cpu': 3 << 20}
BLOCK_BYTES_ELSEWHERE = 128 << 20
MIN_ROWS = 32


def talking_heads_attention(
    qkv: Tensor, pre_weight: Tensor, pre_bias: Tensor, post_weight: Tensor, post_bias: Tensor
) -> Tensor:
    r"""Attend with heads that are mixed before and after the softmax.

    .. math::
        P_g = \mathrm{softmax}(\sum_h W^l_{gh} \, q_h k_h^\top / \sqrt{d} + b^l_g), \quad
        o_h = (\sum_g W^w_{hg} P_g + b^w_h) \, v_h

    It works on blocks of queries, each with its softmax over all keys, and in the backward pass
    computes the blocks again: the N x N matrices of the heads are never held, and memory grows with
    N, in training too. Scores and softmax are float32, or float64 for float64; what is
    multiplied with values or gradients is rounded to their dtype, but not to float16 on a CPU. The
    bias :math:`b^l` adds the same to all scores of a query, which the softmax takes away: it has no
    effect and an exact zero for its gradient.

    To ``torch.compile`` it is one operator. When a model is exported or traced, it is the form with
    whole matrices, of plain operators (:func:`whole_matrix_attention`).

    Args:
        qkv: Queries, keys and values (B, N, 3, h, d).
        pre_weight: :math:`W^l`, (h, h).
        pre_bias: :math:`b^l`, (h,).
        post_weight: :math:`W^w`, (h, h).
        post_bias: :math:`b^w`, (h,).

    Returns:
        (B, N, h * d), of the dtype of ``qkv``. O(N^2 C) operations.

    Source: arXiv 2003.02436; ``Attention_talking_head`` in CaiT's ``cait_models.py``.
    """
    if is_exporting():
        return whole_matrix_attention(qkv, pre_weight, pre_bias, post_weight, post_bias)
    return _attend(qkv, pre_weight, pre_bias, post_weight, post_bias)


def whole_matrix_attention(
    qkv: Tensor, pre_weight: Tensor, pre_bias: Tensor, post_weight: Tensor, post_bias: Tensor
) -> Tensor:
    """Compute :func:`talking_heads_attention` as the equation stands, in O(N^2 h) memory."""
    with torch.autocast(qkv.device.type, enabled=False):
        dtype = _compute_dtype(qkv)
        pre_weight, pre_bias, post_weight, post_bias = (
            t.to(dtype) for t in (pre_weight, pre_bias, post_weight, post_bias)
        )
        q, k, v = qkv.to(dtype).permute(2, 0, 3, 1, 4).unbind()  # (B, h, N, d) each
        scores = q * q.shape[-1] ** -0.5 @ k.transpose(2, 3)  # (B, h, N, N)
        scores = (pre_weight @ scores.flatten(2) + pre_bias[:, None]).view_as(scores)
        weights = scores.softmax(-1)
        weights = (post_weight @ weights.flatten(2) + post_bias[:, None]).view_as(weights)
        return (weights @ v).transpose(1, 2).flatten(2).to(qkv.dtype)


class TalkingHeadsAttention(nn.Module):
    """Self-attention whose heads are mixed before and after the softmax.

    See :func:`talking_heads_attention`.

    Args:
        dim: Channels C.
        num_heads: Heads h; they divide C.
        window_size: Side, in tokens, of the windows of the grid that attend to themselves only;
            None for global attention.
    """

    def __init__(self, dim: int, num_heads: int, window_size: int | None = None):
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj_l = nn.Linear(num_heads, num_heads)
        self.proj_w = nn.Linear(num_heads, num_heads)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Attend.

        Args:
            x: (B, H * W, C).
            size: Their grid (H, W).

        Returns:
            (B, H * W, C).
        """
        qkv = call_linear(self.qkv, x).unflatten(-1, (3, self.num_heads, -1))  # (B, N, 3, h, d)
        if self.window_size is None or max(size) <= self.window_size:
            x = self._attend(qkv)
        else:
            x = self._attend_in_windows(qkv.unflatten(1, size)).flatten(1, 2)
        return call_linear(self.proj, x)

    def _attend(self, qkv):
        mixes = self.proj_l.weight, self.proj_l.bias, self.proj_w.weight, self.proj_w.bias
        return talking_heads_attention(qkv, *mixes)

    def _attend_in_windows(self, qkv):
        """Map (B, H, W, 3, h, d) to (B, H, W, C).

        Windows that the border of the grid cuts are attended to as they are, without padding: the
        rows and columns of whole windows and the rest are up to four batches of equal windows.
        """
        return torch.cat(
            [
                torch.cat([self._attend_in_equal_windows(part) for part in self._cut(rows, 2)], 2)
                for rows in self._cut(qkv, 1)
            ],
            1,
        )

    def _cut(self, x, axis):
        rest = x.shape[axis] % self.window_size
        return [part for part in x.split([x.shape[axis] - rest, rest], axis) if part.shape[axis]]

    def _attend_in_equal_windows(self, qkv):
        height, width = (min(side, self.window_size) for side in qkv.shape[1:3])
        windows = qkv.unflatten(2, (-1, width)).unflatten(1, (-1, height)).transpose(2, 3)
        out = self._attend(windows.flatten(0, 2).flatten(1, 2))  # (B * windows, tokens, C)
        out = out.unflatten(1, (height, width)).unflatten(0, windows.shape[:3])
        return out.transpose(2, 3).flatten(3, 4).flatten(1, 2)


_softmax_backward = torch.ops.aten._softmax_backward_data.out

# The operator. -----------------------------------------------------------------------------------


@torch.library.custom_op('mmvitx::talking_heads_attention', mutates_args=())
def _attend(
    qkv: Tensor, pre_weight: Tensor, pre_bias: Tensor, post_weight: Tensor, post_bias: Tensor
) -> Tensor:
    heads, dim = qkv.shape[3:]
    out = torch.empty_like(qkv[:, :, 0], memory_format=torch.contiguous_format)  # (B, N, h, d)
    with torch.autocast(qkv.device.type, enabled=False):
        dtype, product_dtype = _compute_dtype(qkv), _product_dtype(qkv)
        pre, post = pre_weight.to(dtype) * dim**-0.5, post_weight.to(dtype)
        for items, blocks in _plan(qkv):
            q, k, v = _pack(qkv[items], product_dtype)
            # The bias adds the same to all weights of a query, so the sum of the values to all.
            total = _sum_of_tokens(v, dtype) * _of_items(post_bias.to(dtype), q)
            total = total.to(product_dtype)
            q, k = q.to(dtype), k.to(dtype)
            buffers = _allocate(2, q, blocks)
            for rows in blocks:
                scores, weights = _take(buffers, q, rows)  # (h * b, n, N)
                torch.bmm(q[:, rows], k.mT, out=scores)
                _mix(pre, scores, out=weights)
                torch.softmax(weights, -1, out=scores)
                _mix(post, scores, out=weights)
                attended = torch.baddbmm(total, weights.to(product_dtype), v)
                out[items, rows] = _unpack(attended, heads)
    return out.flatten(2)


@_attend.register_fake
def _(qkv, pre_weight, pre_bias, post_weight, post_bias):
    batch, length, _, heads, dim = qkv.shape
    return qkv.new_empty(batch, length, heads * dim)


@torch.library.custom_op('mmvitx::talking_heads_attention_backward', mutates_args=())
def _attend_backward(
    grad: Tensor, qkv: Tensor, pre_weight: Tensor, post_weight: Tensor, post_bias: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    heads, dim = qkv.shape[3:]
    grad_qkv = torch.empty_like(qkv, memory_format=torch.contiguous_format)
    with torch.autocast(qkv.device.type, enabled=False):
        dtype, product_dtype = _compute_dtype(qkv), _product_dtype(qkv)
        scale = dim**-0.5
        pre, post = pre_weight.to(dtype) * scale, post_weight.to(dtype)
        grad_pre, grad_post = torch.zeros_like(pre), torch.zeros_like(post)
        grad_bias = torch.zeros_like(post_bias, dtype=dtype)
        for items, blocks in _plan(qkv):
            q, k, v = _pack(qkv[items], product_dtype)
            (g,) = _pack(grad[items].unflatten(2, (1, heads, dim)), product_dtype)
            total = _sum_of_tokens(g, dtype)
            bias = total * _sum_of_tokens(v, dtype)
            grad_bias += bias.unflatten(0, (heads, -1)).sum((1, 2, 3))
            exact_q, exact_k = q.to(dtype), k.to(dtype)
            grad_q, grad_k = torch.empty_like(exact_q), torch.zeros_like(exact_k)
            grad_v = (total * _of_items(post_bias.to(dtype), q)).expand_as(v).contiguous()
            buffers = _allocate(4, exact_q, blocks)
            for rows in blocks:
                scores, weights, mixed, grad_weights = _take(buffers, q, rows)  # (h * b, n, N)
                torch.bmm(exact_q[:, rows], exact_k.mT, out=scores)
                _mix(pre, scores, out=mixed)
                torch.softmax(mixed, -1, out=weights)
                _mix(post, weights, out=mixed)
                _add_product(grad_v, mixed.to(product_dtype).mT, g[:, rows])

                grad_mixed = _product(g[:, rows], v.mT, out=mixed)
                grad_post.addmm_(_by_head(grad_mixed, heads), _by_head(weights, heads).mT)
                _mix(post.mT, grad_mixed, out=grad_weights)
                _softmax_backward(grad_weights, weights, -1, dtype, grad_input=mixed)
                grad_pre.addmm_(_by_head(grad_mixed, heads), _by_head(scores, heads).mT)
                grad_scores = _mix(pre.mT, grad_mixed, out=weights).to(product_dtype)
                _product(grad_scores, k, out=grad_q[:, rows])
                _add_product(grad_k, grad_scores.mT, q[:, rows])
            for i, part in enumerate((grad_q, grad_k, grad_v)):
                grad_qkv[items, :, i] = _unpack(part, heads)
    grad_pre = (grad_pre * scale).to(pre_weight.dtype)
    return grad_qkv, grad_pre, grad_post.to(post_weight.dtype), grad_bias.to(post_bias.dtype)


@_attend_backward.register_fake
def _(grad, qkv, pre_weight, post_weight, post_bias):
    grad_qkv = torch.empty_like(qkv, memory_format=torch.contiguous_format)
    return grad_qkv, *(torch.empty_like(t) for t in (pre_weight, post_weight, post_bias))


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _backward(ctx, grad):
    qkv, pre_weight, pre_bias, post_weight, post_bias = ctx.saved_tensors
    grad_qkv, grad_pre, grad_post, grad_bias = _attend_backward(
        grad, qkv, pre_weight, post_weight, post_bias
    )
    return grad_qkv, grad_pre, torch.zeros_like(pre_bias), grad_post, grad_bias


_attend.register_autograd(_backward, setup_context=_save)


def _plan(qkv: Tensor) -> Iterator[tuple[slice, list[slice]]]:
    """Yield slices of the batch, each with the slices of queries that are its blocks.

    Either several whole score matrices fit one block, or one takes several blocks.
    """
    batch, length, _, heads, _ = qkv.shape
    numbers = BLOCK_BYTES.get(qkv.device.type, BLOCK_BYTES_ELSEWHERE) // 4
    items = max(1, numbers // (heads * length**2))
    blocks = -(-length // max(MIN_ROWS, numbers // (heads * length)))
    rows = -(-length // blocks)
    blocks = [slice(start, min(start + rows, length)) for start in range(0, length, rows)]
    for start in range(0, batch, items):
        yield slice(start, start + items), blocks


def _pack(x, dtype):
    """Take (b, N, i, h, d) to i tensors (h * b, N, d), contiguous."""
    return x.permute(2, 3, 0, 1, 4).to(dtype).contiguous().flatten(1, 2)


def _unpack(x, heads):
    """Take (h * b, n, d) to (b, n, h, d)."""
    return x.unflatten(0, (heads, -1)).permute(1, 2, 0, 3)


def _allocate(count, q, blocks):
    """Make flat buffers for the matrices of a block, which all blocks use: new memory is slow."""
    return [q.new_empty(len(q) * blocks[0].stop * q.shape[1]) for _ in range(count)]


def _take(buffers, q, rows):
    """Take as much of the buffers as a block needs, as (h * b, n, N)."""
    shape = len(q), rows.stop - rows.start, q.shape[1]
    return [buffer[: math.prod(shape)].view(shape) for buffer in buffers]


def _product(a, b, out):
    """Multiply matrices; ``out`` may be of higher precision."""
    return torch.bmm(a, b, out=out) if a.dtype == out.dtype else out.copy_(torch.bmm(a, b))


def _add_product(total, a, b):
    """Add a product of matrices to ``total``, which may be of higher precision."""
    if a.dtype == total.dtype:
        total.baddbmm_(a, b)
    else:
        total += torch.bmm(a, b)


def _by_head(x, heads):
    return x.view(heads, -1)


def _mix(weight, x, out):
    """Mix the heads of (h * b, n, N): one matrix product."""
    torch.mm(weight, _by_head(x, len(weight)), out=_by_head(out, len(weight)))
    return out


def _of_items(bias, x):
    """Take (h,) to (h * b, 1, 1)."""
    return bias.repeat_interleave(len(x) // len(bias))[:, None, None]


def _sum_of_tokens(x, dtype):
    return x.sum(1, keepdim=True, dtype=dtype)


def _compute_dtype(x):
    """Give the dtype of scores and softmax."""
    return torch.promote_types(x.dtype, torch.float32)


def _product_dtype(x):
    """Give the dtype in which all is multiplied but queries and keys.

    A CPU multiplies matrices of float16 20 times slower than those of float32, and those of
    bfloat16 three times faster.
    """
    if x.device.type == 'cpu' and x.dtype == torch.float16:
        return torch.float32
    return x.dtype
