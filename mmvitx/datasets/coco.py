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

from mmvitx.datasets.images import read_headers
from mmvitx.engine.configs import shorten
from mmvitx.errors import UserError

FAR = 100_000  # px: pycocotools needs memory in proportion to the length of a polygon's edges


class Split(NamedTuple):
    """An annotation file, and how a run reads it.

    Attributes:
        path: The annotation file.
        classes: Names of the classes in the order of the config; None if they are not known.
        folder: Where the images are; None if they are not on this machine.
        training: Whether objects are learnt from; else the file is read for an evaluation.
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
    masks: bool = False
    oriented: bool | None = None
    filter_empty: bool = False
    min_size: int = 0


class Examined(NamedTuple):
    """What an annotation file holds.

    Attributes:
        lines: What was found, each with its count and the first case; empty for a clean file.
        coco: A mended copy of the content; None if MMDetection reads the file as it is.
        as_stored: Whether all images that EXIF turns are annotated as they are stored, so that they
            have to be loaded that way: ``color_type='color_ignore_orientation'``.
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
        self.found: dict[str, tuple[int, str]] = {}  # count and first case
        self.coco, self.mended = _read(split.path, setting)
        if split.training and 'annotations' not in self.coco:
            raise _no_coco(split.path, 'it has no list "annotations"')
        self.as_stored = False
        self.unused: set = set()  # ids of images that are left out

    def run(self) -> Examined:
        categories = self._take_categories()
        images = self._take_images()
        annotations = self._take_annotations(images, categories)
        lines = [f'{what}: {n:,} (first: {first})' for what, (n, first) in self.found.items()]
        coco = None
        if self.mended:
            coco = {**self.coco, 'categories': categories, 'images': list(images.values())}
            if 'annotations' in coco:
                coco['annotations'] = annotations
        return Examined(lines, coco, self.as_stored)

    def _count(self, what: str, case: Any, mended: bool = False) -> None:
        n, first = self.found.get(what, (0, case))
        self.found[what] = n + 1, first
        self.mended |= mended

    def _nothing(self, what: str) -> UserError:
        found = '; '.join(f'{text}: {n:,}' for text, (n, _) in self.found.items())
        return UserError(
            f'{self.split.path} of {self.where} holds no {what}'
            + (f' ({found})' if found else '')
            + ': mend it or name another file'
        )

    def _take_categories(self) -> list[dict]:
        """Take the categories, those of the config's classes first if the file lacks some."""
        path, classes = self.split.path, self.split.classes
        categories = self.coco['categories']
        ids = {one['id'] for one in categories}
        if len(ids) < len(categories):
            raise _no_coco(path, 'two categories have the same "id"')
        if classes is None:
            return categories
        by_name = {one['name']: one for one in categories}
        missing = [name for name in classes if name not in by_name]
        if len(missing) == len(classes):
            raise UserError(
                f'{self.where} names classes that {path} lacks ({shorten(missing)}): its '
                f'categories are {shorten(by_name)}; set {self.where}.metainfo.classes'
            )
        order = [one['name'] for one in categories if one['name'] in classes]
        if order != [name for name in classes if name in by_name]:
            # mmdet takes the file's order and gives the labels wrong names
            raise UserError(
                f'the classes of {self.where} ({shorten(classes)}) must be in the order of the '
                f'categories of {path} ({shorten(order)}): set {self.where}.metainfo.classes'
            )
        if not missing:
            return categories
        free = (i for i in itertools.count(1) if i not in ids)
        for name in missing:  # mmdet would number the others as if it were no class
            self._count('classes that the file lacks, added without objects', name, mended=True)
            by_name[name] = dict(id=next(free), name=name)
        others = [one for one in categories if one['name'] not in classes]
        return [by_name[name] for name in classes] + others

    def _take_images(self) -> dict[Any, dict]:
        """Take the images that can be loaded, by id, and set their sizes to those loaded."""
        images: dict[Any, dict] = {}
        ambiguous = []
        for i, image in enumerate(self.coco['images']):
            known = image if isinstance(image, dict) else {}
            key, name = known.get('id'), known.get('file_name')
            if not isinstance(key, (int, float, str)) or not isinstance(name, str):
                self.unused.add(str(key))
                what = 'images without an id or file_name, left out'
                self._count(what, f'entry {i}', mended=True)
            elif image['id'] not in images:
                images[image['id']] = image
            elif images[image['id']]['file_name'] == image['file_name']:
                self._count('images listed again', image['file_name'])
            else:
                ambiguous.append(image)
        for image in ambiguous + [images[one['id']] for one in ambiguous if one['id'] in images]:
            images.pop(image['id'], None)
            self.unused.add(image['id'])
            what = 'images whose id belongs to several, left out'
            self._count(what, image['file_name'], mended=True)
        self._take_sizes(images)
        if not images:
            raise self._nothing('image that can be used')
        return images

    def _take_sizes(self, images: dict[Any, dict]) -> None:
        split = self.split
        headers = {}
        if split.folder is not None:
            paths = {
                key: os.path.join(split.folder, one['file_name']) for key, one in images.items()
            }
            read = read_headers(paths.values())
            headers = {key: read[path] for key, path in paths.items()}
            self._count_unreadable([paths[key] for key, header in headers.items() if not header])

        # how the images that EXIF turns are annotated, where their sizes tell
        stored, shown = set(), set()
        for key, header in headers.items():
            if header and header.turned and header.width != header.height:
                size = _size(images[key])
                if size == (header.width, header.height):
                    stored.add(key)
                elif size == (header.height, header.width):
                    shown.add(key)
        self.as_stored = bool(split.oriented and stored and not shown)
        oriented = split.oriented and not self.as_stored
        for key in () if split.oriented is None else stored if oriented else shown:
            what = 'images turned by EXIF but annotated in the other frame, left out'
            self._leave_out(images, key, what)

        for key, image in list(images.items()):
            header, size = headers.get(key), _size(image)
            if header and (not header.turned or split.oriented is not None or not size):
                turned = header.turned and oriented
                right = (header.height, header.width) if turned else (header.width, header.height)
                if size != right:
                    what = 'images whose size is missing or not that of the file, corrected'
                    self._count(what, image['file_name'], mended=True)
                    image['width'], image['height'] = right
            elif not size:
                self._leave_out(images, key, 'images of unknown size, left out')

    def _count_unreadable(self, paths: list[str]) -> None:
        missing = [path for path in paths if not os.path.exists(path)]
        if missing and len(missing) == len(self.coco['images']):
            raise UserError(
                f'the image folder {self.split.folder or "."} holds none of the images of '
                f'{self.split.path}, as {os.path.relpath(missing[0], self.split.folder or ".")}: '
                f'name the right one with --cfg-options {self.where}.data_prefix.img=...'
            )
        absent = set(missing)
        for path in paths:
            self._count('image files missing' if path in absent else 'image files damaged', path)

    def _leave_out(self, images: dict[Any, dict], key: Any, what: str) -> None:
        self._count(what, images.pop(key)['file_name'], mended=True)
        self.unused.add(key)

    def _take_annotations(self, images: dict[Any, dict], categories: list[dict]) -> list[dict]:
        split = self.split
        classes = split.classes
        known = {one['id'] for one in categories}
        learnt = {one['id'] for one in categories if classes is None or one['name'] in classes}
        skipped = ', which training leaves out' if split.training else ''
        taken = []
        ids: set = set()
        renumber = False
        labelled = set()  # ids of images with an object of the classes, usable or not
        usable = 0
        for i, ann in enumerate(self.coco.get('annotations') or ()):
            if not isinstance(ann, dict):
                self._count('annotations that are no objects, left out', f'entry {i}', mended=True)
                continue
            number = ann.get('id')
            name = f'annotation {number}'
            if type(number) is not int or number in ids or (number < 1 and not split.training):
                # pycocotools takes the object 0 for one that was not found
                renumber = True
                what = 'annotations whose id is missing, taken or below 1, numbered anew'
                self._count(what, name, mended=True)
            else:
                ids.add(number)
            image_id = self._find(ann, 'image_id', images)
            category_id = self._find(ann, 'category_id', known)
            if image_id is None or category_id is None:
                continue
            image = images[image_id]
            if not self._mend_box(ann, image):
                continue
            taken.append(ann)
            if category_id not in learnt:
                self._count('objects of other categories than the classes', name)
                continue
            labelled.add(image_id)
            x, y, w, h = ann['bbox']
            case = (ann, image)
            if ann.get('ignore'):
                self._count(f'objects marked as ignored{skipped}', _name(*case))
            elif w < 1 or h < 1 or ann['area'] <= 0:
                self._count(f'boxes smaller than a pixel{skipped}', _name(*case))
            elif min(x + w, image['width']) <= max(x, 0) or min(y + h, image['height']) <= max(
                y, 0
            ):
                self._count(f'boxes outside their image{skipped}', _name(*case))
            elif (not split.masks or self._mend_mask(ann, image)) and not ann.get('iscrowd'):
                usable += 1
        if renumber:
            for i, ann in enumerate(taken, 1):
                ann['id'] = i
        for key, image in images.items():
            if split.filter_empty and key not in labelled:
                self._count('images without objects, which training leaves out', image['file_name'])
            elif min(image['width'], image['height']) < split.min_size:
                what = f'images smaller than {split.min_size} px, which training leaves out'
                self._count(what, image['file_name'])
        if split.training and not usable:
            masks = ' with a segmentation that can be used' if split.masks else ''
            raise self._nothing(f'object of the classes{masks}')
        return taken

    def _find(self, ann: dict, key: str, known: Any) -> Any:
        """Find the image or category that an annotation belongs to; None if there is none."""
        value = ann.get(key, [])
        try:
            if value in known:
                return value
        except TypeError:
            what = f'annotations without {key}, left out'
            self._count(what, f'annotation {ann.get("id")}', mended=True)
            return None
        try:
            other = int(value) if isinstance(value, str) else str(value)
        except ValueError:
            other = None
        if other in known:
            what = f'values of {key} that are text instead of a number or the reverse, corrected'
            self._count(what, f'annotation {ann.get("id")}', mended=True)
            ann[key] = other
            return other
        unused = key == 'image_id' and (value in self.unused or other in self.unused)
        kind = 'images' if key == 'image_id' else 'categories'
        what = (
            'annotations of images that are left out'
            if unused
            else f'annotations of unknown {kind}'
        )
        self._count(what, f'annotation {ann.get("id")}')
        return None

    def _mend_box(self, ann: dict, image: dict) -> bool:
        """Complete what is said of an object apart from its mask; False if it has no box."""
        if not _is_box(ann.get('bbox')):
            box = _find_box(ann.get('segmentation'), image)
            what = 'boxes that are missing or not four finite numbers, ' + (
                'taken from the segmentation' if box else 'left out'
            )
            self._count(what, _name(ann, image), mended=True)
            if not box:
                return False
            ann['bbox'] = box
        if not _is_number(ann.get('area')):
            what = 'objects without an area, for which that of the box is taken'
            self._count(what, _name(ann, image), mended=True)
            ann['area'] = ann['bbox'][2] * ann['bbox'][3]
        crowd = ann.get('iscrowd', 0 if self.split.training else None)
        if crowd not in (0, 1):
            ann['iscrowd'] = int(crowd == '1')
            what = 'objects whose iscrowd is missing or neither 0 nor 1, corrected'
            self._count(what, _name(ann, image), mended=True)
        return True

    def _mend_mask(self, ann: dict, image: dict) -> bool:
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
                    what = f'objects with {kind}, which are left out'
                    self._count(what, _name(ann, image), mended=True)
                    ann['segmentation'] = drawable
                return True
            kind = kind if given else 'no segmentation'
        self._count(f'objects with {kind}, ignored', _name(ann, image), mended=True)
        # a crowd is neither learnt nor counted as missed; its box is the region to ignore
        x, y, w, h = ann['bbox']
        ann['iscrowd'] = 1
        ann['segmentation'] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        return False


def _name(ann: dict, image: dict) -> str:
    return f'annotation {ann.get("id")} of {image["file_name"]}'


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
        if not isinstance(one, dict) or not isinstance(one.get('id'), (int, str)):
            raise _no_coco(path, 'a category lacks its "id" or "name"')
        if not isinstance(one.get('name'), str):
            raise _no_coco(path, 'a category lacks its "id" or "name"')
    return coco, json.detect_encoding(text) != 'utf-8'


def _no_coco(path: str, reason: str) -> UserError:
    return UserError(
        f'the annotation file {path} is no COCO JSON ({reason}): expected an object with '
        'the lists "images", "annotations" and "categories"'
    )


def _size(image: dict) -> tuple[int, int] | None:
    size = image.get('width'), image.get('height')
    return size if all(_is_number(one) and one > 0 for one in size) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and isfinite(value)


def _is_box(box: Any) -> bool:
    try:
        x, y, w, h = box
        return isfinite(x + y + w + h)
    except (TypeError, ValueError, OverflowError):
        return False


def _is_polygon(points: Any) -> bool:
    try:
        finite = isfinite(sum(points)) and min(points) > -FAR and max(points) < FAR
        return finite and len(points) >= 6 and len(points) % 2 == 0
    except (TypeError, ValueError, OverflowError):
        return False


def _is_run_length(code: dict, image: dict) -> bool:
    counts = code.get('counts')
    if code.get('size') != [image['height'], image['width']]:
        return False
    if isinstance(counts, str):
        return bool(counts)
    try:
        return min(counts) >= 0 and sum(counts) == image['height'] * image['width']
    except (TypeError, ValueError):
        return False


def _find_box(segmentation: Any, image: dict) -> list[float] | None:
    """Find the box around a segmentation, [x, y, w, h]; None if there is none."""
    if isinstance(segmentation, dict):
        from pycocotools import mask

        if not _is_run_length(segmentation, image):
            return None
        if isinstance(segmentation['counts'], list):
            segmentation = mask.frPyObjects(segmentation, *segmentation['size'])
        return mask.toBbox(segmentation).tolist()
    polygons = [one for one in segmentation or () if _is_polygon(one)]
    if not polygons:
        return None
    x, y = ([v for one in polygons for v in one[start::2]] for start in (0, 1))
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]
