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
from collections.abc import Sequence

from mmvitx.engine import cli

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


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
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
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table."""
    args = parse_args(argv)
    from mmvitx.models.flops import count
    from mmvitx.models.names import find_model

    size = cli.read_size(args.size) if args.size else None

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
    cli.run(main)
