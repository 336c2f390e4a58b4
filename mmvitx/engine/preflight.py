"""Checks that take seconds, of what would otherwise fail after model and data were loaded.

Each check raises :class:`mmvitx.errors.UserError` with one sentence. Weights that have to be
downloaded are; data in an object store are left to the run.
"""

from __future__ import annotations

import inspect
import json
import mmap
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.fileio import list_from_file
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.registry import DATASETS
from mmengine.runner import Runner

from mmvitx.checkpoints import CheckpointError
from mmvitx.checkpoints.fitting import Fit, fit, unwrap
from mmvitx.checkpoints.published import PUBLISHED, SCHEME
from mmvitx.checkpoints.schemes import PROGRESS, find_weights, is_readable, read_checkpoint
from mmvitx.engine.configs import shorten, walk
from mmvitx.engine.hosts import HOSTS
from mmvitx.errors import UserError


def check_data(cfg: Config, loops: tuple[str, ...]) -> None:
    """Check that the data are there and fit the model.

    Args:
        cfg: A config of one of the hosts.
        loops: Whose data are meant, of ``train``, ``val``, ``test``.

    Raises:
        UserError: If a folder or file is missing, an annotation file is no COCO JSON, or the
            categories, the classes of the dataset and the model's ``num_classes`` do not agree; of
            a segmentor, if a split is empty, a label map is missing or does not fit its image or
            the classes (of some that are read), or there is no palette.
    """
    for loop in loops:
        loader = cfg.get(f'{loop}_dataloader')
        if not loader:
            continue
        datasets = list(_datasets(loader.dataset, f'{loop}_dataloader.dataset'))
        for where, dataset in datasets:
            _check_paths(cfg, dataset, where)
        for where, dataset in datasets:
            _check_classes(cfg, dataset, where)
            if loop != 'train':
                _check_skips_nothing(dataset, where)

        evaluators = cfg.get(f'{loop}_evaluator') or []
        for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
            ann_file = evaluator.get('ann_file')
            if ann_file and _is_local(ann_file, evaluator):
                _check_exists(
                    ann_file, Path.is_file, 'annotation file', f'{loop}_evaluator.ann_file'
                )
            if cfg.default_scope == 'mmpretrain':
                _check_topk(cfg, evaluator, f'{loop}_evaluator')


def _datasets(dataset: Any, where: str) -> Iterator[tuple[str, dict]]:
    """Yield the datasets inside wrappers (repeated, ...), each with its path in the config."""
    if not isinstance(dataset, dict):
        return
    if 'datasets' in dataset:
        for i, inner in enumerate(dataset['datasets']):
            yield from _datasets(inner, f'{where}.datasets.{i}')
    elif 'dataset' in dataset:
        yield from _datasets(dataset['dataset'], f'{where}.dataset')
    else:
        yield where, dataset


def _find_class(cfg: Config, dataset: dict) -> type:
    with DATASETS.switch_scope_and_registry(cfg.default_scope) as registry:
        return registry.get(dataset['type'])


def _is_local(path: Any, settings: dict) -> bool:
    return isinstance(path, str) and '://' not in path and not settings.get('backend_args')


def _check_exists(path: str, exists: Any, what: str, setting: str) -> None:
    if not exists(Path(path)):
        raise UserError(
            f'the {what} {path} does not exist: put or link the data there, or name their place '
            f'with --cfg-options {setting}=...'
        )


def _check_paths(cfg: Config, dataset: dict, where: str) -> None:
    root = dataset.get('data_root') or ''
    download = inspect.signature(_find_class(cfg, dataset)).parameters.get('download')
    downloads = download and dataset.get('download', download.default)  # as mmpretrain's CIFAR10
    if downloads or not _is_local(root, dataset):
        return
    if root:
        _check_exists(root, Path.is_dir, 'data root', f'{where}.data_root')
    ann_file = dataset.get('ann_file')
    if ann_file and _is_local(ann_file, dataset):
        path = os.path.join(root, ann_file)
        _check_exists(path, Path.is_file, 'annotation file', f'{where}.ann_file')
    prefix = dataset.get('data_prefix') or {}
    for key, folder in (prefix if isinstance(prefix, dict) else {'': prefix}).items():
        if folder and _is_local(folder, dataset):
            setting = f'{where}.data_prefix' + (f'.{key}' if key else '')
            what = 'label folder' if key == 'seg_map_path' else 'image folder'
            _check_exists(os.path.join(root, folder), Path.is_dir, what, setting)


def _check_classes(cfg: Config, dataset: dict, where: str) -> None:
    dataset_type = _find_class(cfg, dataset)
    metainfo = _get_metainfo(dataset_type, dataset)
    classes = metainfo.get('classes')
    if isinstance(classes, str) and _is_local(classes, dataset) and not os.path.isfile(classes):
        raise UserError(
            f'{where}.metainfo.classes is the text {classes!r}, but there is no such file: '
            f'for one class write classes=({classes!r},)'
        )
    classes = _read_classes(dataset_type, dataset)

    if cfg.default_scope == 'mmdet':
        from mmdet.datasets import CocoDataset

        path = os.path.join(dataset.get('data_root') or '', dataset.get('ann_file') or '')
        reads_coco = getattr(dataset_type, 'load_data_list', None) is CocoDataset.load_data_list
        if reads_coco and _is_local(path, dataset):
            head = read_coco_head(path)
            _check_first_image(dataset, head, path, where)
            if classes:
                _check_categories(classes, head.categories, path, where)

    if cfg.default_scope == 'mmpretrain':
        classes = _check_images_of_classes(cfg, dataset_type, dataset, classes, where)

    # panoptic data count things and stuff apart; an open vocabulary has no fixed number
    if classes and 'thing_classes' not in metainfo and 'language_model' not in cfg.model:
        _check_num_classes(cfg, classes, where)

    if cfg.default_scope == 'mmseg' and _is_local(dataset.get('data_root') or '', dataset):
        _check_segmentation(cfg, dataset, dataset_type, where)


def _get_metainfo(dataset_type: type, dataset: dict) -> dict:
    return {**getattr(dataset_type, 'METAINFO', {}), **(dataset.get('metainfo') or {})}


def _read_classes(dataset_type: type, dataset: dict) -> Any:
    """Read the names of the classes; None if there are none, or if they lie elsewhere."""
    classes = _get_metainfo(dataset_type, dataset).get('classes')
    if not isinstance(classes, str):
        return classes
    return list_from_file(classes) if _is_local(classes, dataset) else None


def _check_segmentation(cfg: Config, dataset: dict, dataset_type: type, where: str) -> None:
    from mmseg.datasets import BaseSegDataset

    if not issubclass(dataset_type, BaseSegDataset):
        return
    metainfo = _get_metainfo(dataset_type, dataset)
    if not metainfo.get('classes'):
        raise UserError(
            f'the config {cfg.filename} names no classes of {where}: give its metainfo classes and '
            'a palette with a colour [R, G, B] for each'
        )
    if not metainfo.get('palette'):
        raise UserError(
            f'the config {cfg.filename} names the classes of {where} but no palette: give its '
            'metainfo a palette with a colour [R, G, B] for each class'
        )
    with DATASETS.switch_scope_and_registry(cfg.default_scope) as registry:
        try:
            built = registry.build({**dataset, 'pipeline': [], 'lazy_init': True})
            samples = built.load_data_list()
        except (AssertionError, ValueError) as e:  # of mmseg's own checks
            reason = str(e).splitlines()[0]
            raise UserError(f'{where} of the config {cfg.filename} is refused: {reason}') from e
        if not samples:
            source = built.ann_file or f'{built.data_prefix["img_path"]} with *{built.img_suffix}'
            raise UserError(f'the split {source} of {where} is empty: there is no image in it')
        if _find_loading(dataset) is not None:
            _check_label_maps(built, samples)


NUM_LABEL_MAPS = 16  # read of a split before a run; the others are checked when they are loaded


def _check_label_maps(dataset: Any, samples: list[dict]) -> None:
    """Check that all images and label maps are there, and read some of them."""
    paths = [Path(one[key]) for one in samples for key in ('img_path', 'seg_map_path')]
    present = {  # a folder is listed faster than its files are looked up
        folder: set(os.listdir(folder)) if folder.is_dir() else set()
        for folder in {path.parent for path in paths}
    }
    missing = [path for path in paths if path.name not in present[path.parent]]
    if missing:
        raise UserError(
            f'{missing[0]} does not exist, as {len(missing)} of {len(paths)} images and label '
            'maps: each image needs one of the same name; see img_suffix and seg_map_suffix'
        )
    load = Compose(
        [
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            _make_label_check(dataset.metainfo['classes'], dataset.ignore_index),
        ]
    )
    for sample in samples[:: -(-len(samples) // NUM_LABEL_MAPS)]:
        try:
            load(sample)
        except UserError:
            raise
        except Exception as e:  # whatever a decoder says
            raise UserError(
                f'{sample["img_path"]} or {sample["seg_map_path"]} cannot be read as a picture: {e}'
            ) from e


def _make_label_check(classes: Any, ignore_index: int) -> dict:
    return dict(type='mmvitx.CheckSegMap', num_classes=len(classes), ignore_index=ignore_index)


def _find_loading(dataset: dict) -> int | None:
    """Find the step of a pipeline that loads a label map."""
    types = [str(step.get('type')) for step in dataset.get('pipeline') or []]
    return next((i for i, name in enumerate(types) if name.endswith('LoadAnnotations')), None)


def add_label_checks(cfg: Config, loops: tuple[str, ...]) -> None:
    """Have the label map of every image of a segmentor's data checked when it is loaded.

    Args:
        cfg: A config of one of the hosts, which :func:`check_data` has passed; changed in place.
        loops: Whose data are meant, of ``train``, ``val``, ``test``.
    """
    if cfg.default_scope != 'mmseg':
        return
    for loop in loops:
        loader = cfg.get(f'{loop}_dataloader') or {}
        for _, dataset in _datasets(loader.get('dataset'), ''):
            step = _find_loading(dataset)
            classes = _read_classes(_find_class(cfg, dataset), dataset)
            if step is None or not classes or 'CheckSegMap' in str(dataset.pipeline):
                continue
            check = _make_label_check(classes, dataset.get('ignore_index', 255))
            dataset.pipeline = [*dataset.pipeline[: step + 1], check, *dataset.pipeline[step + 1 :]]


IMAGES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')  # mmpretrain's extensions


def _check_images_of_classes(
    cfg: Config, dataset_type: type, dataset: dict, classes: Any, where: str
) -> Any:
    """Check a folder a class, or a list of files with labels, as mmpretrain's CustomDataset has.

    Returns:
        The classes: those of the config, or else the folders.
    """
    from mmpretrain.datasets import CustomDataset, ImageNet

    if not issubclass(dataset_type, CustomDataset) or not dataset.get('with_label', True):
        return classes
    root, prefix = dataset.get('data_root') or '', dataset.get('data_prefix') or ''
    ann_file = dataset.get('ann_file') or ''
    split = dataset.get('split') if issubclass(dataset_type, ImageNet) else None
    if split == 'test':
        return classes
    if split:  # they have places of their own
        prefix = prefix or split
        listed = os.path.join('meta', f'{split}.txt')
        ann_file = ann_file or (listed if os.path.isfile(os.path.join(root, listed)) else '')
    folder = os.path.join(
        root, (prefix.get('img_path', '') if isinstance(prefix, dict) else prefix)
    )
    if not _is_local(folder, dataset):
        return classes
    _check_exists(folder, Path.is_dir, 'image folder', f'{where}.data_prefix')
    if ann_file:
        number = len(classes) if classes else (cfg.model.get('head') or {}).get('num_classes')
        _check_labels(os.path.join(root, ann_file), number, where)
        return classes

    folders = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    if not folders:
        raise UserError(
            f'the image folder {folder} holds no folders: expected one a class, as '
            f'{os.path.join(folder, "cat", "1.jpg")}, or a list of files and labels as '
            f'{where}.ann_file'
        )
    if classes and len(classes) != len(folders):
        missing = [name for name in classes if name not in folders]
        known = len(missing) < len(classes)
        raise UserError(
            f'the image folder {folder} holds {len(folders)} folders of classes '
            f'({shorten(folders)}), but {where} has {len(classes)} classes'
            + (f', of which are missing: {shorten(missing)}' if missing and known else '')
        )
    shared = {*folders} & {*(classes or ())}
    if shared and list(classes) != folders:
        raise UserError(
            f'{where} names the classes {shorten(classes)}, but labels are numbered by the '
            f'folders in {folder}, in alphabetical order: {shorten(folders)}; name them so'
        )
    extensions = dataset.get('extensions') or IMAGES
    empty = [
        name
        for name in folders
        if not any(p.suffix.lower() in extensions for p in Path(folder, name).rglob('*.*'))
    ]
    if empty:
        raise UserError(f'there are no images of {shorten(empty)} in {folder}')
    _check_same_folders(cfg, folders, folder, where)
    return classes or folders


def _check_same_folders(cfg: Config, folders: list[str], folder: str, where: str) -> None:
    """Check that the classes found are those of the training: labels are numbered by name."""
    loader = cfg.get('train_dataloader') or {}
    for _, other in _datasets(loader.get('dataset'), 'train_dataloader.dataset'):
        prefix = other.get('data_prefix') or other.get('split') or ''
        if other.get('ann_file') or not isinstance(prefix, str):
            continue
        path = os.path.join(other.get('data_root') or '', prefix)
        if os.path.isdir(path) and _is_local(path, other):
            names = sorted(entry.name for entry in os.scandir(path) if entry.is_dir())
            if names and names != folders:
                differing = sorted({*names} ^ {*folders})
                raise UserError(
                    f'{folder} and {path}, where the training takes its classes from, have not '
                    f'the same folders of classes: {shorten(differing)} in one of them only'
                )


def _check_labels(path: str, num_classes: int | None, where: str) -> None:
    """Check the labels in a list of files against the number of classes."""
    _check_exists(path, Path.is_file, 'annotation file', f'{where}.ann_file')
    number = 0
    with open(path) as file:
        for number, line in enumerate(filter(str.strip, file), 1):
            name, _, label = line.strip().rpartition(' ')
            if not name or not label.isdigit():
                raise UserError(
                    f'line {number} of {path} is {line.strip()!r}: expected a file and the number '
                    'of its class, as cat/1.jpg 0'
                )
            if num_classes and int(label) >= num_classes:
                raise UserError(
                    f'line {number} of {path} has the class {label}, but {where} has '
                    f'{num_classes} classes, counted from 0'
                )
    if not number:
        raise UserError(f'the annotation file {path} is empty: expected lines as cat/1.jpg 0')


def _check_skips_nothing(dataset: dict, where: str) -> None:
    """Refuse to leave out images of an evaluation."""
    for i, step in enumerate(dataset.get('pipeline') or []):
        if isinstance(step, dict) and step.get('ignore_empty'):
            raise UserError(
                f'{where}.pipeline.{i}.ignore_empty skips images that cannot be read, but '
                'evaluations need all of them: leave it out there'
            )


def _check_topk(cfg: Config, evaluator: dict, where: str) -> None:
    topk = evaluator.get('topk', 1)
    largest = max(topk) if isinstance(topk, (list, tuple)) else topk
    head = (cfg.model.get('head') or {}).get('num_classes')
    if str(evaluator.get('type', '')).endswith('Accuracy') and head and largest > head:
        raise UserError(
            f'{where}.topk is {topk}, but the model has {head} classes: set '
            f"--cfg-options {where}.topk='(1,)'"
        )


class CocoHead(NamedTuple):
    """What is read of an annotation file without parsing it."""

    categories: list[str]
    first_image: str | None


def read_coco_head(path: str) -> CocoHead:
    """Read the categories and the first image's name of a COCO file, however large it is.

    Args:
        path: An annotation file.

    Returns:
        The names of the categories in the file's order, and the first ``file_name``.

    Raises:
        UserError: If the file cannot be read, is no COCO JSON, or is truncated.
    """
    try:
        with open(path, 'rb') as file:
            if not os.path.getsize(path):
                raise UserError(f'the annotation file {path} is empty')
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                return _parse_coco_head(text)
    except OSError as e:
        raise UserError(
            f'the annotation file {path!r} of a COCO dataset cannot be read ({e.strerror}): '
            'name a readable file as its ann_file'
        ) from e
    except ValueError as e:
        raise UserError(
            f'the annotation file {path} is no COCO JSON ({e}): expected an object with '
            'the lists "images", "annotations" and "categories"'
        ) from e


def _parse_coco_head(text: mmap.mmap) -> CocoHead:
    if not text[:1024].lstrip().startswith(b'{'):
        raise ValueError('it does not begin with {')
    if not text[-1024:].rstrip().endswith(b'}'):
        raise ValueError('it does not end with }, as if truncated')
    images = _find_list(text, 'images')
    _find_list(text, 'annotations')
    start = _find_list(text, 'categories', last=True)
    categories, _ = json.JSONDecoder().raw_decode(
        text[start : start + 2**24].decode('utf-8', errors='replace')
    )
    if not all(isinstance(one, dict) and {'id', 'name'} <= one.keys() for one in categories):
        raise ValueError('a category lacks its "id" or "name"')

    name = re.search(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")', text[images : images + 2**20])
    return CocoHead([one['name'] for one in categories], json.loads(name[1]) if name else None)


def _find_list(text: mmap.mmap, key: str, last: bool = False) -> int:
    """Find where the first or last list under a key begins; the word alone may stand anywhere."""
    word = f'"{key}"'.encode()
    at = text.rfind(word) if last else text.find(word)
    while at >= 0:
        end = at + len(word)
        colon = re.match(rb'\s*:\s*(?=\[)', text[end : end + 64])
        if colon:
            return end + colon.end()
        at = text.rfind(word, 0, at) if last else text.find(word, end)
    raise ValueError(f'it has no list "{key}"')


def _check_first_image(dataset: dict, head: CocoHead, ann_file: str, where: str) -> None:
    prefix = (dataset.get('data_prefix') or {}).get('img') or ''
    folder = os.path.join(dataset.get('data_root') or '', prefix)
    if head.first_image and not os.path.isfile(os.path.join(folder, head.first_image)):
        raise UserError(
            f'the image folder {folder or "."} does not hold {head.first_image}, the first image '
            f'of {ann_file}: name the right one with --cfg-options {where}.data_prefix.img=...'
        )


def _check_categories(classes: Any, categories: list[str], ann_file: str, where: str) -> None:
    missing = [name for name in classes if name not in categories]
    if missing:
        raise UserError(
            f'{where} names classes that {ann_file} lacks ({shorten(missing)}): its categories '
            f'are {shorten(categories)}; set {where}.metainfo.classes'
        )
    order = tuple(name for name in categories if name in set(classes))
    if order != tuple(classes):  # mmdet takes the file's order and gives the labels wrong names
        raise UserError(
            f'the classes of {where} ({shorten(classes)}) must be in the order of the categories '
            f'of {ann_file} ({shorten(order)}): set {where}.metainfo.classes'
        )


def _check_num_classes(cfg: Config, classes: Any, where: str) -> None:
    heads = HOSTS[cfg.default_scope].heads
    found = {
        path: number
        for path, number in _find(cfg.model, 'num_classes', 'model')
        if set(heads) & set(path.split('.')) and 'teacher' not in path.split('.')
    }
    preprocessor = cfg.get('data_preprocessor') or {}  # mmpretrain's, which mixes labels
    if preprocessor.get('num_classes') and 'data_preprocessor' not in cfg.model:
        found['data_preprocessor.num_classes'] = preprocessor['num_classes']
    wrong = {path: number for path, number in found.items() if number != len(classes)}
    if wrong:
        settings = ', '.join(f'{path} is {number}' for path, number in wrong.items())
        raise UserError(
            f'{where} has {len(classes)} classes ({shorten(classes)}) but {settings}: '
            'set them to the same number, or the classes with metainfo'
        )


def _find(node: Any, key: str, where: str) -> list[tuple[str, Any]]:
    """Find all values of a key in nested dicts and lists, each with its path."""
    return [(path, value) for path, value in walk(node, where) if path.rpartition('.')[2] == key]


def find_values(node: Any, key: str, values: tuple) -> list[str]:
    """Find the paths in a nested config at which a key has one of the values."""
    return [path for path, value in _find(node, key, 'model') if value in values]


class Weights(NamedTuple):
    """What a run starts from.

    Attributes:
        source: What to call it.
        state_dict: Its names, with tensors without data.
        meta: What mmengine notes of the run that wrote it.
        progress: What :class:`mmvitx.engine.hooks.CheckpointHook` adds.
    """

    source: str
    state_dict: dict[str, torch.Tensor]
    meta: dict
    progress: dict


def check_pretrained(model: torch.nn.Module) -> None:
    """Check the weights that parts of the model are initialized from; download them if need be.

    Raises:
        CheckpointError: If they cannot be had, or if nothing of them fits their part.
    """
    for name, module, init in _find_pretrained(model):
        path = init['checkpoint']
        if not is_readable(path):
            continue
        try:
            checkpoint, _ = read_checkpoint(path)
        except CheckpointError as e:
            hint = '; --from-scratch starts from random weights' if 'backbone' in name else ''
            raise CheckpointError(f'{e}{hint}') from e
        weights = _keep_shapes(path, checkpoint, init.get('prefix'))
        where = '.'.join(filter(None, ('model', name, 'init_cfg')))
        fit(weights.state_dict, module, f'{weights.source} ({where})')


def drop_pretrained(model: torch.nn.Module, taken: Fit) -> None:
    """Let no part be initialized from a file if a checkpoint has all its weights.

    mmengine initializes the model before it loads the checkpoint, and would need the file for that.
    The config is left as it is.

    Args:
        model: What will be initialized.
        taken: What it takes of the checkpoint.
    """
    for name, module, _ in _find_pretrained(model):
        if not any(missing.startswith(name) for missing in taken.missing):
            module.init_cfg = None


def _find_pretrained(model: torch.nn.Module) -> Iterator[tuple[str, BaseModule, dict]]:
    """Yield the parts that mmengine initializes from a file, with their names and settings."""
    for name, module in unwrap(model).named_modules():
        if isinstance(module, BaseModule) and not _reads_by_itself(module):
            for init in _inits(module):
                if init.get('checkpoint'):
                    yield name, module, init


def check_teacher(cfg: Config, model: torch.nn.Module) -> None:
    """Load the teacher of a distillation, and compare its classes with those of the data.

    Raises:
        UserError: If it cannot be had, or has other classes.
    """
    model = unwrap(model)
    if not hasattr(model, 'load_teacher'):
        return
    theirs = getattr(model.load_teacher(), 'classes', None)
    for where, dataset in _datasets(cfg.train_dataloader.dataset, 'train_dataloader.dataset'):
        kind = getattr(_find_class(cfg, dataset), 'METAINFO', {})
        ours = {**kind, **(dataset.get('metainfo') or {})}.get('classes')
        if theirs and ours and not isinstance(ours, str) and list(ours) != list(theirs):
            raise UserError(
                f'the teacher knows the classes {shorten(theirs)}, but {where} has '
                f'{shorten(ours)}: distillation needs a teacher of the same classes'
            )


def note_start(runner: Runner, weights: Weights | None, from_scratch: bool) -> None:
    """Log what a training starts from: a checkpoint, or what its backbone does.

    Args:
        runner: The runner, before it trains.
        weights: What :func:`read_weights` has read.
        from_scratch: Whether random weights are meant, so that no others are suggested.
    """
    if weights is not None:
        what = 'Going on from' if runner._resume else 'Starting from the weights of'
        after = f', after {weights.meta["iter"]} iterations' if runner._resume else ''
        print_log(f'{what} {weights.source}{after}', logger='current')
        return
    for name, module in unwrap(runner.model).named_modules():
        if not hasattr(module, 'arch_name'):
            continue
        arch = module.arch_name
        starts = [init['checkpoint'] for init in _inits(module) if init.get('checkpoint')]
        known = [known for known, entry in PUBLISHED.items() if entry.arch == arch and entry.size]
        text = (
            f'The {arch or type(module).__name__} starts from {(starts or ["random weights"])[0]}'
        )
        # a classifier may always be meant to be trained from scratch
        meant = from_scratch or runner.cfg.default_scope == 'mmpretrain'
        if not starts and known and not meant:
            text += (
                '. From those of ImageNet it starts with '
                f'--cfg-options model.{name}.init_cfg.checkpoint={SCHEME}{known[0]}'
            )
        print_log(text, logger='current')


def _inits(module):
    inits = getattr(module, 'init_cfg', None) or []
    return inits if isinstance(inits, (list, tuple)) else [inits]


def _reads_by_itself(module: BaseModule) -> bool:
    """Whether a module converts its file, as mmdet's Swin does that of the authors."""
    return 'CheckpointLoader' in module.init_weights.__code__.co_names


def read_weights(cfg: Config) -> Weights | None:
    """Read what the run will start from; download it if need be.

    Args:
        cfg: Its ``load_from`` and ``resume``.

    Raises:
        CheckpointError: If it cannot be had, holds NaN, or too little to resume from.
    """
    path = cfg.get('load_from')
    if not path or not is_readable(path):
        return None
    checkpoint, _ = read_checkpoint(path)
    weights = _keep_shapes(path, checkpoint)
    wrong = [name for name, value in find_weights(checkpoint).items() if value.isnan().any()]
    if wrong:
        raise CheckpointError(
            f'the checkpoint {path} holds NaN in {len(wrong)} of {len(weights.state_dict)} tensors '
            f'({shorten(wrong)}), so its training has failed: name an earlier one'
        )
    missing = {'meta', 'message_hub', 'optimizer'} - checkpoint.keys()
    if cfg.get('resume') and missing:
        raise lacks(missing, path)
    return weights


def lacks(parts: Collection[str], path: str | Path) -> CheckpointError:
    """Say that a checkpoint lacks what a training needs to go on from it."""
    return CheckpointError(
        f'the checkpoint {path} has no {", ".join(sorted(parts))}, so no training can be resumed '
        f'from it: start from its weights with --cfg-options load_from={path}'
    )


def _keep_shapes(path: str, checkpoint: Any, prefix: str | None = None) -> Weights:
    """Take of a checkpoint what mmengine does: of a prefix only what is under it."""
    if not isinstance(checkpoint, dict):
        kind = type(checkpoint).__name__
        raise CheckpointError(
            f'the checkpoint {path} holds a {kind}, a dict of weights was expected'
        )
    start = prefix.rstrip('.') + '.' if prefix else ''
    weights = {
        name.removeprefix(start or 'module.'): value.to('meta')
        for name, value in checkpoint.get('state_dict', checkpoint).items()
        if isinstance(value, torch.Tensor) and name.startswith(start)
    }
    source = f'{path} under {start}*' if prefix else path
    return Weights(source, weights, checkpoint.get('meta', {}), checkpoint.get(PROGRESS, {}))


def check_weights(weights: Weights | None, model: torch.nn.Module) -> Fit | None:
    """Check that at least one of the weights fits the model.

    Returns:
        What the model takes of them; None without weights.

    Raises:
        CheckpointError: If none has a name and shape of the model's, or the model refuses them.
    """
    return weights and fit(weights.state_dict, model, weights.source)
