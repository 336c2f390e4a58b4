"""Train the model of a config of MMDetection, MMSegmentation or MMPretrain."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from mmvitx.engine import cli

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.runner import Runner


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    cli.add_arguments(parser)
    parser.add_argument(
        '--keep-optimizer',
        action='store_true',
        help="train the model of --backbone by the config's own optimizer and schedule",
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint, or from the newest in the work dir if there is one',
    )
    parser.add_argument(
        '--from-scratch',
        action='store_true',
        help='start from random weights, even if the config names weights to start from',
    )
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate by the batch size over all processes to the config's "
        'auto_scale_lr.base_batch_size',
    )
    parser.add_argument(
        '--no-nan-check',
        action='store_true',
        help='go on if the loss or the norm of the gradients stays NaN or infinite',
    )
    cli.add_check_arguments(parser)
    parser.add_argument('--seed', type=int, help='makes a run repeatable')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> Runner | None:
    """Train.

    Args:
        argv: The command line; default: that of the process.

    Returns:
        The runner after the training, with the model in it; None with ``--check``.

    Raises:
        UserError: If something that the user gave does not fit.
    """
    args = parse_args(argv)
    from mmvitx.apis.configs import read_config
    from mmvitx.engine import launch

    cfg, notes = read_config(args, args.keep_optimizer, args.from_scratch)
    apply_arguments(cfg, args)
    settings = dict(notes=notes, from_scratch=args.from_scratch, check=not args.no_check)
    if args.check:
        return launch.check(cfg, 'train', 'val', **settings)
    runner = launch.build_runner(cfg, 'train', 'val', **settings)
    words = sys.argv if argv is None else ['tools/train.py', *argv]
    launch.train(runner, cli.repeat_command(words), not args.no_check)
    return runner


def apply_arguments(cfg: Config, args: argparse.Namespace) -> None:
    from mmvitx.engine import launch, resume
    from mmvitx.errors import UserError

    if args.from_scratch:
        launch.start_from_scratch(cfg)
    if args.amp:
        launch.check_amp()
        wrapper = (cfg.get('optim_wrapper') or {}).get('type', 'OptimWrapper')
        if wrapper not in ('OptimWrapper', 'AmpOptimWrapper'):
            raise UserError(f'--amp cannot replace the optim_wrapper {wrapper}')
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise UserError(
                '--auto-scale-lr needs to know the batch size that the learning rate is meant for: '
                'add auto_scale_lr=dict(base_batch_size=16) to the config'
            )
        cfg.auto_scale_lr.enable = True
    if args.seed is not None:
        cfg.randomness = {**cfg.get('randomness', {}), 'seed': args.seed}
    if not args.no_nan_check:
        launch.add_hook(cfg, 'mmvitx.FiniteHook')
    if args.resume not in (None, 'auto'):
        cfg.resume, cfg.load_from = True, args.resume
    elif args.resume or (cfg.get('resume') and not cfg.get('load_from')):
        resume.choose_checkpoint(cfg)


if __name__ == '__main__':
    cli.run(main)
