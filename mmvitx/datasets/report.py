"""What the data of a run are: mended annotations before it, and a description of each split."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.config import Config
from mmengine.fileio import list_from_file
from mmengine.registry import DATASETS

from mmvitx.datasets.coco import Split, examine_coco
from mmvitx.datasets.images import Header, find_unreadable, read_headers
from mmvitx.engine.configs import shorten, walk
from mmvitx.engine.files import check_folder, unfinished
from mmvitx.errors import UserError


def mend_data(
    cfg: Config, loops: Iterable[str], folder: str | Path
) -> tuple[dict[str, Any], list[str]]:
    """Examine the COCO files of a run; write copies of those that MMDetection would misread.

    To be called on one process. Files in an object store are left to the run.

    Args:
        cfg: A config of one of the hosts; not changed.
        loops: Whose data are meant, of ``train``, ``val``, ``test``.
        folder: Where the copies are written; made if there is one to write.

    Returns:
        The settings to change, by path, as ``{'val_evaluator.ann_file': '/runs/a/x.json'}``, and
        lines for the log.

    Raises:
        UserError: See :func:`mmvitx.datasets.coco.examine_coco`, or the folder cannot be written.
    """
    if cfg.default_scope != 'mmdet':
        return {}, []
    settings: dict[str, Any] = {}
    lines: list[str] = []
    examined: dict[Split, tuple[str | None, bool]] = {}
    for reader in (reader for loop in loops for reader in _find_readers(cfg, loop)):
        split = reader.split
        if split not in examined:
            found = examine_coco(split, reader.where, reader.setting)
            lines += [f'{split.path}: {line}' for line in found.lines]
            copy = None
            if found.coco:
                check_folder(folder, '--work-dir')
                copy = str(Path(folder, reader.setting).absolute().with_suffix('.json'))
                with unfinished(Path(copy)) as path:
                    path.write_text(json.dumps(found.coco))  # json.dump() is several times slower
                lines.append(f'{split.path}: read from the mended copy {copy}')
            examined[split] = copy, found.as_stored
        copy, as_stored = examined[split]
        if copy:
            settings[reader.setting] = copy
        if as_stored and reader.loading:
            settings[f'{reader.loading}.color_type'] = 'color_ignore_orientation'
    return settings, lines


class _Reader(NamedTuple):
    """A part of a run that reads annotations.

    Attributes:
        setting: Path of the setting that names the file.
        where: Path of the dataset.
        loading: Path of the step that loads the images, if any.
        split: The file, and how it is read.
    """

    setting: str
    where: str
    loading: str | None
    split: Split


def _find_readers(cfg: Config, loop: str) -> Iterator[_Reader]:
    """Yield the datasets of a loop that are COCO files, and the evaluators that read such files."""
    name = f'{loop}_evaluator'
    evaluators = {
        where: one
        for where, one in walk({name: cfg.get(name)})
        if isinstance(one, dict) and one.get('ann_file') and _is_local(one['ann_file'], one)
    }
    masks = any('segm' in str(one.get('metric')) for one in evaluators.values())
    readers = {}
    loader = _section(cfg, f'{loop}_dataloader')
    for where, dataset in find_datasets(loader.get('dataset'), f'{loop}_dataloader.dataset'):
        reader = _read_dataset(cfg, dataset, where, training=loop == 'train')
        if reader:
            split = reader.split._replace(masks=masks or reader.split.masks)
            readers[os.path.realpath(split.path)] = reader._replace(split=split)
            yield readers[os.path.realpath(split.path)]
    for where, one in evaluators.items() if readers else ():
        path = one['ann_file']
        reader = readers.get(os.path.realpath(path))
        if reader is None:  # a file of its own, for the classes of the dataset
            reader = next(iter(readers.values()))
            reader = reader._replace(split=reader.split._replace(path=path, folder=None))
        yield reader._replace(setting=f'{where}.ann_file', loading=None)


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


def _is_local(path: Any, settings: dict) -> bool:
    return isinstance(path, str) and '://' not in path and not settings.get('backend_args')


def _section(settings: dict, key: str) -> dict:
    """Look up a group of settings; what is none is left to the host to refuse."""
    section = settings.get(key)
    return section if isinstance(section, dict) else {}


def _read_dataset(cfg: Config, dataset: dict, where: str, training: bool) -> _Reader | None:
    """Read how a dataset reads its annotations; None if they are no COCO file on this machine."""
    from mmdet.datasets import CocoDataset

    with DATASETS.switch_scope_and_registry(cfg.default_scope) as registry:
        kind = registry.get(str(dataset.get('type')))
    reads_coco = getattr(kind, 'load_data_list', None) is CocoDataset.load_data_list
    # panoptic annotations have a reader of their own
    if not reads_coco or kind.COCOAPI is not CocoDataset.COCOAPI:
        return None
    root = dataset.get('data_root') or ''
    paths = root, dataset.get('ann_file'), _section(dataset, 'data_prefix').get('img') or ''
    if not all(isinstance(path, str) for path in paths) or not _is_local(root + paths[1], dataset):
        return None

    classes = {**kind.METAINFO, **_section(dataset, 'metainfo')}.get('classes')
    if isinstance(classes, str):
        if _is_local(classes, dataset) and not os.path.isfile(classes):
            raise UserError(
                f'{where}.metainfo.classes is the text {classes!r}, but there is no such file: '
                f'for one class write classes=({classes!r},)'
            )
        classes = list_from_file(classes) if _is_local(classes, dataset) else None

    pipeline = dataset.get('pipeline')
    pipeline = pipeline if isinstance(pipeline, (list, tuple)) else []
    types = [str(step.get('type')) for step in pipeline if isinstance(step, dict)]
    step = next((i for i, name in enumerate(types) if name.endswith('LoadImageFromFile')), None)
    oriented = None
    if step is not None and pipeline[step].get('imdecode_backend', 'cv2') == 'cv2':
        color_type = pipeline[step].get('color_type', 'color')
        oriented = dict(color=True, color_ignore_orientation=False).get(color_type)
    filter_cfg = {} if dataset.get('test_mode') else _section(dataset, 'filter_cfg')
    split = Split(
        path=os.path.join(root, paths[1]),
        classes=tuple(classes) if isinstance(classes, (list, tuple)) else None,
        folder=os.path.join(root, paths[2]) if _is_local(paths[2], dataset) else None,
        training=training,
        masks=any(value is True for key, value in walk(pipeline) if key.endswith('with_mask')),
        oriented=oriented,
        filter_empty=filter_cfg.get('filter_empty_gt', False),
        min_size=filter_cfg.get('min_size', 0),
    )
    loading = None if step is None else f'{where}.pipeline.{step}'
    return _Reader(f'{where}.ann_file', where, loading, split)


def describe(dataset: Any, name: str) -> list[str]:
    """Describe a dataset in a few lines: images and sizes, objects or labels, classes.

    Args:
        dataset: A dataset of any host, as it was built; wrappers are looked into.
        name: What to call it, as ``train``.

    Returns:
        Lines for the log.

    Raises:
        UserError: There is nothing in it that can be used.
    """
    if hasattr(dataset, 'datasets'):
        parts = [describe(one, f'{name} {i}') for i, one in enumerate(dataset.datasets)]
        return [line for lines in parts for line in lines]
    if hasattr(dataset, 'dataset'):
        return describe(dataset.dataset, name)
    if not len(dataset):
        raise UserError(f'{name} is empty: no image is left in it')
    if not hasattr(dataset, 'get_data_info'):
        return [f'{name}: {len(dataset):,} samples']
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    # one at a time: those of a large dataset take more memory than it has
    samples = (dataset.get_data_info(i) for i in range(len(dataset)))
    if 'instances' in dataset.get_data_info(0):
        return _describe_objects(samples, classes, name, dataset.test_mode)
    return _describe_images(samples, classes, name, vars(dataset))


def _describe_objects(samples: Iterable[dict], classes: Any, name: str, test: bool) -> list[str]:
    sizes, labels, crowds, images, empty = set(), Counter(), 0, 0, 0
    for images, sample in enumerate(samples, 1):  # noqa: B007
        objects = [one for one in sample['instances'] if not one.get('ignore_flag')]
        labels.update(one.get('bbox_label') for one in objects)
        sizes.add((sample.get('width'), sample.get('height')))
        crowds += len(sample['instances']) - len(objects)
        empty += not objects
    if not labels and not test:
        raise UserError(f'{name} has no object to learn in any of its {images:,} images')
    text = f'{name}: {images:,} images{_range(sizes)}'
    text += f' ({empty:,} without objects)' if empty else ''
    text += f', {sum(labels.values()):,} objects'
    text += f' and {crowds:,} to ignore (crowds)' if crowds else ''
    return [text, *_describe_classes(labels, classes, name, 'objects')]


def _describe_images(samples: Iterable[dict], classes: Any, name: str, settings: dict) -> list[str]:
    labels: Counter = Counter()
    paths = []
    for sample in samples:
        paths.append((sample.get('img_path'), sample.get('seg_map_path')))
        label = sample.get('gt_label', [])
        if not isinstance(label, dict):  # of several tasks
            labels.update(np.ravel(label).tolist())
    lines = []
    images: dict[str, Header | None] = {}
    if all(_is_local(path, settings) for path, _ in paths):
        images = read_headers(path for path, _ in paths)
        lines += _name_unreadable(images, 'image', name)
        if all(path for _, path in paths):
            lines += _describe_label_maps(paths, images, name)
    sizes = {header[:2] for header in images.values() if header}
    what = 'images' if paths[0][0] else 'samples'
    text = f'{name}: {len(paths):,} {what}{_range(sizes)}'
    return [text, *lines, *_describe_classes(labels, classes, name, what)]


def _range(sizes: set[tuple[int, int]]) -> str:
    ordered = sorted(sizes - {(None, None)}, key=math.prod)
    texts = [f'{width} x {height}' for width, height in ordered[:1] + ordered[1:][-1:]]
    return f' of {" to ".join(texts)} px' if texts else ''


def _describe_classes(labels: Counter, classes: Any, name: str, what: str) -> list[str]:
    if not labels or not classes:
        return []
    names = dict(enumerate(classes))
    most = ', '.join(f'{names.get(i, i)} {n:,}' for i, n in labels.most_common(3))
    never = [names[i] for i in names if i not in labels]
    text = f'{name}: {what} of {len(labels):,} of {len(names):,} classes, most often {most}'
    return [text + (f'; none of {shorten(never)}' if never else '')]


def _name_unreadable(headers: dict[str, Header | None], what: str, name: str) -> list[str]:
    missing, unknown = find_unreadable(headers)
    if len(missing) == len(headers):
        raise UserError(f'{name} has no {what} that exists, as {missing[0]}')
    return [
        f'{name}: {what}s {reason}: {len(found):,} (first: {found[0]})'
        for reason, found in (
            ('missing', missing),
            ('that are damaged or of an unknown format', unknown),
        )
        if found
    ]


def _describe_label_maps(
    paths: list[tuple[str, str]], images: dict[str, Header | None], name: str
) -> list[str]:
    maps = read_headers(path for _, path in paths)
    both = [(path, images[image], maps[path]) for image, path in paths if maps[path]]
    found = {
        'of another size than their image': [
            path for path, image, labels in both if image and labels[:2] != image[:2]
        ],
        'in colour instead of numbers': [
            path for path, _, labels in both if labels.mode.startswith(('RGB', 'CMYK', 'YCbCr'))
        ],
    }
    return _name_unreadable(maps, 'label map', name) + [
        f'{name}: label maps {what}: {len(wrong):,} (first: {wrong[0]})'
        for what, wrong in found.items()
        if wrong
    ]
