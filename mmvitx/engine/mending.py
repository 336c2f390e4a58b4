"""Annotations that a host would misread, mended before a run in a copy that it reads."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.fileio import list_from_file
from mmengine.registry import DATASETS

from mmvitx.datasets.coco_annotations import Split, examine_coco
from mmvitx.datasets.images import is_local
from mmvitx.engine.configs import find_dicts, walk
from mmvitx.engine.files import check_folder, unfinished
from mmvitx.engine.preflight import find_datasets


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
        UserError: See :func:`~mmvitx.datasets.coco_annotations.examine_coco`; or the folder cannot
            be written.
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
    return settings, list(dict.fromkeys(lines))  # splits may share a file


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
        if isinstance(one, dict) and one.get('ann_file') and is_local(one['ann_file'], one)
    }
    readers = {}
    loader = _section(cfg, f'{loop}_dataloader')
    datasets = [*find_datasets(loader.get('dataset'), f'{loop}_dataloader.dataset')]
    for where, dataset in datasets:
        reader = _read_dataset(cfg, dataset, where, loop == 'train', len(datasets) == 1)
        if reader:
            readers[os.path.realpath(reader.split.path)] = reader
            yield reader
    for where, one in evaluators.items() if readers else ():
        path = one['ann_file']
        reader = readers.get(os.path.realpath(path))
        if reader is None:  # a file of its own, for the classes of the dataset
            reader = next(iter(readers.values()))
            reader = reader._replace(split=reader.split._replace(path=path, folder=None))
        # an object without a mask still counts where boxes alone are evaluated
        split = reader.split._replace(masks='segm' in str(one.get('metric')))
        yield reader._replace(setting=f'{where}.ann_file', loading=None, split=split)


def _section(settings: dict, key: str) -> dict:
    """Look up a group of settings; what is none is left to the host to refuse."""
    section = settings.get(key)
    return section if isinstance(section, dict) else {}


def _read_dataset(
    cfg: Config, dataset: dict, where: str, training: bool, alone: bool
) -> _Reader | None:
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
    if not all(isinstance(path, str) for path in paths) or not is_local(root + paths[1], dataset):
        return None

    classes = {**kind.METAINFO, **_section(dataset, 'metainfo')}.get('classes')
    if isinstance(classes, str):
        classes = list_from_file(classes) if is_local(classes, dataset) else None

    pipeline = dataset.get('pipeline')
    pipeline = pipeline if isinstance(pipeline, (list, tuple)) else []
    types = [str(step.get('type')) for step in pipeline if isinstance(step, dict)]
    step = next((i for i, name in enumerate(types) if name.endswith('LoadImageFromFile')), None)
    oriented = None
    if step is not None and pipeline[step].get('imdecode_backend', 'cv2') == 'cv2':
        color_type = pipeline[step].get('color_type', 'color')
        oriented = dict(color=True, color_ignore_orientation=False).get(color_type)
    filter_cfg = {} if dataset.get('test_mode') else _section(dataset, 'filter_cfg')
    min_size = filter_cfg.get('min_size', 0)
    # images may lie elsewhere than their annotations
    remote = any(step.get('backend_args') for step in find_dicts(pipeline))
    remote = remote or not is_local(paths[2], dataset)
    split = Split(
        path=os.path.join(root, paths[1]),
        classes=tuple(classes) if isinstance(classes, (list, tuple)) else None,
        folder=None if remote else os.path.join(root, paths[2]),
        training=training,
        alone=alone,
        masks=any(value is True for key, value in walk(pipeline) if key.endswith('with_mask')),
        oriented=oriented,
        filter_empty=filter_cfg.get('filter_empty_gt', False),
        min_size=min_size if isinstance(min_size, (int, float)) else 0,
    )
    loading = None if step is None else f'{where}.pipeline.{step}'
    return _Reader(f'{where}.ann_file', where, loading, split)
