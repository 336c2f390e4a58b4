"""Draw the dataset of handwritten digits that the demo configs train on."""

from __future__ import annotations

import argparse
import sys

from mmvitx.datasets import make_digits
from mmvitx.datasets.digits import TASKS

FOLDERS = {'detection': 'data/digits', 'classification': 'data/single_digits'}


def main(argv: list[str] | None = None) -> None:
    """Draw the dataset, unless it is there already with the same settings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'task',
        nargs='?',
        choices=TASKS,
        default='detection',
        help='several digits on a canvas, with boxes and masks, or one (default: %(default)s)',
    )
    defaults = '; '.join(f'{FOLDERS[name]} for {name}' for name in TASKS)
    parser.add_argument('--out', help=f'folder (default: {defaults})')
    for split, what in (('train', 'train'), ('val', 'evaluate')):
        counts = ', '.join(f'{getattr(task, split)} for {name}' for name, task in TASKS.items())
        parser.add_argument(
            f'--{split}', type=int, help=f'canvases to {what} on (default: {counts})'
        )
    parser.add_argument('--seed', type=int, default=0, help='the same seed, the same files')
    args = parser.parse_args(argv)
    out = args.out or FOLDERS[args.task]
    print(f'digits: {make_digits(out, args.train, args.val, args.seed, args.task)}')


if __name__ == '__main__':
    try:
        main()
    except (ImportError, OSError) as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        sys.exit('\ninterrupted: nothing was written')
