"""Evaluate a checkpoint by a config of MMDetection, MMSegmentation or MMPretrain."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmengine.config import Config, ConfigDict

from mmvitx.engine import launch
from mmvitx.engine.hosts import HOSTS
from mmvitx.errors import UserError


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    launch.add_arguments(parser)
    parser.add_argument('checkpoint', help='file with the weights')
    parser.add_argument('--classwise', action='store_true', help='a table by class as well')
    parser.add_argument(
        '--tta',
        action='store_true',
        help="test-time augmentation: the config's tta_model and tta_pipeline, or flipping; of "
        'detectors only the boxes are merged, and evaluated',
    )
    parser.add_argument('--out', metavar='FILE.pkl', help='write the predictions to this file')
    parser.add_argument('--show-dir', metavar='DIR', help='draw the predictions into this folder')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Evaluate.

    Args:
        argv: The command line; default: that of the process.

    Returns:
        The metrics by name.

    Raises:
        UserError: If something that the user gave does not fit.
    """
    args = parse_args(argv)
    cfg = launch.read_config(args)
    cfg.load_from, cfg.resume = args.checkpoint, False
    if not cfg.get('test_evaluator'):
        raise UserError(f'the config {args.config} has no test_evaluator, so nothing to evaluate')
    if not isinstance(cfg.test_evaluator, list):
        cfg.test_evaluator = [cfg.test_evaluator]

    if args.classwise:
        evaluate_by_class(cfg)
    if args.tta:
        augment(cfg)
    if args.out:
        write_predictions(cfg, args.out)
    pictures = draw(cfg, args.show_dir) if args.show_dir else None

    metrics = launch.build_runner(cfg, 'test').test()
    if launch.is_first_process():
        for what, path in (('predictions', args.out), ('pictures', pictures)):
            if path:
                print(f'{what}: {path}')
    return metrics


def evaluate_by_class(cfg: Config) -> None:
    if cfg.default_scope == 'mmpretrain':
        cfg.test_evaluator.append(
            dict(type='mmpretrain.SingleLabelMetric', average=None, prefix='by-class')
        )
    elif cfg.default_scope == 'mmdet':  # mmseg has this table anyway
        metrics = [metric for metric in cfg.test_evaluator if metric.type.endswith('CocoMetric')]
        if not metrics:
            types = ', '.join(metric.type for metric in cfg.test_evaluator)
            raise UserError(f'--classwise needs a CocoMetric as test_evaluator, but got {types}')
        for metric in metrics:
            metric.classwise = True


def augment(cfg: Config) -> None:
    host = HOSTS[cfg.default_scope]
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset

    pipeline = cfg.get('tta_pipeline')
    if pipeline is None:
        *steps, pack = dataset.pipeline
        pack = {**pack, 'meta_keys': host.tta_meta}
        flips = [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]
        pipeline = [*steps, dict(type='TestTimeAug', transforms=[flips, [pack]])]
    dataset.pipeline = pipeline

    if cfg.default_scope == 'mmdet':
        drop_masks(cfg)
    cfg.model = ConfigDict({**cfg.get('tta_model', host.tta_model), 'module': cfg.model})


def drop_masks(cfg: Config) -> None:
    """Leave out the mask head, which mmdet's test-time augmentation refuses."""
    roi_head = cfg.model.get('roi_head', {})
    if roi_head.get('mask_head'):
        print('test-time augmentation merges boxes only: masks are not evaluated')
        roi_head.mask_head = roi_head.mask_roi_extractor = None
    for metric in cfg.test_evaluator:
        if 'segm' in metric.get('metric', []):
            metric.metric = 'bbox'


def write_predictions(cfg: Config, path: str) -> None:
    if not path.endswith(('.pkl', '.pickle')):
        raise UserError(f'--out {path}: expected a file that ends in .pkl')
    Path(path).resolve().parent.mkdir(parents=True, exist_ok=True)
    cfg.test_evaluator.append(dict(type=HOSTS[cfg.default_scope].dump, out_file_path=path))


def draw(cfg: Config, folder: str) -> str:
    """Have every image drawn, and say where."""
    host = HOSTS[cfg.default_scope]
    folder = str(Path(folder).resolve())  # mmdet puts a relative path under the work dir
    cfg.visualizer = {'type': host.visualizer, **(cfg.get('visualizer') or {})}
    cfg.visualizer.name = f'pictures in {folder}'  # of its own: one that exists keeps its folder
    hook = {**cfg.get('default_hooks', {}).get('visualization', {}), **host.hook}
    if cfg.default_scope == 'mmdet':
        hook['test_out_dir'] = folder
    elif cfg.default_scope == 'mmpretrain':
        hook['out_dir'] = folder
    else:
        cfg.visualizer.update(save_dir=folder, vis_backends=[dict(type='LocalVisBackend')])
    cfg.default_hooks = {**cfg.get('default_hooks', {}), 'visualization': hook}
    return f'{folder}/vis_data/vis_image' if cfg.default_scope == 'mmseg' else folder


if __name__ == '__main__':
    launch.run(main)
