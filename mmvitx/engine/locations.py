"""Which settings of a config an object or a call of the hosts belongs to."""

from __future__ import annotations

from types import FrameType
from typing import Any

from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.dataset import BaseDataset, Compose
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.runner import BaseLoop, LogProcessor, Runner
from torch import nn
from torch.utils.data import DataLoader

from mmvitx.engine.configs import walk

# Methods of the Runner, and the settings that they read.
SETTINGS = {
    'build_model': 'model',
    'build_train_loop': 'train_cfg',
    'build_val_loop': 'val_cfg',
    'build_test_loop': 'test_cfg',
    'build_optim_wrapper': 'optim_wrapper',
    '_check_scheduler_cfg': 'param_scheduler',
    'build_param_scheduler': 'param_scheduler',
    'build_visualizer': 'visualizer',
    'build_log_processor': 'log_processor',
    'build_logger': 'log_level',
    'register_default_hooks': 'default_hooks',
    'register_custom_hooks': 'custom_hooks',
    'set_randomness': 'randomness',
    'setup_env': 'env_cfg',
    'scale_lr': 'auto_scale_lr',
}


class Location:
    """A path into a config, followed along the frames of a traceback from the outside in.

    Args:
        cfg: The config.
        path: Where to begin, as ``train_dataloader``; may be empty.

    Attributes:
        path: The path of the innermost settings so far.
        split: ``train``, ``val`` or ``test``.
        file: The image or label map that a transform was working on, if any.
    """

    def __init__(self, cfg: Config, path: str = ''):
        self.cfg, self.path = cfg, path
        self.split = path.partition('_')[0] or 'train'
        self.file = ''
        self._built = False
        self._names: dict[int, str] = {}  # of the model's modules

    @property
    def settings(self) -> Any:
        """What lies at the path; None if there is nothing."""
        return _get(self.cfg, self.path)

    @property
    def pipeline(self) -> str:
        """Path of the pipeline of the split, or of the loader that has none."""
        loader = f'{self.split}_dataloader'
        paths = (path for path, _ in walk(self.cfg.get(loader), loader))
        return next((path for path in paths if path.endswith('.pipeline')), loader)

    def enter(self, frame: FrameType) -> None:
        """Follow a call."""
        given, name = frame.f_locals, frame.f_code.co_name
        owner, results = given.get('self'), given.get('results')
        if isinstance(results, dict):
            key = 'seg_map_path' if 'LoadAnnotations' in type(owner).__name__ else 'img_path'
            self.file = results.get(key) or self.file
        if isinstance(owner, Runner) and name in SETTINGS:
            self.path = SETTINGS[name]
        elif isinstance(owner, Runner) and name == 'build_evaluator':
            self.path = f'{self.split}_evaluator'
        elif name == 'build_dataloader' and 'dataloader' in given:
            # several may be equal: the outer frames tell which
            names = [f'{split}_dataloader' for split in (self.split, 'train', 'val', 'test')]
            equal = [name for name in names if self.cfg.get(name) == given['dataloader']]
            self.path = next(iter(equal), self.path)
            self.split = self.path.partition('_')[0]
        elif name == 'build_runner_from_cfg':
            self.path = 'runner_type'
        elif name.startswith('build_') and 'cfg' in given and 'registry' in given:
            self._find(given['cfg'])
            self._built = True
        elif isinstance(owner, BaseLoop):
            kind = type(owner).__name__.lower()
            self.split = next((split for split in ('val', 'test') if split in kind), 'train')
            if name != '__init__':
                self.path = f'{self.split}_cfg'
        elif isinstance(owner, Compose):
            step = given.get('transform')
            if step in (given.get('transforms') or ()) and 'pipeline' in (self.settings or ()):
                self.path += f'.pipeline.{list(given["transforms"]).index(step)}'
        elif not self._built:  # else its settings have been found
            self._enter_part(owner)

    def _enter_part(self, owner: Any) -> None:
        if isinstance(owner, nn.Module):
            self._enter_module(owner)
        elif isinstance(owner, DataLoader):
            self.path = f'{self.split}_dataloader'
        elif isinstance(owner, (BaseDataset, BaseTransform)):
            self._find_type(owner, f'{self.split}_dataloader')
        elif isinstance(owner, BaseMetric):
            self._find_type(owner, f'{self.split}_evaluator')
        elif isinstance(owner, Hook):
            self._find_type(owner, 'default_hooks')
            self._find_type(owner, 'custom_hooks')
        elif isinstance(owner, OptimWrapper):
            self.path = 'optim_wrapper'
        elif isinstance(owner, LogProcessor):
            self.path = 'log_processor'
        elif isinstance(owner, _ParamScheduler):
            self.path = 'param_scheduler'
            self._find_type(owner, 'param_scheduler')
        elif self.path:  # an anchor generator, an assigner, ...
            self._find_type(owner, self.path)

    def _enter_module(self, module: nn.Module) -> None:
        if not self._names:
            self._names = {id(each): name for name, each in module.named_modules()}
        name = self._names.get(id(module), '')
        parts = f'model.{name}'.rstrip('.').split('.')
        while parts[1:] and _get(self.cfg, '.'.join(parts)) is None:
            parts.pop()
        self.path = '.'.join(parts)
        if name == 'data_preprocessor' and 'data_preprocessor' in self.cfg:
            self.path = name

    def _find(self, settings: Any) -> None:
        """Find what was built in the part of the config that it belongs to, else anywhere."""
        for start in dict.fromkeys([self.path, '']):
            nodes = [(start, _get(self.cfg, start))] if start else []
            nodes += walk(_get(self.cfg, start), start)
            scores = {path: _likeness(settings, node) for path, node in nodes}
            best = max(scores, key=scores.get, default='')
            if scores.get(best):
                self.path = best
                return

    def _find_type(self, owner: Any, start: str) -> None:
        found = _get(self.cfg, start)
        for path, node in [(start, found), *walk(found, start)]:
            kind = node.get('type') if isinstance(node, dict) else None
            kind = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
            if kind.split('.')[-1] == type(owner).__name__:
                self.path = path
                return


def _get(cfg: Any, path: str) -> Any:
    node = cfg
    for part in filter(None, path.split('.')):
        if isinstance(node, (list, tuple)):
            node = node[int(part)] if part.isdigit() and int(part) < len(node) else None
        else:
            node = node.get(part) if isinstance(node, (dict, Config)) else None
    return dict(node.items()) if node is cfg else node


def _likeness(settings: Any, node: Any) -> int:
    """Count the settings that are as in the config; building adds, changes and removes some."""
    if not (isinstance(settings, dict) and isinstance(node, dict)):
        return int(settings is None and node is None)
    if settings.get('type') != node.get('type'):
        return 0
    return 1 + sum(key in settings and settings[key] == value for key, value in node.items())
