"""Convert a published checkpoint to mmengine's format and our names.

python tools/convert_checkpoint.py mmvitx://coat_small coat_small.pth
python tools/convert_checkpoint.py coat_small_7479cf9b.pth coat_small.pth --dry-run

It reads the ImageNet checkpoints of the authors and of timm (pth or safetensors) and the authors'
detectors; which of these a file is, the names in it tell. A config can name such a file as it is:
converting is for programs that know nothing of this package, and for looking at the names.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmvitx.engine import cli

if TYPE_CHECKING:
    from mmvitx.checkpoints.official import Converted


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', metavar='IN', help='a file, an address or mmvitx://NAME')
    parser.add_argument('target', metavar='OUT', type=Path, help='the file to write')
    parser.add_argument(
        '--dry-run', action='store_true', help='only show what becomes of each name'
    )
    parser.add_argument('--force', action='store_true', help='overwrite OUT')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Convert.

    Args:
        argv: The command line; default: that of the process.

    Raises:
        UserError: IN cannot be read or is no published checkpoint, or OUT cannot be written.
    """
    args = parse_args(argv)
    from mmvitx.checkpoints.schemes import find_weights, read_checkpoint
    from mmvitx.engine.files import check_target
    from mmvitx.errors import UserError

    if not args.dry_run:
        check_target(args.target, args.force)
    checkpoint, converted = read_checkpoint(args.source)
    if converted is None:
        names = list(find_weights(checkpoint))
        what = f'its {len(names)} tensors begin with {names[0]}' if names else 'it has no tensors'
        raise UserError(
            f'{args.source} is no checkpoint of the authors or of timm ({what}): one of mmengine '
            'needs no conversion, and other models are not known here'
        )
    if args.dry_run:
        print_names(converted)
    print(converted.report())
    if not args.dry_run:
        write(checkpoint, args.target)
        print(f'written: {args.target}')


def write(checkpoint: dict, target: Path) -> None:
    """Write a file: whole, or not at all.

    Raises:
        UserError: The folder cannot be written.
    """
    import torch

    from mmvitx.engine.files import unfinished
    from mmvitx.errors import UserError

    try:
        with unfinished(target) as path:
            torch.save(checkpoint, path)
    except RuntimeError as e:  # torch's own zip writer raises it
        if isinstance(e, UserError):
            raise
        raise UserError(f'{target} cannot be written: {e}') from e


def print_names(converted: Converted) -> None:
    """Print what becomes of each name: what is taken, then copies and what is dropped."""
    became = {
        **converted.renamed,
        **{name: f'{ours} (copy)' for name, ours in converted.copies.items()},
        **dict.fromkeys(converted.unknown, '(dropped)'),
    }
    width = max(map(len, became))
    for name, ours in became.items():
        print(f'{name:{width}}  ->  {ours}')


if __name__ == '__main__':
    cli.run(main)
