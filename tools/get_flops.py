"""Count the parameters and multiply-adds of models, in the papers' form and as they are run here.

python tools/get_flops.py                              all models, as classifiers, at their own size
python tools/get_flops.py coat_small cait_s24 --size 384
python tools/get_flops.py coat_small --dense --size 800 1333

The rule: a multiply-add is one product of a matrix product, linear layer or convolution, those of
attention (queries with keys, weights with values, and CaiT's mixing of heads) included; norms,
activations, softmax, additions and resampling count nothing. The paper's form is the model as its
equations are written: keys and values of all tokens wherever one query attends, every token updated
in every layer, and CoaT's windows as convolutions of their own sizes. What is run gives the same
output with less, or (CoaT's windows, set into one of the largest size) with a little more. A
classifier is counted with a linear head of 1000 classes. Parameters are those of what is built, so
a dense model has those of its pyramid and none of the classifier's.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from mmvitx.engine import launch
from mmvitx.models import backbones
from mmvitx.models.flops import multiply_adds
from mmvitx.models.layers import ClassAttention, WindowedDepthwiseConv
from mmvitx.models.names import find_model

NUM_CLASSES = 1000

# The papers' tables at these sizes: (parameters in millions, GMACs). Sources: arXiv 2104.06399 and
# mlpc-ucsd/CoaT, arXiv 2103.14899, arXiv 2103.17239.
PAPERS = {
    'coat_lite_tiny': (5.7, 1.6),
    'coat_lite_mini': (11, 2.0),
    'coat_lite_small': (20, 4.0),
    'coat_lite_medium': (45, 9.8),
    'coat_tiny': (5.5, 4.4),
    'coat_mini': (10, 6.8),
    'coat_small': (22, 12.6),
    'crossvit_tiny': (7.0, 1.6),
    'crossvit_small': (26.7, 5.6),
    'crossvit_base': (104.7, 21.2),
    'crossvit_9': (8.6, 1.8),
    'crossvit_15': (27.4, 5.8),
    'crossvit_18': (43.3, 9.0),
    'crossvit_9_dagger': (8.8, 2.0),
    'crossvit_15_dagger': (28.2, 6.1),
    'crossvit_18_dagger': (44.3, 9.5),
    'crossvit_15_dagger_384': (28.5, 21.4),
    'crossvit_18_dagger_384': (44.6, 32.4),
    'cait_xxs24': (12.0, 2.5),
    'cait_xxs36': (17.3, 3.8),
    'cait_xs24': (26.6, 5.4),
    'cait_s24': (46.9, 9.4),
    'cait_s36': (68.2, 13.9),
    'cait_m36': (270.9, 53.7),
    'cait_m48_448': (356, 330),
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


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('models', nargs='*', metavar='MODEL', help='as coat_small; default: all')
    parser.add_argument(
        '--size',
        type=int,
        nargs='+',
        metavar='PIXELS',
        help='side, or height and width, of the image',
    )
    parser.add_argument('--dense', action='store_true', help='the backbone of a detector')
    args = parser.parse_args(argv)
    size = launch.read_size(args.size) if args.size else None

    head = ('size', 10), ('params, M', 10), ('GMACs as in paper', 18), ('as run', 8), ('paper', 16)
    print(' ' * 24, *(f'{title:>{width}}' for title, width in head))
    for name in args.models or PAPERS:
        counts = count(name, size, args.dense)
        own = find_model(name)[2]
        height, width = size or (own, own)
        theirs = PAPERS.get(name) if not args.dense and size in (None, (own, own)) else None
        print(
            f'{name:24} {f"{height}x{width}":>10} {counts.params / 1e6:10.1f} '
            f'{counts.paper / 1e9:18.2f} {counts.run / 1e9:8.2f} '
            f'{f"{theirs[0]}M {theirs[1]}" if theirs else "":>16}'
        )


if __name__ == '__main__':
    launch.run(main)
