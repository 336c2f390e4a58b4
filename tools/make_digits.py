"""Draw the dataset of handwritten digits that the demo configs train on."""

from __future__ import annotations

import argparse
import sys

from mmvitx.datasets import make_digits


def main(argv: list[str] | None = None) -> None:
    """Draw the dataset, unless it is there already with the same settings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', default='data/digits', help='folder (default: %(default)s)')
    parser.add_argument('--train', type=int, default=1200, help='canvases to train on')
    parser.add_argument('--val', type=int, default=150, help='canvases to evaluate on')
    parser.add_argument('--seed', type=int, default=0, help='the same seed, the same files')
    args = parser.parse_args(argv)
    print(f'digits: {make_digits(args.out, args.train, args.val, args.seed)}')


if __name__ == '__main__':
    try:
        main()
    except (ImportError, OSError) as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        sys.exit('\ninterrupted: nothing was written')
