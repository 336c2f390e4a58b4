"""Make label maps for semantic segmentation out of COCO's instance annotations.

python tools/dataset_converters/coco_instances_to_semantic.py \
    data/coco/annotations/instances_train2017.json data/coco_semantic/train2017

Each image gets a PNG of its size: the class of each pixel, in the order of the file's categories,
255 (ignored) where no object is and inside of crowds; of objects that overlap the smaller one is on
top. The names of the classes are written beside, into classes.txt. Started again, it goes on.
"""

from __future__ import annotations

import argparse
import sys

from mmvitx.engine import cli


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('ann_file', help='instance annotations of COCO or in its format')
    parser.add_argument('out', help='folder for the label maps')
    parser.add_argument('--jobs', type=int, help='processes; default: one a core')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Convert.

    Args:
        argv: The command line; default: that of the process.

    Raises:
        UserError: See :func:`mmvitx.datasets.coco_semantic.convert`.
    """
    args = parse_args(argv)
    from mmvitx.datasets.coco_semantic import convert

    try:
        total, before = convert(args.ann_file, args.out, args.jobs)
    except KeyboardInterrupt:
        print('\ninterrupted: the same command goes on from here', file=sys.stderr)
        sys.exit(130)
    print(f'\n{args.out}: {total} label maps, {before} of which were there already')


if __name__ == '__main__':
    cli.run(main)
