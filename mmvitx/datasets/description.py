"""What the data of a run are, in a few lines a split."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np

from mmvitx.datasets.images import Header, find_unreadable, is_local, read_headers
from mmvitx.errors import UserError, shorten

LABEL_MAPS = 16  # read of a split, to see whether there are labels at all


def describe(dataset: Any, name: str, alone: bool = True) -> list[str]:
    """Describe a dataset in a few lines: images and sizes, objects or labels, classes.

    Args:
        dataset: A dataset of any host, as it was built; wrappers are looked into.
        name: What to call it, as ``train``.
        alone: Whether there must be objects in it; not in one of several, as that without labels
            of a semi-supervised training.

    Returns:
        Lines for the log.

    Raises:
        UserError: There is nothing in it that can be used.
    """
    if hasattr(dataset, 'datasets'):
        parts = [
            describe(one, f'{name} {i}', len(dataset.datasets) == 1)
            for i, one in enumerate(dataset.datasets)
        ]
        return [line for lines in parts for line in lines]
    if hasattr(dataset, 'dataset'):
        return describe(dataset.dataset, name, alone)
    if not len(dataset):
        raise UserError(f'{name} is empty: no image is left in it')
    if not hasattr(dataset, 'get_data_info'):
        return [f'{name}: {len(dataset):,} samples']
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    # one at a time: those of a large dataset take more memory than it has
    samples = (dataset.get_data_info(i) for i in range(len(dataset)))
    if 'instances' in dataset.get_data_info(0):
        return _describe_objects(samples, classes, name, alone and not dataset.test_mode)
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    remote = any(getattr(step, 'backend_args', None) for step in steps)  # the images alone
    settings = {**vars(dataset), 'backend_args': remote or getattr(dataset, 'backend_args', None)}
    return _describe_images(samples, classes, name, settings)


def _describe_objects(samples: Iterable[dict], classes: Any, name: str, needed: bool) -> list[str]:
    sizes, labels, crowds, images, empty = set(), Counter(), 0, 0, 0
    for images, sample in enumerate(samples, 1):  # noqa: B007
        objects = [one for one in sample['instances'] if not one.get('ignore_flag')]
        labels.update(one.get('bbox_label') for one in objects)
        sizes.add((sample.get('width'), sample.get('height')))
        crowds += len(sample['instances']) - len(objects)
        empty += not objects
    if needed and not labels:
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
    if all(is_local(path, settings) for path, _ in paths):
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


def _check_labelled(paths: list[str], name: str) -> list[str]:
    """Read some label maps, and say if there is no label in any; refuse them if they are all."""
    some = paths[:: max(1, math.ceil(len(paths) / LABEL_MAPS))]
    if not some or any(np.any(cv2.imread(path, cv2.IMREAD_UNCHANGED) != 255) for path in some):
        return []
    text = (
        f'{name}: the {len(some)} of {len(paths):,} label maps that were read hold no label but '
        f'255, which is ignored (first: {some[0]})'
    )
    if len(some) == len(paths):
        raise UserError(f'{text}: there is nothing to learn')
    return [text]


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
    lines = _name_unreadable(maps, 'label map', name)
    lines += _check_labelled([path for path, _, _ in both], name)
    return lines + [
        f'{name}: label maps {what}: {len(wrong):,} (first: {wrong[0]})'
        for what, wrong in found.items()
        if wrong
    ]
