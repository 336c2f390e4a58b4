"""Look at the data of a config of MMDetection, MMSegmentation or MMPretrain.

python tools/browse.py configs/mask_rcnn_coat_lite_small_1x_coco.py
python tools/browse.py configs/mask_rcnn_coat_lite_small_1x_coco.py --speed

It draws some samples of each split as the pipeline makes them, with their boxes, masks or labels,
into <work dir>/samples_<split>.jpg, and prints the files that they came from. --speed measures
instead how many images per second the pipeline gives on one core and how many the model takes, and
says how many workers keep the model fed; with --split it does both.
"""

from __future__ import annotations

import argparse

from mmvitx.engine import cli


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cli.add_arguments(parser)
    parser.add_argument(
        '--split',
        nargs='+',
        choices=('train', 'val', 'test'),
        default=[],
        help='draw only these; default: those of the config, without test if it equals val',
    )
    parser.add_argument('--speed', action='store_true', help='measure the speed')
    parser.add_argument(
        '--samples',
        type=int,
        metavar='N',
        help='samples to draw of each split, at most 64 (default: 8), and images that the pipeline '
        'is timed on (default: 64)',
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Draw and measure.

    See :func:`mmvitx.engine.sheets.draw_sheet` and :func:`mmvitx.apis.speed.measure_speed`.

    Raises:
        UserError: If something that the user gave does not fit.
    """
    args = parse_args(argv)
    from pathlib import Path

    from mmvitx.apis.browse import build_datasets
    from mmvitx.apis.configs import read_config
    from mmvitx.apis.speed import measure_speed
    from mmvitx.datasets.description import describe
    from mmvitx.engine.sheets import draw_sheet
    from mmvitx.errors import UserError

    if args.samples is not None and args.samples < 1:
        raise UserError(f'--samples {args.samples}: expected at least 1')
    cfg, _ = read_config(args)
    if args.split or not args.speed:
        for split, dataset in build_datasets(cfg, args.split):
            print(*describe(dataset, split), sep='\n')
            path = Path(cfg.work_dir, f'samples_{split}.jpg')
            opened = draw_sheet(dataset, cfg.default_scope, path, args.samples or 8)
            if path.is_file():
                print(f'{split}: {path}', *opened, sep='\n  ')
    if args.speed:
        print(*measure_speed(cfg, args.samples or 64), sep='\n')


if __name__ == '__main__':
    cli.run(main)
