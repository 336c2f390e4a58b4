"""Label maps for semantic segmentation out of COCO's instance annotations."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from mmengine.utils import ProgressBar

from mmvitx.errors import UserError

UNLABELLED = 255  # what mmseg ignores
VERSION = 1  # of what is drawn: maps of another one are not gone on with
STAMP = 'semantic.json'
CLASSES = 'classes.txt'


class Outline(NamedTuple):
    """One object of an image.

    Attributes:
        label: 0..254, or UNLABELLED.
        segmentation: As in COCO: polygons [[x, y, x, y, ...], ...] in px, or a run-length code.
        name: What to call it in an error.
    """

    label: int
    segmentation: list | dict
    name: str


class Task(NamedTuple):
    """One label map to write."""

    path: Path
    size: tuple[int, int]
    outlines: list[Outline]


def draw_labels(size: tuple[int, int], outlines: Iterable[Outline]) -> np.ndarray:
    """Draw objects into a map of labels, the larger ones first.

    So of two that overlap the smaller one is seen whole, which is the cup on the table and the tie
    on the person. What no object covers is UNLABELLED.

    Args:
        size: (H, W) of the image.
        outlines: The objects.

    Returns:
        (H, W) uint8.

    Raises:
        UserError: A segmentation is not of COCO's forms, or of another size.
    """
    from pycocotools import mask as rle

    codes = [(_encode(one, size), one.label) for one in outlines]
    codes = [(code, label) for code, label in codes if code is not None]
    labels = np.full(size, UNLABELLED, np.uint8)
    for code, label in sorted(codes, key=lambda pair: -int(rle.area(pair[0]))):
        labels[rle.decode(code).astype(bool)] = label
    return labels


def _encode(outline: Outline, size: tuple[int, int]) -> dict | None:
    """Turn a segmentation into a compressed run-length code; None if it has no area."""
    from pycocotools import mask as rle

    segmentation = outline.segmentation
    try:
        if isinstance(segmentation, list):
            # two points have no area, and pycocotools would take them for a box
            polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
            return rle.merge(rle.frPyObjects(polygons, *size)) if polygons else None
        if tuple(segmentation['size']) != size:
            raise ValueError(f'it is of {segmentation["size"]} pixels, the image of {list(size)}')
        if isinstance(segmentation['counts'], list):
            return rle.frPyObjects(segmentation, *size)
        return segmentation
    except Exception as e:  # pycocotools raises the bare class
        raise UserError(f'the segmentation of {outline.name} is none of COCO: {e}') from e


def convert(ann_file: str | Path, out: str | Path, jobs: int | None = None) -> tuple[int, int]:
    """Write a label map for each image of an annotation file, unless it is there already.

    Labels count the categories in the order of the file, which for COCO is the order of mmseg's
    COCO-Stuff too. The inside of a crowd is UNLABELLED: its outline holds more than the crowd.
    A map appears in one piece, so that the same call goes on after an interruption.

    Args:
        ann_file: Instance annotations of COCO's format.
        out: Folder for the maps, ``<file_name of the image>.png``, beside ``classes.txt`` with the
            names of the classes.
        jobs: Number of processes; default: one a core.

    Returns:
        The number of maps in all, and of those that were there already.

    Raises:
        UserError: The annotations are not of COCO's format or do not fit the images, the folder
            holds something else, or a map cannot be written.
    """
    if jobs is not None and jobs < 1:
        raise UserError(f'the number of processes (--jobs) must be at least 1, not {jobs}')
    tasks, classes, digest = _read(Path(ann_file))
    out = Path(out)
    tasks = [task._replace(path=out / task.path) for task in tasks]
    stamp = dict(version=VERSION, annotations=digest)
    try:
        _prepare(out, stamp, classes)
        for folder in {task.path.parent for task in tasks}:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f'the folder {out} cannot be written: {e.strerror}') from e
    open_tasks = [task for task in tasks if not task.path.exists()]
    if open_tasks:
        _run(open_tasks, min(jobs or os.cpu_count() or 1, len(open_tasks)))
    return len(tasks), len(tasks) - len(open_tasks)


def _read(ann_file: Path) -> tuple[list[Task], list[str], str]:
    """Read the tasks, with paths relative to the folder, the classes and the file's hash."""
    try:
        text = ann_file.read_bytes()
        coco = json.loads(text)
        categories = coco['categories']
        labels = {one['id']: label for label, one in enumerate(categories)}
        tasks = {
            one['id']: Task(
                Path(one['file_name']).with_suffix('.png'), (one['height'], one['width']), []
            )
            for one in coco['images']
        }
        for one in coco['annotations']:
            name = f'annotation {one["id"]} in {ann_file}'
            for key, known in (('image_id', tasks), ('category_id', labels)):
                if one[key] not in known:
                    raise UserError(f'{name} has the {key} {one[key]}, which the file lacks')
            label = UNLABELLED if one.get('iscrowd') else labels[one['category_id']]
            outline = Outline(label, one['segmentation'], name)
            tasks[one['image_id']].outlines.append(outline)
    except OSError as e:
        raise UserError(f'the annotation file {ann_file} cannot be read: {e.strerror}') from e
    except (ValueError, KeyError, TypeError) as e:
        what = f'{e} is missing' if isinstance(e, KeyError) else e
        raise UserError(
            f'the annotation file {ann_file} holds no instance annotations of COCO: {what}'
        ) from e
    if len(categories) > UNLABELLED:
        raise UserError(f'{ann_file} has {len(categories)} categories; {UNLABELLED} at most fit')
    paths = [task.path for task in tasks.values()]
    for path in paths:
        if path.is_absolute() or '..' in path.parts:
            raise UserError(f'the file_name of {path.stem} in {ann_file} leads out of the folder')
    if len(set(paths)) < len(paths):
        raise UserError(f'two images in {ann_file} differ in the ending of their file_name only')
    classes = [one['name'] for one in categories]
    return list(tasks.values()), classes, hashlib.sha256(text).hexdigest()


def _prepare(out: Path, stamp: dict, classes: Sequence[str]) -> None:
    """Make the folder, or see that it is the one to go on with."""
    path = out / STAMP
    if path.is_file():
        if path.read_text() != json.dumps(stamp):
            raise UserError(
                f'{out} holds label maps of other annotations: remove it, or give another folder'
            )
    elif out.is_dir() and any(out.iterdir()):
        raise UserError(
            f'{out} holds something else than label maps (it has no {STAMP}): give another folder'
        )
    out.mkdir(parents=True, exist_ok=True)
    for name, text in ((STAMP, json.dumps(stamp)), (CLASSES, '\n'.join(classes) + '\n')):
        _write(out / name, text.encode())


def _run(tasks: Sequence[Task], jobs: int) -> None:
    bar = ProgressBar(len(tasks), file=sys.stderr)
    if jobs == 1:
        for task in tasks:
            _draw(task)
            bar.update()
        return
    pool = ProcessPoolExecutor(jobs, initializer=_ignore_interrupts)
    try:
        for _ in pool.map(_draw, tasks, chunksize=16):
            bar.update()
    except BrokenProcessPool as e:
        raise UserError(
            'a process was ended from outside, as when memory runs out: the same command goes on, '
            'with fewer --jobs'
        ) from e
    finally:
        pool.shutdown(cancel_futures=True)


def _ignore_interrupts() -> None:
    """Leave Ctrl-C, which reaches all processes, to the first of them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _draw(task: Task) -> None:
    labels = draw_labels(task.size, task.outlines)
    try:
        _write(task.path, cv2.imencode('.png', labels)[1].tobytes())
    except OSError as e:
        raise UserError(f'{task.path} cannot be written: {e.strerror}') from e


def _write(path: Path, content: bytes) -> None:
    """Write a file that is there as a whole or not at all."""
    part = path.with_name(f'{path.name}.part')
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
