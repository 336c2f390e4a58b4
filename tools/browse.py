"""Look at the training data of a config of MMDetection, MMSegmentation or MMPretrain.

python tools/browse.py configs/mask_rcnn_coat_lite_small_1x_coco.py --speed

--speed measures how many images per second the pipeline gives on one core and how many the model
takes, and says how many workers keep the model fed.
"""

from __future__ import annotations

import argparse

from mmvitx.engine import cli


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cli.add_arguments(parser)
    parser.add_argument('--speed', action='store_true', required=True, help='measure the speed')
    parser.add_argument(
        '--samples',
        type=int,
        default=64,
        metavar='N',
        help='images that the pipeline is timed on (default: %(default)s)',
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Measure; see :func:`mmvitx.apis.speed.measure_speed`."""
    args = parse_args(argv)
    from mmvitx.apis.configs import read_config
    from mmvitx.apis.speed import measure_speed

    cfg, _ = read_config(args)
    print(*measure_speed(cfg, args.samples), sep='\n')


if __name__ == '__main__':
    cli.run(main)
