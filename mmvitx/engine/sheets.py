"""One picture of some samples of a dataset, as its pipeline makes them."""

from __future__ import annotations

import colorsys
import copy
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import cv2
import numpy as np
from mmcv.transforms import BaseTransform, LoadAnnotations, LoadImageFromFile, Normalize
from mmengine.logging import print_log
from mmengine.registry import VISUALIZERS, DefaultScope
from mmengine.structures import PixelData
from mmengine.visualization import Visualizer
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from mmvitx.engine.files import unfinished
from mmvitx.engine.hosts import HOSTS
from mmvitx.engine.randomness import seeded
from mmvitx.errors import first_line

SIDE = 400  # of an image on the sheet, the longer one, in px
GAP = 8
DPI = 120  # of the visualizers, whose fonts are measured in points
MOST = 64  # samples on a sheet


def draw_sheet(dataset: Dataset, host: str, path: Path, count: int = 8) -> list[str]:
    """Draw samples that are spread over a dataset, with their annotations, into one JPEG file.

    The host's own visualizer draws boxes, masks, label maps and classes. What cannot be drawn is
    a warning. The random number generators, the dataset and the visualizers of a run stay as they
    are. Of several processes only the first may call it: the visualizers of others draw nothing.

    Args:
        dataset: A dataset of one of the hosts, with its pipeline.
        host: The host, by its scope.
        path: The file. It is removed if there is nothing to draw.
        count: The number of samples, at most 64.

    Returns:
        The paths of the images that were read; of a mosaic, all of its images.

    Raises:
        UserError: The file cannot be written.
    """
    tiles, failures, opened = [], [], []
    with _noting(failures), seeded('sheet'):
        visualizer = _build_visualizer(host, getattr(dataset, 'metainfo', {}))
        dataset = _copy(dataset)
        for index in _spread(dataset, count):
            with _noting(failures):
                with _watching(opened) as seen:
                    sample = dataset[index]
                in_memory = host == 'mmpretrain' and not seen.reads  # as CIFAR, which is RGB
                for image, truth in _split(sample['inputs'], sample.get('data_samples')):
                    image = _to_rgb(image, seen.normalize, in_memory)
                    tiles.append(_fit(image))  # stays if the annotations cannot be drawn
                    tiles[-1] = _draw(visualizer, image, truth, seen.unscaled)
    if failures:
        print_log(
            f'{len(failures)} of the samples for {path} could not be drawn completely; the first '
            f'error is: {failures[0]}',
            logger='current',
            level=logging.WARNING,
        )
    if tiles:
        with unfinished(path) as part:
            part.write_bytes(cv2.imencode('.jpg', _join(tiles)[..., ::-1])[1].tobytes())
    else:
        path.unlink(missing_ok=True)
    return list(dict.fromkeys(opened))


@contextmanager
def _noting(failures: list[str]) -> Iterator[None]:
    try:
        yield
    except Exception as e:
        failures.append(f'{type(e).__name__}: {first_line(e)}')


def _build_visualizer(host: str, metainfo: dict) -> Visualizer:
    with DefaultScope.overwrite_default_scope(host):
        # not built by the registry, which would make it the current one of the process
        visualizer = VISUALIZERS.get(HOSTS[host].visualizer)(name='sheet')
    classes = metainfo.get('classes') or [f'class {i}' for i in range(256)]
    palette = metainfo.get('palette') or ()
    if isinstance(palette, str) or len(palette) < len(classes):
        hues = (0.618 * i % 1 for i in range(len(classes)))
        palette = [[int(255 * c) for c in colorsys.hsv_to_rgb(hue, 0.8, 1)] for hue in hues]
    visualizer.dataset_meta = dict(classes=classes, palette=[tuple(colour) for colour in palette])
    visualizer.alpha, visualizer.line_width = 0.6, 1.5
    visualizer._get_center_loc = _find_middle  # mmseg's own takes half a second an image
    visualizer.dpi = DPI
    visualizer.fig_save.set_dpi(DPI)
    return visualizer


def _find_middle(mask: np.ndarray) -> tuple[int, int]:
    """Give the x and y of a pixel that is set: the middle one, row by row."""
    rows, columns = mask.nonzero()
    middle = len(rows) // 2
    return int(columns[middle]), int(rows[middle])


def _copy(dataset: Dataset) -> Dataset:
    """Copy a dataset with the state of its transforms, such as caches, but not its annotations."""
    memo, parts = {}, [dataset]
    for part in parts:
        parts += [*getattr(part, 'datasets', ()), *filter(None, [getattr(part, 'dataset', None)])]
        for name in ('data_list', 'data_bytes', 'data_address'):
            value = getattr(part, name, None)
            memo[id(value)] = value
    return copy.deepcopy(dataset, memo)


def _spread(dataset: Dataset, count: int) -> list[Any]:
    size = len(dataset)
    indices = np.linspace(0, size - 1, min(count, size, MOST)).round().astype(int).tolist()
    if hasattr(dataset, 'get_len_per_video'):  # without a frame it would load the whole video
        return [(index, dataset.get_len_per_video(index) // 2) for index in indices]
    return indices


@contextmanager
def _watching(opened: list[str]) -> Iterator[SimpleNamespace]:
    """See what the transforms of a sample do that the sample itself does not tell.

    Args:
        opened: Gets the paths of the images.

    Yields:
        ``reads``, whether an image was read from a file; ``unscaled``, whether the annotations were
        loaded after the image was resized, so that they are those of the original image;
        ``normalize``, the transform that normalized the image.
    """
    seen = SimpleNamespace(reads=False, unscaled=False, normalize=None)
    call = BaseTransform.__call__

    def watched(self, results):
        if isinstance(self, LoadImageFromFile):
            seen.reads = True
            opened.append(results['img_path'])
        elif isinstance(self, LoadAnnotations):
            seen.unscaled = 'scale_factor' in results
        elif isinstance(self, Normalize):
            seen.normalize = self
        return call(self, results)

    with mock.patch.object(BaseTransform, '__call__', watched):
        yield seen


def _split(inputs: Any, truths: Any) -> Iterator[tuple[Tensor, Any]]:
    """Yield the images of a sample with their annotations: branches, views, frames, or one."""
    if isinstance(inputs, dict):
        for branch, images in inputs.items():
            if images is not None:  # as the supervised branch of what has no labels
                yield from _split(images, truths[branch])
    elif isinstance(inputs, (list, tuple)) or inputs.ndim > 3:
        truths = getattr(truths, 'video_data_samples', truths)
        if not isinstance(truths, (list, tuple)):
            truths = [truths] * len(inputs)
        for pair in zip(inputs, truths):
            yield from _split(*pair)
    else:
        yield inputs, truths


def _to_rgb(image: Tensor, normalize: Normalize | None, is_rgb: bool) -> np.ndarray:
    """Turn an image (C, H, W) as a model gets it into one to look at, (H, W, 3) uint8."""
    image = image.numpy().transpose(1, 2, 0)
    if normalize:
        image = image * normalize.std + normalize.mean
        is_rgb ^= normalize.to_rgb
    image = image[..., :3] if image.shape[2] > 2 else image[..., :1].repeat(3, axis=2)
    if image.dtype != np.uint8:
        low, high = float(image.min()), float(image.max())
        if not 16 <= high - low <= 512:  # normalized in another way, or of more than 8 bits
            image = (image.astype(np.float32) - low) * (255 / max(high - low, 1e-6))
        image = image.clip(0, 255).astype(np.uint8)
    return image if is_rgb else image[..., ::-1]


def _fit(image: np.ndarray) -> np.ndarray:
    """Resize an image to SIDE, so that what is drawn and written on it has the same size in all."""
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return cv2.resize(
        np.ascontiguousarray(image),
        size,
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST,
    )


def _draw(visualizer: Visualizer, image: np.ndarray, truth: Any, unscaled: bool) -> np.ndarray:
    height, width = image.shape[:2]
    if unscaled:
        (height, width), (x_scale, y_scale) = truth.ori_shape, truth.scale_factor
        image = image[: round(height * y_scale), : round(width * x_scale)]  # no padding
    tile = _fit(image)
    if hasattr(visualizer, 'visualize_cls'):
        if 'gt_label' not in truth:
            return tile
        return visualizer.visualize_cls(
            tile, truth, draw_pred=False, text_cfg=dict(size=9, wrap=True)
        )

    truth = copy.deepcopy(truth)  # views may share it
    size = tile.shape[:2]
    instances, labels = truth.get('gt_instances'), truth.get('gt_sem_seg')
    if instances is not None:
        if len(instances):
            _resize_instances(instances, (height, width), size)
        else:
            del truth.gt_instances  # mmdet's visualizer fails on none
    if labels is not None:
        truth.gt_sem_seg = _resize_labels(labels, size, len(visualizer.dataset_meta['classes']))
    visualizer.set_image(tile)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of boxes that touch the border
        visualizer.add_datasample('', tile, truth, draw_pred=False)
    return visualizer.get_image()


def _resize_instances(instances: Any, before: tuple[int, int], after: tuple[int, int]) -> None:
    """Resize boxes and masks from one size (H, W) to another, in the form that mmdet draws."""
    if 'bboxes' in instances:
        boxes = instances.bboxes
        scales = after[1] / before[1], after[0] / before[0]
        boxes = getattr(boxes, 'tensor', boxes)
        instances.bboxes = boxes * boxes.new_tensor(scales * 2)
    if 'masks' in instances:
        instances.masks = instances.masks.resize(after).to_ndarray()


def _resize_labels(labels: PixelData, size: tuple[int, int], classes: int) -> PixelData:
    """Resize a label map, and leave out what is none of the classes."""
    resized = PixelData(metainfo=dict(ignore_index=classes))
    for name, value in labels.items():
        value = interpolate(value[None].float(), size)[0].long()
        resized.set_data({name: value.clamp(max=classes)})
    return resized


def _join(tiles: Sequence[np.ndarray]) -> np.ndarray:
    columns = min(math.ceil(math.sqrt(2 * len(tiles))), len(tiles))
    rows = []
    for start in range(0, len(tiles), columns):
        row = tiles[start : start + columns]
        height = max(len(tile) for tile in row)
        blank = np.full((height, SIDE, 3), 255, np.uint8)
        row = [*row, *[blank] * (columns - len(row))]
        rows.append(np.hstack([_pad(tile, height + GAP, SIDE + GAP) for tile in row]))
    return np.vstack(rows)


def _pad(tile: np.ndarray, height: int, width: int) -> np.ndarray:
    y, x = height - tile.shape[0], width - tile.shape[1]
    sides = y // 2, y - y // 2, x // 2, x - x // 2
    return cv2.copyMakeBorder(tile, *sides, cv2.BORDER_CONSTANT, value=(255, 255, 255))
