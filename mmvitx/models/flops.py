"""Counting multiply-adds: one is a product of a matrix product, linear layer or convolution."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmvitx.models import backbones
from mmvitx.models.layers import ClassAttention, WindowedDepthwiseConv
from mmvitx.models.names import find_model

NUM_CLASSES = 1000


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


class Counts(NamedTuple):
    """Parameters, and multiply-adds in the paper's form and as run."""

    params: int
    paper: int
    run: int


def count(name: str, size: Sequence[int] | None = None, dense: bool = False) -> Counts:
    """Count a model for one image.

    Args:
        name: As ``coat_small``, or a published name with a size in it, as ``coat_lite_medium_384``.
        size: Height and width of the image; by default that of the paper's table, or of the name.
        dense: Whether the maps of the pyramid are asked for, not the classes.

    Raises:
        UserError: There is no model of that name.
    """
    family, arch, own_size = find_model(name)
    height, width = size or (own_size, own_size)
    settings = {} if family is backbones.CoaT else dict(img_size=own_size)
    with FakeTensorMode():  # shapes without data
        image = torch.empty(1, 3, height, width)
        model = family(arch, out_type='featmap' if dense else 'cls_token', **settings)
        model = model.eval()
        head = nn.Identity() if dense else nn.Linear(model.out_channels[0], NUM_CLASSES)
        run = multiply_adds(lambda: head(model(image)[0]))
        with textbook_form():
            paper = multiply_adds(lambda: head(model(image)[0]))
            if family is backbones.CoaT and not dense:
                # With its raw tokens asked for, it updates all of them in every layer.
                raw = family(arch, out_type='raw').eval()
                paper = multiply_adds(lambda: raw(image)) + head.weight.numel()
    params = sum(p.numel() for part in (model, head) for p in part.parameters())
    return Counts(params, paper, run)


@contextmanager
def textbook_form() -> Iterator[None]:
    """Let the layers that are run in another form than the papers' run in theirs."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(ClassAttention, 'forward', class_attention))
        stack.enter_context(mock.patch.object(WindowedDepthwiseConv, 'forward', windows))
        yield


def class_attention(self: ClassAttention, query: Tensor, tokens: Tensor) -> Tensor:
    """Attend with one query, keys and values computed of all tokens."""
    q, k, v = (
        layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        for layer, x in ((self.q, query), (self.k, tokens), (self.v, tokens))
    )
    return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def windows(self: WindowedDepthwiseConv, x: Tensor, size: tuple[int, int]) -> Tensor:
    """Convolve the heads of each window size by themselves."""
    parts = x.split([conv.in_channels for conv in self.convs], -1)
    maps = (part.unflatten(1, size).permute(0, 3, 1, 2) for part in parts)
    return torch.cat([conv(m).flatten(2).mT for conv, m in zip(self.convs, maps)], -1)
