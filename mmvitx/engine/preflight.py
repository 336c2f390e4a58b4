"""Checks that take seconds, of what would fail late or, worse, run and be wrong.

What must fail raises :class:`mmvitx.errors.UserError` with one sentence; what may be meant is a
warning. Building the parts of a run is a check as well, whose errors
:mod:`mmvitx.engine.explain` puts into words.
"""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS

from mmvitx.datasets.images import is_local
from mmvitx.engine.configs import find_dicts, list_read, walk
from mmvitx.errors import UserError, shorten


def check_settings(cfg: Config) -> list[str]:
    """Check settings with which a run would end without having done anything.

    Returns:
        Warnings: settings of the config that nothing reads and that are spelt much like one that
        is read.

    Raises:
        UserError: A number of epochs, iterations or an interval is none that can be meant.
    """
    for name in ('max_epochs', 'max_iters'):
        number = (cfg.get('train_cfg') or {}).get(name)
        if isinstance(number, (int, float)) and number < 1:
            raise UserError(f'train_cfg.{name} is {number}: expected a positive whole number')
    hooks = {name: cfg.get(name) for name in ('train_cfg', 'default_hooks', 'custom_hooks')}
    for where, value in walk(hooks):
        if where.endswith('interval') and (value == 0 or isinstance(value, str)):
            raise UserError(
                f'{where} is {value!r}: expected a positive whole number, or -1 of a hook for never'
            )
    read = list_read(cfg)
    return [
        f'nothing reads {name} of the config; did you mean {close[0]}?'
        for name in sorted({*cfg} - read)
        if (close := difflib.get_close_matches(name, read, n=1, cutoff=0.93))
    ]


def check_paths(cfg: Config, loops: tuple[str, ...]) -> None:
    """Check that the files and folders of the data are there; those in an object store are not.

    Args:
        cfg: A config of one of the hosts.
        loops: Whose data are meant, of ``train``, ``val``, ``test``.

    Raises:
        UserError: One is missing, or an accuracy is asked for of more classes than there are.
    """
    for loop in loops:
        loader = cfg.get(f'{loop}_dataloader') or {}
        for where, dataset in find_datasets(loader.get('dataset'), f'{loop}_dataloader.dataset'):
            _check_dataset(cfg, dataset, where)
        evaluators = cfg.get(f'{loop}_evaluator') or []
        for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
            if not isinstance(evaluator, dict):
                continue
            path = evaluator.get('ann_file')
            if path and is_local(path, evaluator):
                _check_exists(path, os.path.isfile, 'annotation file', f'{loop}_evaluator.ann_file')
            _check_topk(cfg, evaluator, f'{loop}_evaluator')


def find_datasets(dataset: Any, where: str) -> Iterator[tuple[str, dict]]:
    """Yield the datasets inside wrappers (repeated, ...), each with its path in the config."""
    if not isinstance(dataset, dict):
        return
    if 'datasets' in dataset:
        for i, inner in enumerate(dataset['datasets']):
            yield from find_datasets(inner, f'{where}.datasets.{i}')
    elif 'dataset' in dataset:
        yield from find_datasets(dataset['dataset'], f'{where}.dataset')
    else:
        yield where, dataset


def _check_dataset(cfg: Config, dataset: dict, where: str) -> None:
    root = dataset.get('data_root') or ''
    with DATASETS.switch_scope_and_registry(cfg.default_scope) as registry:
        kind = registry.get(dataset['type']) if isinstance(dataset.get('type'), str) else None
    download = kind and inspect.signature(kind).parameters.get('download')
    downloads = download and dataset.get('download', download.default)  # as mmpretrain's CIFAR10
    if downloads or not is_local(root, dataset):
        return
    if root:
        _check_exists(root, os.path.isdir, 'data root', f'{where}.data_root')
    path = dataset.get('ann_file')
    if path and is_local(path, dataset):
        path = os.path.join(root, path)
        _check_exists(path, os.path.isfile, 'annotation file', f'{where}.ann_file')
    classes = (dataset.get('metainfo') or {}).get('classes')
    if isinstance(classes, str) and is_local(classes, dataset) and not os.path.isfile(classes):
        raise UserError(
            f'{where}.metainfo.classes is the text {classes!r}, but there is no such file: '
            f'for one class write classes=({classes!r},)'
        )
    # images may lie elsewhere than their annotations
    if any(each.get('backend_args') for each in find_dicts(dataset.get('pipeline'))):
        return
    prefix = dataset.get('data_prefix') or {}
    for key, folder in (prefix if isinstance(prefix, dict) else {'': prefix}).items():
        if folder and is_local(folder, dataset):
            setting = f'{where}.data_prefix' + (f'.{key}' if key else '')
            what = 'label folder' if key == 'seg_map_path' else 'image folder'
            _check_exists(os.path.join(root, folder), os.path.isdir, what, setting)


def _check_exists(path: str, exists: Any, what: str, setting: str) -> None:
    if not exists(path):
        raise UserError(
            f'the {what} {path} does not exist: put or link the data there, or name their place '
            f'with --data-root or --cfg-options {setting}=...'
        )


def _check_topk(cfg: Config, evaluator: dict, where: str) -> None:
    topk = evaluator.get('topk', 1)
    largest = max(topk) if isinstance(topk, (list, tuple)) else topk
    head = dict(walk(cfg.model, 'model')).get('model.head.num_classes')
    if str(evaluator.get('type', '')).endswith('Accuracy') and head and largest > head:
        raise UserError(
            f'{where}.topk is {topk}, but the model has {head} classes: set '
            f"--cfg-options {where}.topk='(1,)'"
        )


def check_folders_of_classes(datasets: dict[str, Any]) -> None:
    """Check that datasets which number their classes by the folders in them have the same ones.

    Args:
        datasets: Built, by name.

    Raises:
        UserError: They differ, so that a label means another class in each.
    """
    named = {
        name: list(each.folder_to_idx)
        for name, each in datasets.items()
        if hasattr(each, 'folder_to_idx')
    }
    first, *others = named or ['']
    for other in others:
        differing = sorted({*named[first]} ^ {*named[other]})
        if differing:
            raise UserError(
                f'{first} and {other} take their classes from folders, and have not the same ones: '
                f'{shorten(differing)} in one of them only'
            )
