"""Export a backbone for images of any size and number, and check the file against the model.

python tools/export.py coat_lite_small --checkpoint mmvitx://coat_lite_small --out coat.onnx
python tools/export.py cait_xxs24 --out-type cls_token --out cait.pt2

What the file gives at sizes other than the traced one is compared with the model. docs/export.md
says how to use the files, and what their limits are.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmvitx.engine import cli


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('arch', metavar='MODEL', help='as coat_small, crossvit_9_dagger')
    parser.add_argument(
        '--out', type=Path, required=True, metavar='FILE', help='the file to write: *.onnx or *.pt2'
    )
    parser.add_argument(
        '--checkpoint', help='weights: a file, also of a detector, an address or mmvitx://NAME'
    )
    parser.add_argument('--out-type', choices=('featmap', 'cls_token', 'raw'), default='featmap')
    parser.add_argument(
        '--out-indices', type=int, nargs='+', metavar='LEVEL', help='pyramid levels; default: all'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=cli.KeyValue,
        default={},
        metavar='KEY=VALUE',
        help='more settings of the backbone, such as img_size=384',
    )
    parser.add_argument('--opset', type=int, help="of ONNX; default: PyTorch's")
    parser.add_argument('--force', action='store_true', help='overwrite FILE')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Export; see :func:`mmvitx.engine.export.export`."""
    args = parse_args(argv)
    from mmvitx.engine.export import export

    settings = dict(args.cfg_options)
    if args.out_indices:
        settings['out_indices'] = tuple(args.out_indices)
    export(args.arch, args.out, args.checkpoint, args.out_type, settings, args.opset, args.force)


if __name__ == '__main__':
    cli.run(main)
