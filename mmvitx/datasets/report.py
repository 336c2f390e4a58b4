"""What the data of a run are: mended annotations before it, and a description of each split."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.fileio import list_from_file
from mmengine.registry import DATASETS, METRICS

from mmvitx.datasets.coco import Split, examine_coco
from mmvitx.datasets.images import Header, read_headers
from mmvitx.engine.configs import shorten, walk
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
    mending = _Mending(Path(folder).absolute())
    for loop in loops:
        mending.mend_loop(cfg, loop)
    return mending.settings, mending.lines


class _Mending:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings: dict[str, Any] = {}
        self.lines: list[str] = []
        self.done: dict[Split, tuple[str | None, bool]] = {}

    def mend_loop(self, cfg: Config, loop: str) -> None:
        evaluators = dict(walk({f'{loop}_evaluator': cfg.get(f'{loop}_evaluator')}))
        metrics = {
            where: one
            for where, one in evaluators.items()
            if isinstance(one, dict) and _is_local(one.get('ann_file'), one)
        }
        masks = any('segm' in (one.get('metric') or ()) for one in metrics.values())
        splits: dict[str, tuple[Split, str]] = {}
        loader = cfg.get(f'{loop}_dataloader') or {}
        for where, dataset in find_datasets(loader.get('dataset'), f'{loop}_dataloader.dataset'):
            split, step = _read_split(cfg, dataset, where, loop, masks)
            if split is None:
                continue
            copy, as_stored = self._mend(split, where, f'{where}.ann_file')
            splits[os.path.realpath(split.path)] = split, where
            if as_stored:
                color_type = dataset['pipeline'][step].get('color_type', 'color')
                self.settings[f'{where}.pipeline.{step}.color_type'] = (
                    f'{color_type}_ignore_orientation'
                )
        for where, metric in metrics.items():
            if not splits:
                break
            path = metric['ann_file']
            split, dataset = splits.get(os.path.realpath(path), next(iter(splits.values())))
            if os.path.realpath(split.path) == os.path.realpath(path):
                copy, _ = self.done[split]
                if copy:
                    self.settings[f'{where}.ann_file'] = copy
            elif _reads_coco_metric(cfg, metric):
                self._mend(split._replace(path=path, folder=None), dataset, f'{where}.ann_file')

    def _mend(self, split: Split, where: str, setting: str) -> tuple[str | None, bool]:
        """Examine a file once; returns the path of its copy, and what ``as_stored`` says."""
        if split not in self.done:
            examined = examine_coco(split, where, setting)
            copy = None
            if examined.coco:
                copy = str(self.folder / f'{setting.rpartition(".")[0]}.json')
                _write(copy, examined.coco)
            self.lines += [f'{split.path}: {line}' for line in examined.lines]
            if copy:
                self.lines.append(f'{split.path}: read from the mended copy {copy}')
            if examined.as_stored:
                self.lines.append(
                    f'{split.path}: the images are loaded without their EXIF orientation, as they '
                    'are annotated'
                )
            self.done[split] = copy, examined.as_stored
        copy, as_stored = self.done[split]
        if copy:
            self.settings[setting] = copy
        return copy, as_stored


def _write(path: str, coco: dict) -> None:
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(f'{path}.part', 'w') as file:
            file.write(json.dumps(coco))
        os.replace(f'{path}.part', path)
    except OSError as e:
        raise UserError(f'the mended annotations {path} cannot be written: {e.strerror}') from e


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


def _read_split(
    cfg: Config, dataset: dict, where: str, loop: str, masks: bool
) -> tuple[Split | None, int | None]:
    """Read how a dataset reads a local COCO file, and the number of the step that loads images."""
    from mmdet.datasets import CocoDataset

    with DATASETS.switch_scope_and_registry(cfg.default_scope) as registry:
        kind = registry.get(dataset['type'])
    reads_coco = getattr(kind, 'load_data_list', None) is CocoDataset.load_data_list
    root, path = dataset.get('data_root') or '', dataset.get('ann_file') or ''
    path = os.path.join(root, path)
    if not reads_coco or kind.COCOAPI is not CocoDataset.COCOAPI or not _is_local(path, dataset):
        return None, None

    classes = {**kind.METAINFO, **(dataset.get('metainfo') or {})}.get('classes')
    if isinstance(classes, str):
        if _is_local(classes, dataset) and not os.path.isfile(classes):
            raise UserError(
                f'{where}.metainfo.classes is the text {classes!r}, but there is no such file: '
                f'for one class write classes=({classes!r},)'
            )
        classes = list_from_file(classes) if _is_local(classes, dataset) else None

    pipeline = dataset.get('pipeline') or []
    types = [str(step.get('type')).rpartition('.')[2] for step in pipeline]
    step = types.index('LoadImageFromFile') if 'LoadImageFromFile' in types else None
    oriented = None
    if step is not None and pipeline[step].get('imdecode_backend', 'cv2') == 'cv2':
        oriented = pipeline[step].get('color_type', 'color') in ('color', 'grayscale')
    prefix = os.path.join(root, (dataset.get('data_prefix') or {}).get('img') or '')
    filter_cfg = {} if dataset.get('test_mode') else dataset.get('filter_cfg') or {}
    return Split(
        path=path,
        classes=classes and tuple(classes),
        folder=prefix if _is_local(prefix, dataset) else None,
        training=loop == 'train',
        masks=masks or any(v is True for k, v in walk(pipeline) if k.endswith('with_mask')),
        oriented=oriented,
        filter_empty=filter_cfg.get('filter_empty_gt', False),
        min_size=filter_cfg.get('min_size', 0),
    ), step


def _reads_coco_metric(cfg: Config, metric: dict) -> bool:
    from mmdet.evaluation import CocoMetric

    with METRICS.switch_scope_and_registry(cfg.default_scope) as registry:
        kind = registry.get(metric['type'])
    return getattr(kind, 'compute_metrics', None) is CocoMetric.compute_metrics


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
    samples = [dataset.get_data_info(i) for i in range(len(dataset))]
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    if 'instances' in samples[0]:
        return _describe_objects(dataset, samples, classes, name)
    lines = []
    paths = [one.get('img_path') for one in samples]
    headers: dict[str, Header | None] = {}
    if all(_is_local(path, vars(dataset)) for path in paths):
        headers = read_headers(paths)
        lines += _name_unreadable(headers, 'image', name)
    sizes = [(header.width, header.height) for header in headers.values() if header]
    lines.insert(0, f'{name}: {len(samples):,} images{_range(sizes)}')
    if samples[0].get('seg_map_path') and headers:
        lines += _describe_label_maps(samples, headers, name)
    elif 'gt_label' in samples[0]:
        lines += _describe_classes((one['gt_label'] for one in samples), classes, name, 'images')
    return lines


def _describe_objects(dataset: Any, samples: list[dict], classes: Any, name: str) -> list[str]:
    labels, crowds, empty = [], 0, 0
    for sample in samples:
        objects = [one['bbox_label'] for one in sample['instances'] if not one.get('ignore_flag')]
        labels += objects
        crowds += len(sample['instances']) - len(objects)
        empty += not objects
    if not labels and not dataset.test_mode:
        raise UserError(f'{name} has no object to learn in any of its {len(samples):,} images')
    sizes = [(one['width'], one['height']) for one in samples if 'width' in one]
    text = f'{name}: {len(samples):,} images{_range(sizes)}, {len(labels):,} objects'
    text += f', {crowds:,} crowds or ignored' if crowds else ''
    text += f', {empty:,} images without objects' if empty else ''
    return [text, *_describe_classes(labels, classes, name, 'objects')]


def _range(sizes: list[tuple[int, int]]) -> str:
    if not sizes:
        return ''
    (w0, h0), (w1, h1) = (min(sizes, key=_area), max(sizes, key=_area))
    return f' of {w0} x {h0}' + (f' to {w1} x {h1} px' if (w0, h0) != (w1, h1) else ' px')


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _describe_classes(labels: Iterable, classes: Any, name: str, what: str) -> list[str]:
    counts: Counter = Counter()
    for label in labels:  # an image of several classes has a list
        counts.update([int(one) for one in label] if hasattr(label, '__len__') else [int(label)])
    if not counts or not classes:
        return []
    names = dict(enumerate(classes))
    most = ', '.join(f'{names.get(i, i)} {n:,}' for i, n in counts.most_common(3))
    never = [names[i] for i in names if i not in counts]
    text = f'{name}: {what} of {len(counts):,} of {len(classes):,} classes, most often {most}'
    return [text + (f'; none of {shorten(never)}' if never else '')]


def _name_unreadable(headers: dict[str, Header | None], what: str, name: str) -> list[str]:
    unreadable = [path for path, header in headers.items() if not header]
    if len(unreadable) == len(headers):
        raise UserError(f'{name} has no {what} that can be read, as {unreadable[0]}')
    missing = [path for path in unreadable if not os.path.exists(path)]
    damaged = [path for path in unreadable if os.path.exists(path)]
    return [
        f'{name}: {what}s {reason}: {len(found):,} (first: {found[0]})'
        for reason, found in (('missing', missing), ('damaged', damaged))
        if found
    ]


def _describe_label_maps(samples: list[dict], images: dict, name: str) -> list[str]:
    maps = read_headers(one['seg_map_path'] for one in samples)
    lines = _name_unreadable(maps, 'label map', name)
    found: dict[str, list[str]] = {}
    for sample in samples:
        image, labels = images[sample['img_path']], maps[sample['seg_map_path']]
        if labels and image and labels[:2] != image[:2]:
            found.setdefault('of another size than their image', []).append(sample['seg_map_path'])
        if labels and labels.mode not in ('L', 'P', '1', 'I', 'I;16'):
            found.setdefault('in colour instead of numbers', []).append(sample['seg_map_path'])
    for reason, paths in found.items():
        lines.append(f'{name}: label maps {reason}: {len(paths):,} (first: {paths[0]})')
    return lines
