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
    """Check settings with which a run would end without having learnt anything, or never.

    Returns:
        Warnings: settings of the config that nothing reads and that are spelt much like one that
        is read.

    Raises:
        UserError: A setting is none that can be meant: no epochs or iterations, an epoch without
            an end, an interval of 0, NaN.
    """
    if cfg.get('model') is None:
        raise UserError(f'the config {cfg.filename} has no model')
    settings = dict(walk(cfg.to_dict()))
    for name in ('train_cfg.max_epochs', 'train_cfg.max_iters'):
        if isinstance(settings.get(name), (int, float)) and settings[name] < 1:
            raise UserError(f'{name} is {settings[name]}: expected a positive whole number')
    for where, value in settings.items():
        group, _, name = where.partition('.')
        name = name.rpartition('.')[2]
        if name.endswith('interval') and group in ('train_cfg', 'default_hooks', 'custom_hooks'):
            if (value == 0 and group != 'custom_hooks') or isinstance(value, str):
                raise UserError(
                    f'{where} is {value!r}: expected a positive whole number, or -1 of a hook for '
                    'never'
                )
        elif where.endswith('_dataloader.batch_size') and value is None:
            raise UserError(f'{where} is None: expected a positive whole number')
        elif value != value:
            raise UserError(f'{where} is {value}: expected a number')
        elif '.milestones.' in where and isinstance(value, str):
            raise UserError(f'{where} is {value!r}: expected the number of an epoch or iteration')
        elif (
            where.endswith('data_preprocessor.std')
            and isinstance(value, (list, tuple))
            and 0 in value
        ):
            raise UserError(f'{where} is {value}: images are divided by it, so it cannot be 0')
    sampler = str(settings.get('train_dataloader.sampler.type'))
    kind = str(settings.get('train_cfg.type')).split('.')[-1]  # other loops may end by themselves
    by_epoch = settings.get('train_cfg.by_epoch') or kind == 'EpochBasedTrainLoop'
    limited = 'train_dataloader.num_batch_per_epoch' in settings
    if by_epoch and sampler.endswith('InfiniteSampler') and not limited:
        raise UserError(
            'train_dataloader.sampler is an InfiniteSampler, whose first epoch would never end: '
            'take a DefaultSampler, or train by iterations (train_cfg.type=IterBasedTrainLoop)'
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
        loader = cfg.get(f'{loop}_dataloader')
        if isinstance(loader, dict):
            _check_dict(loader.get('dataset'), f'{loop}_dataloader.dataset', 'of a dataset')
            if loader.get('sampler'):
                _check_dict(loader.sampler, f'{loop}_dataloader.sampler', 'of a sampler')
            for where, dataset in find_datasets(loader.dataset, f'{loop}_dataloader.dataset'):
                _check_dataset(cfg, dataset, where)
        evaluators = cfg.get(f'{loop}_evaluator') or []
        for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
            _check_dict(evaluator, f'{loop}_evaluator', 'of a metric')
            path = evaluator.get('ann_file')
            if path and is_local(path, evaluator):
                _check_exists(path, os.path.exists, 'annotation file', f'{loop}_evaluator.ann_file')
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


def _check_dict(settings: Any, where: str, what: str) -> None:
    if not isinstance(settings, dict):
        raise UserError(f'{where} is {settings!r}: expected the settings {what}, dict(type=...)')


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
        _check_exists(path, os.path.exists, 'annotation file', f'{where}.ann_file')
    classes = dict(walk(dataset.get('metainfo'))).get('classes')
    if not isinstance(classes, (str, list, tuple, type(None))):
        raise UserError(f'{where}.metainfo.classes is {classes!r}: expected the names of classes')
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
    largest = max(number for _, number in walk([topk, 0]) if isinstance(number, int))
    head = dict(walk(cfg.model, 'model')).get('model.head.num_classes')
    if str(evaluator.get('type', '')).endswith('Accuracy') and head and largest > head:
        raise UserError(
            f'{where}.topk is {topk}, but the model has {head} classes: set '
            f"--cfg-options {where}.topk='(1,)'"
        )


def check_folders_of_classes(datasets: dict[str, Any]) -> None:
    """Check datasets that number their classes by folders: they must all have the same ones.

    Args:
        datasets: Built, by name.

    Raises:
        UserError: They differ, so that a label means another class in each; or a dataset names its
            classes in another order.
    """
    named = {
        name: list(each.folder_to_idx)
        for name, each in datasets.items()
        if hasattr(each, 'folder_to_idx')
    }
    for name, folders in named.items():
        classes = list(datasets[name].metainfo.get('classes', folders))
        if classes != folders and {*classes} & {*folders}:
            raise UserError(
                f'{name} names the classes {shorten(classes)}, but labels are numbered by the '
                f'folders, in alphabetical order: {shorten(folders)}; name them so'
            )
    first, *others = named or ['']
    for other in others:
        differing = sorted({*named[first]} ^ {*named[other]})
        if differing:
            raise UserError(
                f'{first} and {other} take their classes from folders, and have not the same ones: '
                f'{shorten(differing)} in one of them only'
            )
