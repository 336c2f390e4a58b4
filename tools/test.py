"""Evaluate a checkpoint by a config of MMDetection, MMSegmentation or MMPretrain."""

from __future__ import annotations

import argparse

from mmvitx.engine import cli


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    cli.add_arguments(parser)
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='file with the weights; default: the best checkpoint in the work dir, or the newest',
    )
    parser.add_argument(
        '--allow-missing',
        action='store_true',
        help='evaluate even if the checkpoint has no weights for a part of the model',
    )
    parser.add_argument('--classwise', action='store_true', help='a table by class as well')
    parser.add_argument(
        '--tta',
        action='store_true',
        help="test-time augmentation: the config's tta_model and tta_pipeline, or flipping; of "
        'detectors only the boxes are merged, and evaluated',
    )
    cli.add_check_arguments(parser)
    parser.add_argument('--out', metavar='FILE.pkl', help='write the predictions to this file')
    parser.add_argument('--show-dir', metavar='DIR', help='draw the predictions into this folder')
    # an optional positional may stand behind options, too
    return parser.parse_intermixed_args(argv)


def main(argv: list[str] | None = None) -> dict[str, float] | None:
    """Evaluate.

    Args:
        argv: The command line; default: that of the process.

    Returns:
        The metrics by name; None with ``--check``.

    Raises:
        UserError: If something that the user gave does not fit.
    """
    args = parse_args(argv)
    from mmvitx.apis.configs import read_config
    from mmvitx.engine import evaluation, launch, resume
    from mmvitx.errors import UserError

    cfg, notes = read_config(args)
    cfg.load_from, cfg.resume = args.checkpoint or resume.find_weights(cfg.work_dir), False
    if cfg.load_from is None:
        raise UserError(f'there is no checkpoint in {cfg.work_dir}: name one, or a work dir')
    if not cfg.get('test_evaluator'):
        raise UserError(f'the config {args.config} has no test_evaluator, so nothing to evaluate')
    if not isinstance(cfg.test_evaluator, list):
        cfg.test_evaluator = [cfg.test_evaluator]

    if args.classwise:
        evaluation.evaluate_by_class(cfg)
    if args.tta:
        evaluation.augment(cfg)
    if args.out:
        evaluation.write_predictions(cfg, args.out)
    pictures = evaluation.draw(cfg, args.show_dir) if args.show_dir else None

    if args.check:
        return launch.check(cfg, 'test', notes=notes)
    runner = launch.build_runner(cfg, 'test', notes=notes, check=not args.no_check)
    if not args.allow_missing:
        runner.register_hook(evaluation.RequireWeights())
    metrics = launch.test(runner, not args.no_check)
    if cli.is_first_process():
        for what, path in (('predictions', args.out), ('pictures', pictures)):
            if path:
                print(f'{what}: {path}')
    return metrics


if __name__ == '__main__':
    cli.run(main)
