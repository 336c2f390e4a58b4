"""What annotations in COCO's format hold, and a copy that MMDetection can read.

The judge is MMDetection: ``CocoDataset``, ``LoadAnnotations`` and ``CocoMetric``. What they leave
out by themselves is counted here. What makes them fail or go wrong is mended.
"""

from __future__ import annotations

import itertools
import json
import os
from math import isfinite
from typing import Any, NamedTuple

from mmvitx.datasets.images import Header, find_unreadable, read_headers
from mmvitx.errors import UserError, shorten

FAR = 100_000  # px: pycocotools needs memory in proportion to the length of a polygon's edges


class Split(NamedTuple):
    """An annotation file, and how a run reads it.

    Attributes:
        path: The annotation file.
        classes: Names of the classes in the order of the config; None if they are not known.
        folder: Where the images are; None if they are not on this machine.
        training: Whether the file is read for a training; else for an evaluation.
        alone: Whether nothing else is trained on, so that there must be objects to learn.
        masks: Whether segmentations are read.
        oriented: Whether images are turned by their EXIF orientation when they are loaded; None if
            that is not known.
        filter_empty: Whether images without objects are left out.
        min_size: Images with a shorter side than this, in px, are left out.
    """

    path: str
    classes: tuple[str, ...] | None
    folder: str | None = None
    training: bool = False
    alone: bool = True
    masks: bool = False
    oriented: bool | None = None
    filter_empty: bool = False
    min_size: int = 0


class Examined(NamedTuple):
    """What an annotation file holds.

    Attributes:
        lines: What was found, each with its count and the first case; empty for a clean file.
        coco: A mended copy of the content; None if MMDetection reads the file as it is.
        as_stored: Whether the images that EXIF turns are all annotated as they are stored, and so
            must be loaded without turning them: ``color_type='color_ignore_orientation'``.
    """

    lines: list[str]
    coco: dict[str, Any] | None
    as_stored: bool


def examine_coco(split: Split, where: str, setting: str | None = None) -> Examined:
    """Examine an annotation file, and mend what MMDetection cannot read or gets wrong.

    Args:
        split: The file, and how the run reads it.
        where: Path of the dataset in the config, for errors.
        setting: Path of the setting that names the file. Default: the ``ann_file`` of the dataset.

    Raises:
        UserError: The file is no COCO JSON, has no class of the config or has them in another
            order, or nothing in it can be used.
    """
    return _Examination(split, where, setting or f'{where}.ann_file').run()


class _Examination:
    def __init__(self, split: Split, where: str, setting: str) -> None:
        self.split = split
        self.where = where
        self.found: dict[str, tuple[int, Any]] = {}  # count and first case
        self.coco, self.mended = _read(split.path, setting)
        if split.training and split.alone and 'annotations' not in self.coco:
            raise _no_coco(split.path, 'it has no list "annotations"')
        self.as_stored = False
        self.left_out: set = set()  # ids of images

    def run(self) -> Examined:
        categories = self._take_categories()
        images = self._take_images()
        annotations = self._take_annotations(images, categories)
        lines = [f'{what}: {n:,} (first: {first})' for what, (n, first) in self.found.items()]
        coco = {**self.coco, 'categories': categories, 'images': list(images.values())}
        if 'annotations' in coco:
            coco['annotations'] = annotations
        return Examined(lines, coco if self.mended else None, self.as_stored)

    def _count(self, what: str, case: Any) -> None:
        n, first = self.found.get(what, (0, case))
        self.found[what] = n + 1, first

    def _mend(self, what: str, case: Any) -> None:
        self.mended = True
        self._count(what, case)

    def _leave_out(self, what: str, image: dict) -> None:
        self.left_out.add(image['id'])
        self._mend(f'{what}, left out', image['file_name'])

    def _nothing(self, what: str) -> UserError:
        found = '; '.join(f'{text}: {n:,}' for text, (n, _) in self.found.items())
        return UserError(
            f'{self.split.path} of {self.where} holds no {what}'
            + (f' ({found})' if found else '')
            + ': mend it or name another file'
        )

    def _take_categories(self) -> list[dict]:
        """Take the categories; of a file that lacks some classes, put those of the config first."""
        path, classes, categories = self.split.path, self.split.classes, self.coco['categories']
        ids = {one['id'] for one in categories}
        if len(ids) < len(categories) or len({type(one) for one in ids}) > 1:
            raise _no_coco(path, 'the "id" of two categories are the same, or one is text')
        by_name = {one['name']: one for one in categories}
        missing = [name for name in classes or () if name not in by_name]
        if missing and len(missing) == len(classes):
            raise UserError(
                f'{self.where} names classes that {path} lacks ({shorten(missing)}): its '
                f'categories are {shorten(by_name)}; set {self.where}.metainfo.classes'
            )
        wanted = set(classes or ())
        order = [one['name'] for one in categories if one['name'] in wanted]
        if order != [name for name in classes or () if name in by_name]:
            # mmdet takes the file's order and gives the labels wrong names
            raise UserError(
                f'the classes of {self.where} ({shorten(classes)}) must be in the order of the '
                f'categories of {path} ({shorten(order)}): set {self.where}.metainfo.classes'
            )
        if not missing:
            return categories
        free = (i for i in itertools.count(1) if i not in ids)
        for name in missing:  # mmdet would number the others as if it were no class
            self._mend('classes that the file lacks, added without objects', name)
            by_name[name] = dict(id=next(free), name=name)
        others = [one for one in categories if one['name'] not in wanted]
        return [by_name[name] for name in classes] + others

    def _take_images(self) -> dict[Any, dict]:
        """Take the images that can be used, by id, and set their sizes to those loaded."""
        named: dict[Any, dict[str, dict]] = {}
        for i, image in enumerate(self.coco['images']):
            given = image if isinstance(image, dict) else {}
            key, name = given.get('id'), given.get('file_name')
            if not isinstance(key, (int, float, str)) or not (name and isinstance(name, str)):
                self.left_out.add(str(key))
                self._mend('images without an id or file_name, left out', f'entry {i}')
                continue
            files = named.setdefault(key, {})
            if name in files:
                self._count('images listed again', name)
            files[name] = image
        for files in named.values():
            for image in files.values() if len(files) > 1 else ():
                self._leave_out('images whose id belongs to several', image)
        images = {key: next(iter(files.values())) for key, files in named.items()}
        self._take_sizes({k: one for k, one in images.items() if k not in self.left_out})
        images = {key: image for key, image in images.items() if key not in self.left_out}
        if not images:
            raise self._nothing('image that can be used')
        return images

    def _take_sizes(self, images: dict[Any, dict]) -> None:
        split, folder = self.split, self.split.folder
        headers: dict[Any, Header | None] = {}
        if folder is not None:
            paths = {key: os.path.join(folder, one['file_name']) for key, one in images.items()}
            read = read_headers(paths.values())
            headers = {key: read[path] for key, path in paths.items()}
            missing, unknown = find_unreadable(read)
            if missing and len(missing) == len(read):
                raise UserError(
                    f'the image folder {folder or "."} holds none of the images of {split.path}, '
                    f'as {os.path.relpath(missing[0], folder or ".")}: name the right one with '
                    f'--cfg-options {self.where}.data_prefix.img=...'
                )
            for path in missing:
                self._count('image files missing', path)
            for path in unknown:
                self._count('image files that are damaged or of an unknown format', path)

        # of images that EXIF turns: whether they are annotated as stored, where their sizes tell
        stored = {
            key: _size(images[key]) == header.size(oriented=False)
            for key, header in headers.items()
            if header and split.oriented is not None and header.width != header.height
            if header.turned and _size(images[key]) in (header.size(False), header.size(True))
        }
        self.as_stored = bool(split.oriented and stored and all(stored.values()))
        oriented = bool(split.oriented and not self.as_stored)
        for key, image in images.items():
            header, size = headers.get(key), _size(image)
            if stored.get(key) == oriented:
                self._leave_out('images turned by EXIF but annotated in the other frame', image)
            elif header and (not header.turned or split.oriented is not None):
                if self.as_stored and key in stored:
                    what = 'images turned by EXIF but annotated as stored, loaded so'
                    self._count(what, image['file_name'])
                elif split.oriented and header.orientation > 1 and key not in stored:
                    what = 'images turned or mirrored by EXIF, perhaps not as they are annotated'
                    self._count(what, image['file_name'])
                if size != header.size(oriented):
                    what = 'images whose size is missing or not that of the file, corrected'
                    self._mend(what, image['file_name'])
                    image['width'], image['height'] = header.size(oriented)
            elif not size:
                self._leave_out('images of unknown size', image)

    def _take_annotations(self, images: dict[Any, dict], categories: list[dict]) -> list[dict]:
        split, classes = self.split, set(self.split.classes or ())
        known = {one['id'] for one in categories}
        learnt = {one['id'] for one in categories if one['name'] in classes or not classes}
        taken: list[dict] = []
        ids: set[int] = set()
        labelled, usable = set(), 0  # images with an object of the classes, and objects to learn
        for i, ann in enumerate(self.coco.get('annotations') or ()):
            if not isinstance(ann, dict):
                self._mend('annotations that are no objects, left out', f'entry {i}')
                continue
            name = f'annotation {ann.get("id")}'
            numbered = self._is_numbered(ann, ids, name)
            image_id = self._find(ann, 'image_id', images, name)
            category_id = self._find(ann, 'category_id', known, name)
            if image_id is None or category_id is None:
                continue
            image = images[image_id]
            name = f'{name} of {image["file_name"]}'
            if not self._mend_box(ann, image, name):
                continue
            taken.append(ann)
            if not numbered:
                ann['id'] = None
            if category_id not in learnt:
                self._count('objects of other categories than the classes', name)
                continue
            labelled.add(image_id)
            if self._is_skipped(ann, image, name) and split.training:
                continue
            if (not split.masks or self._mend_mask(ann, image, name)) and not ann.get('iscrowd'):
                usable += 1
        free = itertools.count(max(ids, default=0) + 1)
        for ann in taken:
            if ann['id'] is None:
                ann['id'] = next(free)
        self._count_filtered(images, labelled)
        if split.training and split.alone and not usable:
            masks = ' with a segmentation that can be used' if split.masks else ''
            raise self._nothing(f'object of the classes{masks}')
        return taken

    def _is_numbered(self, ann: dict, ids: set[int], name: str) -> bool:
        """Whether an annotation has an id of its own, which is added to the others."""
        number = ann.get('id')
        lowest = 0 if self.split.training else 1  # pycocotools takes 0 for an object not found
        if type(number) is int and lowest <= number < 2**53 and number not in ids:
            ids.add(number)
            return True
        self._mend('annotations whose id is missing, taken or out of range, numbered anew', name)
        return False

    def _is_skipped(self, ann: dict, image: dict, name: str) -> bool:
        """Whether mmdet's dataset skips an object; its evaluation does not."""
        x, y, w, h = ann['bbox']
        if ann.get('ignore'):
            what = 'objects marked as ignored'
        elif w < 1 or h < 1 or ann['area'] <= 0:
            what = 'boxes smaller than a pixel'
        elif x + w <= 0 or x >= image['width'] or y + h <= 0 or y >= image['height']:
            what = 'boxes outside their image'
        else:
            return False
        self._count(what + (', which training leaves out' if self.split.training else ''), name)
        return True

    def _count_filtered(self, images: dict[Any, dict], labelled: set) -> None:
        """Count the images that mmdet filters out: by their annotations, usable or not."""
        for key, image in images.items():
            if self.split.filter_empty and key not in labelled:
                what = 'without objects'
            elif min(image['width'], image['height']) < self.split.min_size:
                what = f'smaller than {self.split.min_size} px'
            else:
                continue
            self._count(f'images {what}, which training leaves out', image['file_name'])

    def _find(self, ann: dict, key: str, known: Any, name: str) -> Any:
        """Find the image or category that an annotation belongs to; None if there is none."""
        value = ann.get(key)
        if value.__hash__ is None or key not in ann:
            self._mend(f'annotations without {key}, left out', name)
            return None
        if value in known:
            return value
        other: Any = str(value)
        if isinstance(value, str):
            other = int(value) if value.strip().isdecimal() else None
        if other in known:
            what = 'text instead of a number or the reverse'
            self._mend(f'annotations whose {key} is {what}, corrected', name)
            ann[key] = other
            return other
        what = f'of an unknown {key}'
        if key == 'image_id' and self.left_out & {value, other}:
            what = 'of images that are left out'
        self._count(f'annotations {what}', name)
        return None

    def _mend_box(self, ann: dict, image: dict, name: str) -> bool:
        """Complete what is said of an object apart from its mask; False if it has no box."""
        box = ann.get('bbox')
        if not (isinstance(box, list) and len(box) == 4 and _is_finite(box)):
            ann['bbox'] = box = _find_box(ann.get('segmentation'), image)
            done = 'taken from the segmentation' if box else 'left out'
            self._mend(f'boxes that are missing or not four finite numbers, {done}', name)
            if not box:
                return False
        if not _is_finite([ann.get('area')]):
            self._mend('objects without an area, for which that of the box is taken', name)
            ann['area'] = box[2] * box[3]
        crowd = ann.get('iscrowd', 0 if self.split.training else None)
        if crowd not in (0, 1):
            self._mend('objects whose iscrowd is missing or neither 0 nor 1, corrected', name)
            ann['iscrowd'] = int(crowd == '1')
        return True

    def _mend_mask(self, ann: dict, image: dict, name: str) -> bool:
        """Keep the polygons that can be drawn; if there are none, have the object ignored."""
        given = ann.get('segmentation')
        if isinstance(given, dict):
            if _is_run_length(given, image):
                return True
            kind = 'a run-length code that is damaged or of another size than the image'
        else:
            polygons = given if isinstance(given, list) else []
            drawable = [one for one in polygons if _is_polygon(one)]
            kind = 'polygons of two points, an odd length or without finite coordinates'
            if drawable:
                if len(drawable) < len(polygons):
                    self._mend(f'objects with {kind}, which are left out', name)
                    ann['segmentation'] = drawable
                return True
            kind = kind if given else 'no segmentation'
        self._mend(f'objects with {kind}, ignored', name)
        # a crowd is neither learnt nor counted as missed; its box is the region to ignore
        x, y, w, h = ann['bbox']
        ann['iscrowd'] = 1
        ann['segmentation'] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        return False


def _read(path: str, setting: str) -> tuple[dict, bool]:
    """Read the content of a file; also say whether pycocotools could not read its encoding."""
    try:
        with open(path, 'rb') as file:
            text = file.read()
    except FileNotFoundError as e:
        raise UserError(
            f'the annotation file {path} does not exist: put or link the data there, or name their '
            f'place with --data-root or --cfg-options {setting}=...'
        ) from e
    except OSError as e:
        raise UserError(
            f'the annotation file {path!r} of a COCO dataset cannot be read ({e.strerror}): '
            f'name a readable file as {setting}'
        ) from e
    if not text.strip():
        raise UserError(f'the annotation file {path} is empty')
    try:
        coco = json.loads(text)
    except ValueError as e:
        cut = '' if text.rstrip().endswith(b'}') else ', as if truncated'
        raise _no_coco(path, f'{e}{cut}') from e
    if not isinstance(coco, dict):
        raise _no_coco(path, 'it holds no object {...}')
    for key in ('images', 'categories', 'annotations'):
        # a test set is published without annotations
        if not isinstance(coco.get(key, [] if key == 'annotations' else None), list):
            raise _no_coco(path, f'it has no list "{key}"')
    for one in coco['categories']:
        given = one if isinstance(one, dict) else {}
        if not isinstance(given.get('id'), (int, str)) or not isinstance(given.get('name'), str):
            raise _no_coco(path, 'a category lacks its "id" or "name"')
    return coco, json.detect_encoding(text) != 'utf-8'


def _no_coco(path: str, reason: str) -> UserError:
    return UserError(
        f'the annotation file {path} is no COCO JSON ({reason}): expected an object with '
        'the lists "images", "annotations" and "categories"'
    )


def _size(image: dict) -> tuple[float, float] | None:
    size = image.get('width'), image.get('height')
    return size if _is_finite(size) and min(size) > 0 else None


def _is_finite(values: Any) -> bool:
    """Whether all are numbers, neither NaN nor infinite; as fast as the largest files need."""
    try:
        return isfinite(sum(values))
    except (TypeError, OverflowError):
        return False


def _is_polygon(points: Any) -> bool:
    if not isinstance(points, list) or len(points) < 6 or len(points) % 2 or not _is_finite(points):
        return False
    return min(points) > -FAR and max(points) < FAR


def _is_run_length(code: dict, image: dict) -> bool:
    size, counts = [image['height'], image['width']], code.get('counts')
    if code.get('size') != size or not counts or isinstance(counts, str):
        return code.get('size') == size and bool(counts)
    return _is_finite(counts) and min(counts) >= 0 and sum(counts) == size[0] * size[1]


def _find_box(segmentation: Any, image: dict) -> list[float] | None:
    """Find the box around a segmentation, [x, y, w, h]; None if there is none."""
    if isinstance(segmentation, dict) and _is_run_length(segmentation, image):
        from pycocotools import mask

        if isinstance(segmentation['counts'], list):
            segmentation = mask.frPyObjects(segmentation, *segmentation['size'])
        return mask.toBbox(segmentation).tolist()
    polygons = segmentation if isinstance(segmentation, list) else []
    points = [value for one in polygons if _is_polygon(one) for value in one]
    if not points:
        return None
    x, y = points[::2], points[1::2]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]
