"""Handwritten digits on coloured canvases, as a dataset that needs no download.

scikit-learn brings 1,797 real handwritten digits of 8x8 pixels. Some of them, enlarged, make a
canvas; a canvas knows the visible pixels of each of its digits, and from that a writer makes the
files of a task: :func:`write_coco` those of detection and instance segmentation,
:func:`write_semantic` those of semantic segmentation, and :func:`write_folders` those of
classification, of canvases with one digit.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

CLASSES = tuple('0123456789')
VERSION = 2  # of what is drawn and written: a new number makes existing datasets be written again
STAMP = 'digits.json'

OVERLAP = 0.1  # of the smaller of two squares: as much as they may share
PLACES = 20  # tried for a digit before the canvas goes without it


class Drawing(NamedTuple):
    """How canvases look.

    Attributes:
        size: Height and width of a canvas in px.
        side: Smallest and largest side, in px, of the square that a digit is drawn in.
        count: Fewest and most digits that a canvas asks for.
    """

    size: int
    side: tuple[int, int]
    count: tuple[int, int]


MANY = Drawing(size=160, side=(20, 72), count=(4, 8))
ONE = Drawing(size=32, side=(20, 32), count=(1, 1))


class Canvas(NamedTuple):
    """One drawn picture and the truth about it.

    Attributes:
        image: (H, W, 3) uint8, BGR.
        labels: (n,) int64, the digit, 0..9.
        masks: (n, H, W) bool, the visible pixels of each digit; no pixel belongs to two.
    """

    image: np.ndarray
    labels: np.ndarray
    masks: np.ndarray


def load_samples(split: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Load the handwritten digits of one split: a fifth are ``val``, the others ``train``.

    Args:
        split: ``train`` or ``val``. The two share no digit as long as the seed is the same.
        seed: Seed of the split.

    Returns:
        Ink (n, 8, 8) float32 from 0 to 1, and labels (n,) int64.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            'the digits come with scikit-learn, which is not installed: pip install scikit-learn'
        ) from error
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    n_val = len(order) // 5
    chosen = {'train': order[n_val:], 'val': order[:n_val]}[split]
    return (digits.images[chosen] / 16).astype(np.float32), digits.target[chosen].astype(np.int64)


def draw_canvas(
    rng: np.random.Generator, ink: np.ndarray, labels: np.ndarray, drawing: Drawing = MANY
) -> Canvas:
    """Draw a few of the given digits, bright on a dark coloured ground, later ones on top.

    Args:
        rng: Source of all that is random here.
        ink: (n, 8, 8) float32 from 0 to 1, the digits to choose from.
        labels: (n,) int64, what they are.
        drawing: How it looks.
    """
    size = drawing.size
    corners = rng.uniform(0, 110, (3, 3, 3)).astype(np.float32)
    image = cv2.resize(corners, (size, size), interpolation=cv2.INTER_CUBIC)

    squares, drawn, masks = [], [], []
    for index in rng.integers(len(labels), size=rng.integers(*drawing.count, endpoint=True)):
        side = int(rng.integers(*drawing.side, endpoint=True))
        square = _free_square(rng, side, size, squares)
        if square is None:
            continue
        x, y, _ = square
        opacity = np.zeros((size, size), np.float32)
        opacity[y : y + side, x : x + side] = cv2.resize(
            ink[index], (side, side), interpolation=cv2.INTER_CUBIC
        ).clip(0, 1)
        colour = rng.uniform(150, 255, 3)
        image += opacity[..., None] * (colour - image)

        visible = opacity > 0.5
        masks = [mask & ~visible for mask in masks] + [visible]
        squares.append(square)
        drawn.append(labels[index])
    return Canvas(image.round().clip(0, 255).astype(np.uint8), np.array(drawn), np.stack(masks))


def _free_square(
    rng: np.random.Generator, side: int, size: int, taken: list
) -> tuple[int, int, int] | None:
    """Find a square (x, y, side) on the canvas that overlaps the taken ones little, or None."""
    for _ in range(PLACES):
        x, y = (int(v) for v in rng.integers(size - side, size=2, endpoint=True))
        if all(_shared(x, y, side, *other) <= OVERLAP for other in taken):
            return x, y, side
    return None


def _shared(x1: int, y1: int, side1: int, x2: int, y2: int, side2: int) -> float:
    """Compute the area that two squares share, as a part of the smaller one."""
    width = min(x1 + side1, x2 + side2) - max(x1, x2)
    height = min(y1 + side1, y2 + side2) - max(y1, y2)
    return max(width, 0) * max(height, 0) / min(side1, side2) ** 2


def draw_split(split: str, count: int, seed: int = 0, drawing: Drawing = MANY) -> Iterator[Canvas]:
    """Draw ``count`` canvases of ``train`` or ``val``, the same ones for the same seed."""
    ink, labels = load_samples(split, seed)
    rng = np.random.default_rng([seed, ('train', 'val').index(split)])
    for _ in range(count):
        yield draw_canvas(rng, ink, labels, drawing)


def write_coco(root: Path, split: str, canvases: Iterable[Canvas]) -> None:
    """Write ``root/<split>/*.png`` and ``root/annotations/instances_<split>.json``.

    It is COCO's format. Boxes are ``[x, y, width, height]`` in px around the visible pixels, masks
    are compressed RLE. The category of a digit has its value as id.
    """
    from pycocotools import mask as rle

    images, annotations = [], []
    (root / split).mkdir(parents=True)
    (root / 'annotations').mkdir(exist_ok=True)
    for image_id, canvas in enumerate(canvases, 1):
        name = f'{image_id:06d}.png'
        height, width = canvas.image.shape[:2]
        _write_image(root / split / name, canvas.image)
        images.append(dict(id=image_id, file_name=name, width=width, height=height))
        for label, mask in zip(canvas.labels, canvas.masks):
            code = rle.encode(np.asfortranarray(mask, np.uint8))
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=int(label),
                    bbox=rle.toBbox(code).tolist(),
                    area=int(mask.sum()),
                    iscrowd=0,
                    segmentation=dict(size=code['size'], counts=code['counts'].decode()),
                )
            )
    categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES)]
    content = dict(images=images, annotations=annotations, categories=categories)
    (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(content))


def write_semantic(root: Path, split: str, canvases: Iterable[Canvas]) -> None:
    """Write ``root/semantic/<split>/*.png``, label maps of the images of :func:`write_coco`.

    They are (H, W) uint8: 0 the ground, 1 + d the visible pixels of a digit d.
    """
    folder = root / 'semantic' / split
    folder.mkdir(parents=True)
    for image_id, canvas in enumerate(canvases, 1):
        labels = np.zeros(canvas.image.shape[:2], np.uint8)
        for label, mask in zip(canvas.labels, canvas.masks):
            labels[mask] = 1 + label
        _write_image(folder / f'{image_id:06d}.png', labels)


def write_folders(root: Path, split: str, canvases: Iterable[Canvas]) -> None:
    """Write ``root/<split>/<digit>/*.png`` of canvases with one digit each: a folder a class."""
    counts = Counter()
    for digit in CLASSES:
        (root / split / digit).mkdir(parents=True)
    for canvas in canvases:
        (label,) = canvas.labels
        counts[label] += 1
        _write_image(root / split / CLASSES[label] / f'{counts[label]:06d}.png', canvas.image)


def _write_image(path: Path, image: np.ndarray) -> None:
    if not cv2.imwrite(str(path), image):
        raise OSError(f'{path} could not be written; is the disk full?')


class Task(NamedTuple):
    """What a task's dataset is: how it looks, what writes it, and how many canvases by default."""

    drawing: Drawing
    writers: tuple[Callable[[Path, str, Iterable[Canvas]], None], ...]
    train: int
    val: int


TASKS = {
    'detection': Task(MANY, (write_coco, write_semantic), train=1200, val=150),
    'classification': Task(ONE, (write_folders,), train=19200, val=1000),
}


def make_digits(
    root: str | Path,
    train: int | None = None,
    val: int | None = None,
    seed: int = 0,
    task: str = 'detection',
) -> Path:
    """Write the dataset of digits, unless it is there already with the same settings.

    It is written next to ``root`` and moved there at the end, so what lies at ``root`` is complete.
    Same settings, same bytes. Of one seed, the datasets of all tasks train and evaluate on the same
    handwritten digits, so that what was pretrained on one has not seen what another evaluates on.

    Args:
        root: Folder of the dataset; replaced where it holds digits of other settings.
        train: Number of canvases to train on; by default as many as the task needs.
        val: Number of canvases to evaluate on, drawn from other handwritten digits; likewise.
        seed: Seed of everything.
        task: ``detection`` (and instance segmentation, as COCO), or ``classification`` (a folder a
            class).

    Returns:
        ``root``.

    Raises:
        FileExistsError: ``root`` holds something else than such a dataset.
        ImportError: scikit-learn or pycocotools is not installed.
        OSError: A file could not be written.
    """
    target = Path(root).resolve()  # a link stays a link
    drawing, writers, *defaults = TASKS[task]
    counts = [n if given is None else given for n, given in zip(defaults, (train, val))]
    settings = dict(version=VERSION, train=counts[0], val=counts[1], seed=seed)
    if task != 'detection':
        settings['task'] = task
    stamp = json.dumps(settings)
    if (target / STAMP).is_file():
        if (target / STAMP).read_text() == stamp:
            return Path(root)
    elif target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(
            f'{root} holds something that is no dataset of digits (it has no {STAMP}); '
            'give another folder, or remove this one'
        )

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f'.{target.name}-', dir=target.parent) as folder:
        new, old = Path(folder) / 'new', Path(folder) / 'old'
        for split, count in zip(('train', 'val'), counts):
            for write in writers:
                write(new, split, draw_split(split, count, seed, drawing))
        (new / STAMP).write_text(stamp)
        if target.exists():
            target.rename(old)
        new.rename(target)
    return Path(root)
