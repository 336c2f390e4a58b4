"""Compare our models with what the authors' own code answers on seeded weights.

python tools/check_parity.py tests/data/parity/*.json

Printed is, for each run of a file, the largest difference over the standard deviation;
mmvitx/engine/parity.py says what a file holds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmvitx.engine import cli


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('files', nargs='+', type=Path, metavar='FILE.json')
    parser.add_argument(
        '--tolerance',
        type=float,
        default=1e-4,
        help='largest difference over the standard deviation that passes (default: %(default)s)',
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Check files; the exit status is 0 if every run of every file is within the tolerance."""
    args = parse_args(argv)
    from mmengine.registry import init_default_scope

    from mmvitx.engine.parity import check
    from mmvitx.errors import UserError

    init_default_scope('mmpretrain')
    failed = False
    for path in args.files:
        try:
            results = check(path)
        except UserError as error:
            print(f'{path.name}: error: {error}.', file=sys.stderr)
            failed = True
            continue
        for name, worst in results:
            passed = worst <= args.tolerance  # false for nan
            failed |= not passed
            print(f'{path.stem:24} {name:24} {worst:.1e}  {"ok" if passed else "FAILED"}')
    return int(failed)


if __name__ == '__main__':
    cli.run(lambda: sys.exit(main()))
