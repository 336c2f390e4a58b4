"""Draw the dataset of handwritten digits that the demo configs train on."""

from __future__ import annotations

import argparse

from mmvitx.engine import cli

FOLDERS = {'detection': 'data/digits', 'classification': 'data/single_digits'}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'task',
        nargs='?',
        choices=FOLDERS,
        default='detection',
        help='several digits on a canvas, with boxes and masks, or one (default: %(default)s)',
    )
    defaults = '; '.join(f'{folder} for {name}' for name, folder in FOLDERS.items())
    parser.add_argument('--out', help=f'folder (default: {defaults})')
    for split, what in (('train', 'train'), ('val', 'evaluate')):
        parser.add_argument(
            f'--{split}', type=int, help=f'canvases to {what} on (default: what the demos need)'
        )
    parser.add_argument('--seed', type=int, default=0, help='the same seed, the same files')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Draw the dataset, unless it is there already with the same settings.

    Raises:
        UserError: An option does not fit, it cannot be written, or a package is missing.
    """
    args = parse_args(argv)
    from pathlib import Path

    from mmvitx.datasets import make_digits
    from mmvitx.engine.files import check_folder
    from mmvitx.errors import UserError

    for option, least in dict(train=1, val=1, seed=0).items():
        number = getattr(args, option)
        if number is not None and number < least:
            raise UserError(f'--{option} {number}: expected at least {least}')
    out = args.out or FOLDERS[args.task]
    if Path(out).is_file():
        raise UserError(f'--out {out} is a file: name a folder')
    check_folder(Path(out).resolve().parent, '--out')
    try:
        print(f'digits: {make_digits(out, args.train, args.val, args.seed, args.task)}')
    except (ImportError, OSError) as e:
        raise UserError(str(e)) from e


if __name__ == '__main__':
    cli.run(main)
