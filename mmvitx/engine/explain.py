"""Errors of the hosts in one sentence: which setting of the config they come from."""

from __future__ import annotations

import difflib
import inspect
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.registry import Registry
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

import mmvitx.registry
from mmvitx.engine.configs import walk
from mmvitx.engine.hosts import HOSTS
from mmvitx.errors import UserError, first_line

# Methods of the Runner, and the settings that they build from.
SETTINGS = {
    'build_model': 'model',
    'build_train_loop': 'train_cfg',
    'build_val_loop': 'val_cfg',
    'build_test_loop': 'test_cfg',
    'build_optim_wrapper': 'optim_wrapper',
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
# Packages whose errors come from what they were given; of other code the traceback is more useful.
PACKAGES = ('mmengine', 'mmcv', 'mmvitx', 'torch', *HOSTS)


def explain(error: Exception, cfg: Config, where: str = '') -> UserError | None:
    """Say which setting of a config an error comes from.

    The frames of the traceback are walked from the outside in: objects that are built from a part
    of the config, modules of the model, transforms, hooks and metrics each stand for a place in it.

    Args:
        error: What a host raised while it built or ran something.
        cfg: The config.
        where: Path of the settings that were being used, as ``train_dataloader``, if it is known.

    Returns:
        One sentence; None if no place is found, or if code of the user's own has raised the error.
    """
    if isinstance(error, UserError):
        return error
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if not frames or not _is_installed(frames[-1]):
        return None
    if isinstance(error, torch.OutOfMemoryError):
        return UserError(
            f'the GPU has too little memory ({first_line(error)}): lower '
            'train_dataloader.batch_size or the size of the images, or recompute activations with '
            'model.backbone.with_cp=True'
        )
    place = _Place(cfg, where)
    for frame in frames:
        place.enter(frame)
    if place.path:
        return UserError(_describe(error, place, frames[-1]))
    if frames[-1].f_globals.get('__name__') == Runner.__module__:  # names the settings by itself
        return UserError(f'the config cannot be run: {_shorten(first_line(error))}')
    return None


class _Place:
    """A path into a config, followed along the frames of a traceback."""

    def __init__(self, cfg: Config, path: str):
        self.cfg, self.path = cfg, path
        self.split = path.partition('_')[0]  # train, val or test
        self.image = ''
        self.names: dict[int, str] = {}  # of the model's modules

    @property
    def settings(self) -> Any:
        return _get(self.cfg, self.path)

    def enter(self, frame: FrameType) -> None:
        """Follow a call."""
        given, name = frame.f_locals, frame.f_code.co_name
        owner = given.get('self')
        results = given.get('results')
        if isinstance(results, dict) and isinstance(results.get('img_path'), str):
            self.image = results['img_path']
        if isinstance(owner, Runner) and name in SETTINGS:
            self.path = SETTINGS[name]
        elif name == 'build_dataloader' and 'dataloader' in given:
            # several may be equal: the outer frames tell which
            names = [f'{split}_dataloader' for split in (self.split, 'train', 'val', 'test')]
            equal = [name for name in names if self.cfg.get(name) == given['dataloader']]
            self.path = next(iter(equal), self.path)
        elif name == 'build_evaluator' and isinstance(owner, Runner):
            self.path = f'{self.split or "val"}_evaluator'
        elif name.startswith('build_') and 'cfg' in given and 'registry' in given:
            self._find(given['cfg'])
        elif isinstance(owner, BaseLoop):
            kind = type(owner).__name__.lower()
            self.split = next((split for split in ('val', 'test') if split in kind), 'train')
        elif name == '__init__':
            pass  # what is built has been found
        elif isinstance(owner, nn.Module):
            self._enter_module(owner)
        elif isinstance(owner, BaseTransform):
            self._find_type(owner, f'{self.split}_dataloader', 'pipeline')
        elif isinstance(owner, BaseMetric):
            self._find_type(owner, f'{self.split}_evaluator')
        elif isinstance(owner, Hook):
            self._find_type(owner, 'default_hooks')
            self._find_type(owner, 'custom_hooks')
        elif isinstance(owner, OptimWrapper):
            self.path = 'optim_wrapper'
        elif isinstance(owner, _ParamScheduler):
            self.path = 'param_scheduler'

    def _enter_module(self, module: nn.Module) -> None:
        if not self.names:
            self.names = {id(each): name for name, each in module.named_modules()}
        parts = f'model.{self.names.get(id(module), "")}'.rstrip('.').split('.')
        while parts[1:] and _get(self.cfg, '.'.join(parts)) is None:
            parts.pop()
        self.path = '.'.join(parts)
        if 'data_preprocessor' in self.cfg and self.names.get(id(module)) == 'data_preprocessor':
            self.path = 'data_preprocessor'

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

    def _find_type(self, owner: Any, start: str, under: str = '') -> None:
        found = _get(self.cfg, start)
        for path, node in [(start, found), *walk(found, start)]:
            kind = node.get('type') if isinstance(node, dict) else None
            kind = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
            if under in path and kind.split('.')[-1] == type(owner).__name__:
                self.path = path
                return


def _get(cfg: Any, path: str) -> Any:
    """Give what lies at a path; None if there is nothing."""
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


def _is_installed(frame: FrameType) -> Any:
    package = str(frame.f_globals.get('__name__')).partition('.')[0]
    path = Path(frame.f_code.co_filename)
    # compiled code names a file that is not there
    return package in PACKAGES or {'site-packages', 'lib'} & {*path.parts} or not path.is_file()


def _describe(error: Exception, place: _Place, frame: FrameType) -> str:
    image = f' (for the image {place.image})' if place.image else ''
    message = _shorten(first_line(error)) if str(error) else f'the check `{_source(error)}` fails'
    if isinstance(error, KeyError):
        message = message.strip('\'"')
    unknown = re.match(r'(\S+) is not in the .* registry', message)
    if unknown:
        names = list(_list_types(frame.f_locals.get('registry')))
        meant = _suggest(unknown[1], names)
        return f'{place.path}.type is {unknown[1]!r}, which is not the name of a type{meant}'
    key = re.search(r"got (?:an unexpected|multiple values for) keyword argument '(\w+)'", message)
    if key and isinstance(place.settings, dict) and key[1] in place.settings:
        kind = frame.f_locals.get('obj_cls', DataLoader)
        known = list(inspect.signature(kind).parameters)
        meant = _suggest(key[1], known) or f'; it takes {", ".join(known)}'
        return f'{place.path}.{key[1]}: {kind.__name__} has no such setting{meant}'
    if place.path.endswith('data_preprocessor') and frame.f_code.co_name != '__init__':
        message += f'; it gets what the pipeline of {place.split or "train"}_dataloader puts out'
    if re.search("no attribute '_?gt_", message):
        message += f'; does the pipeline of {place.split or "train"}_dataloader load annotations?'
    if 'loaded state dict' in message:  # torch, of an optimizer
        message += (
            '; see paramwise_cfg, constructor and frozen_stages, or start from the weights alone, '
            'with --cfg-options load_from=... in place of --resume'
        )
    if isinstance(error, IndexError) and 'class_weight' in (place.settings or {}):
        message += (
            '; MMSegmentation cannot weight classes and ignore labels: leave class_weight out'
        )
    kind = '' if isinstance(error, AssertionError) else f'{type(error).__name__}: '
    return f'{place.path}{_show(place.settings, error, message)}: {kind}{message}{image}'


def _find_key(settings: dict, error: Exception, message: str) -> str | None:
    """Find the setting that a message is about: by its name, or else its value or type."""
    if isinstance(error, (RuntimeError, IndexError)):  # they are about tensors
        return None
    words = re.findall(r"[\w.'-]+", message)
    keys = {key: value for key, value in settings.items() if key not in ('type', '_scope_')}
    named = [word.lower() for word in words if word.lower() in keys]
    if named:
        return named[0]
    for describe in (repr, str, lambda value: f"'{type(value).__name__}'"):
        found = [key for key, value in keys.items() if describe(value) in words]
        if len(found) == 1:
            return found[0]
    return None


def _shorten(text: str) -> str:
    return text if len(text) < 200 else f'{text[:197]}...'


def _source(error: Exception) -> str:
    return traceback.extract_tb(error.__traceback__)[-1].line


def _show(settings: Any, error: Exception, message: str) -> str:
    """Show the setting that is wrong, or else those that are numbers, words or short lists."""
    if isinstance(settings, (dict, list)):
        key = _find_key(settings, error, message) if isinstance(settings, dict) else None
        if key is not None:
            return f'.{key} is {_shorten(repr(settings[key]))}'
        items = settings.items() if isinstance(settings, dict) else []
        shown = [f'{key}={value!r}' for key, value in items if len(repr(value)) < 30]
        return f' ({", ".join(shown[:6])})' if shown else ''
    return f' is {settings!r}'


def _list_types(registry: Any) -> Iterator[str]:
    """List the names that can be written as a type: those of a host, of mmengine, and ours."""
    if not isinstance(registry, Registry):
        return
    scope = registry.scope
    root = registry
    while root.parent is not None:
        root = root.parent
    family = {root.scope: root, **root.children}
    for name, each in {**family, scope: registry}.items():
        if name in (scope, root.scope, mmvitx.__name__):
            each.import_from_location()
            for one in each.module_dict:
                yield one if name != mmvitx.__name__ or '.' in one else f'{name}.{one}'


def _suggest(name: str, names: list[str]) -> str:
    """Name what was meant: spelt much alike, with or without what stands before the dot."""
    plain = {each.split('.')[-1].lower(): each for each in names}
    close = difflib.get_close_matches(name.split('.')[-1].lower(), plain, n=1, cutoff=0.7)
    return f': did you mean {plain[close[0]]}?' if close else ''
