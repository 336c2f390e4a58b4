"""What the options of ``tools/test.py`` make of a config, and which checkpoints it refuses."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmvitx.checkpoints.fitting import unwrap
from mmvitx.checkpoints.official import count_parts
from mmvitx.engine.files import check_folder
from mmvitx.engine.hosts import HOSTS
from mmvitx.errors import UserError


def evaluate_by_class(cfg: Config) -> None:
    """Have a table by class printed as well.

    Raises:
        UserError: The evaluator of a detector has none.
    """
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
    """Have several views of each image tested and merged: those of the config, or two flips."""
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
    """Have the predictions written to a file.

    Raises:
        UserError: It is not named ``*.pkl``, is a folder, or its folder cannot be written.
    """
    if not path.endswith(('.pkl', '.pickle')) or Path(path).is_dir():
        raise UserError(f'--out {path}: expected a file that ends in .pkl, and no folder')
    check_folder(Path(path).resolve().parent, '--out')
    cfg.test_evaluator.append(dict(type=HOSTS[cfg.default_scope].dump, out_file_path=path))


def draw(cfg: Config, folder: str) -> str:
    """Have every image drawn, and say where.

    Raises:
        UserError: The folder cannot be written.
    """
    check_folder(folder, '--show-dir')
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


class RequireWeights(Hook):
    """Refuses to evaluate a model with parameters that the checkpoint did not fill.

    PyTorch counts the in-place writes to each tensor, which shows what was loaded. Comparing names
    would not: hosts rename keys of older checkpoints while loading, and tied parameters have
    several names. Parameters that the model does not save, such as the frozen ones under LoRA, are
    left out.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner: Runner) -> None:
        """Read the counters before the checkpoint is loaded."""
        model = unwrap(runner.model)
        saved = model.state_dict()
        self.counters = {n: p._version for n, p in model.named_parameters() if n in saved}

    def before_test(self, runner: Runner) -> None:
        """Compare the counters after the checkpoint was loaded.

        Raises:
            UserError: A parameter was not written.
        """
        model = unwrap(runner.model)
        counters = {n: p._version for n, p in model.named_parameters()}
        missing = [n for n, before in self.counters.items() if counters[n] == before]
        if missing:
            raise UserError(
                f'{runner.cfg.load_from} has no weights for {len(missing)} of '
                f'{len(self.counters)} parameters of the {type(model).__name__}, '
                f'{count_parts(missing)}: name a checkpoint of the whole model, or evaluate them '
                'as initialized with --allow-missing'
            )
