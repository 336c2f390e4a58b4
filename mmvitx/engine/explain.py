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

import mmengine.registry
import torch
from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

import mmvitx.registry
from mmvitx.engine.configs import walk
from mmvitx.engine.hosts import HOSTS
from mmvitx.engine.locations import Location
from mmvitx.errors import UserError, first_line

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
    if frames and frames[-1].f_code is Runner.call_hook.__code__ and error.__context__:
        error = error.__context__  # mmengine raises the error of a hook anew, without its frames
        frames += [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if isinstance(error, torch.OutOfMemoryError):
        return UserError(
            f'the GPU has too little memory ({first_line(error)}): lower '
            'train_dataloader.batch_size or the size of the images, or recompute activations with '
            'model.backbone.with_cp=True'
        )
    in_worker = 'in DataLoader worker process' in first_line(error)  # explained there if it can be
    if not frames or in_worker or _is_own(frames):
        return None
    place = Location(cfg, where)
    for frame in frames:
        place.enter(frame)
    if place.path:
        return UserError(_describe(error, place, frames[-1]))
    if frames[-1].f_globals.get('__name__') == Runner.__module__:  # names the settings by itself
        return UserError(f'the config cannot be run: {_shorten(first_line(error))}')
    return None


def _is_own(frames: list[FrameType]) -> bool:
    """Whether code of the user's own has raised an error, perhaps in a library that it called."""
    for frame in reversed(frames):
        path = Path(frame.f_code.co_filename)
        if str(frame.f_globals.get('__name__')).partition('.')[0] in PACKAGES:
            return False
        # compiled code names a file that is not there
        if not {'site-packages', 'lib'} & {*path.parts} and path.is_file():
            return True
    return False


def _describe(error: Exception, place: Location, frame: FrameType) -> str:
    message = _shorten(first_line(error))
    if isinstance(error, KeyError):
        message = message.strip('\'"')
    elif not str(error):
        message = f'the check `{traceback.extract_tb(error.__traceback__)[-1].line}` fails'
    leaves = _list_leaves(place.settings, place.path)

    unknown = _find_unknown_type(message, place)
    if unknown:
        path, name, names = unknown
        scope = place.cfg.get('default_scope')
        return f'{path} is {name!r}, no type that {scope} has{_suggest(name, names)}'

    key = re.search(r"got (?:an unexpected|multiple values for) keyword argument '(\w+)'", message)
    path = next((path for path in leaves if key and path.rpartition('.')[2] == key[1]), None)
    if path:
        kind = frame.f_locals.get('obj_cls')
        if place.path.endswith('_dataloader'):
            kind = DataLoader
        known = list(inspect.signature(kind).parameters) if inspect.isclass(kind) else []
        meant = _suggest(key[1], known) or (known and f'; it takes {", ".join(known)}') or ''
        return (
            f'{path}: {getattr(kind, "__name__", message.split("(")[0])} has no such setting{meant}'
        )

    lacks = re.match(r"'\w+(?:Data|DataSample)' object has no attribute '(\w+)'", message)
    if lacks:
        return f'{place.pipeline} gives no {lacks[1].strip("_")}, which {place.path} needs'
    given = isinstance(error, (KeyError, TypeError, AttributeError))
    if given and place.path.endswith('data_preprocessor') and frame.f_code.co_name != '__init__':
        kind = type(error).__name__
        return f'{place.path} cannot take what {place.pipeline} gives: {kind}: {message}'

    if 'loaded state dict' in message:  # torch, of an optimizer
        message += (
            '; see paramwise_cfg, constructor and frozen_stages, or start from the weights alone, '
            'with --cfg-options load_from=... in place of --resume'
        )
    if re.search('Half|BFloat16', message):
        message += f'; {place.split}_cfg.fp16 and AmpOptimWrapper are mixed precision'
    if isinstance(error, IndexError) and 'class_weight' in (place.settings or {}):
        message += (
            '; MMSegmentation cannot weight classes and ignore labels: leave class_weight out'
        )
    kind = '' if isinstance(error, AssertionError) else f'{type(error).__name__}: '
    file = f' (for {place.file})' if place.file else ''
    return f'{_show(place, leaves, error, message)}: {kind}{message}{file}'


def _shorten(text: str) -> str:
    return text if len(text) < 200 else f'{text[:197]}...'


def _list_leaves(settings: Any, path: str) -> dict[str, Any]:
    """List settings by path; of those with parts that are places, not what is in the parts."""
    inner = walk(settings, path)
    if isinstance(settings, dict) and (path == 'model' or path.endswith('_dataloader')):
        inner = ((f'{path}.{key}', value) for key, value in settings.items())
    skipped = 'type', '_scope_'
    return {where: value for where, value in inner if where.rpartition('.')[2] not in skipped}


def _show(place: Location, leaves: dict[str, Any], error: Exception, message: str) -> str:
    """Show the setting that is wrong, or else those that are numbers, words or short lists."""
    groups = [leaves]
    # parts of a model are handed its test_cfg and train_cfg
    if place.path.startswith('model') and isinstance(error, (TypeError, AssertionError)):
        groups += [
            _list_leaves(dict(walk(place.cfg.get('model'))).get(name), f'model.{name}')
            for name in ('test_cfg', 'train_cfg')
        ]
    for group in groups:
        path = _find_setting(group, error, message)
        if path is not None:
            return f'{path} is {_shorten(repr(group[path]))}'
    settings = place.settings
    if not isinstance(settings, (dict, list)):
        return f'{place.path} is {settings!r}'
    items = settings.items() if isinstance(settings, dict) else []
    shown = [f'{key}={value!r}' for key, value in items if len(repr(value)) < 30]
    return place.path + (f' ({", ".join(shown[:6])})' if shown else '')


def _find_setting(leaves: dict[str, Any], error: Exception, message: str) -> str | None:
    """Find the setting that a message is about: by its name, or else its value or type."""
    if isinstance(error, (RuntimeError, IndexError)):  # they are about tensors
        return None
    words = re.findall(r"[\w.'-]+", message)
    for word in words:
        for path in leaves:
            name = path.rpartition('.')[2]
            if name == word.strip("'").lower() and not name.isdigit():
                return path
    plain = {  # not the items of lists, as the names of classes
        path: value
        for path, value in leaves.items()
        if not isinstance(value, (dict, list, tuple)) and not path[-1].isdigit()
    }
    found = [path for path, value in plain.items() if {repr(value), str(value)} & {*words}]
    if len(found) != 1 and isinstance(
        error, (TypeError, ValueError, AttributeError, AssertionError)
    ):
        kinds = (str, float) if isinstance(error, TypeError) else (str,)
        for kind in (*kinds, type(None)):
            named = f"'{kind.__name__}'" in words or (kind is str and 'sequence' in words)
            found = (
                found
                if len(found) == 1
                else [path for path, value in plain.items() if named and type(value) is kind]
            )
    return found[0] if len(found) == 1 else None


def _find_unknown_type(message: str, place: Location) -> tuple[str, str, list[str]] | None:
    """Find a type that no registry has, with its path, and the names that there are."""
    missing = re.match(r'(\S+) is not in the (?:.*::)?(.*) registry', message)
    if not missing and 'callable' not in message:  # what an unknown name becomes in some places
        return None
    roots = [each for each in vars(mmengine.registry).values() if isinstance(each, Registry)]
    if missing:
        roots = [root for root in roots if root.name == missing[2]] or roots
    names = [name for root in roots for name in _list_types(root, place.cfg.get('default_scope'))]
    if missing:
        path = place.path if place.path.endswith('type') else f'{place.path}.type'
        return path, missing[1], names
    for path, value in walk(place.settings, place.path):
        if (
            path.endswith('.type')
            and isinstance(value, str)
            and value.split('.')[-1] not in {name.split('.')[-1] for name in names}
        ):
            return path, value, names
    return None


def _list_types(root: Registry, scope: str) -> Iterator[str]:
    """List the names that can be written as a type: those of a host, of mmengine, and ours."""
    for name, registry in {root.scope: root, **root.children}.items():
        if name in (scope, root.scope, mmvitx.__name__):
            registry.import_from_location()
            for one in registry.module_dict:
                yield one if name != mmvitx.__name__ or '.' in one else f'{name}.{one}'


def _suggest(name: str, names: list[str]) -> str:
    """Name what was meant: spelt much alike, with or without what stands before the dot."""
    plain = {each.split('.')[-1].lower(): each for each in names}
    close = difflib.get_close_matches(name.split('.')[-1].lower(), plain, n=1)
    return f': did you mean {plain[close[0]]}?' if close else ''
