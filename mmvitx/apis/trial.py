"""Trial runs: a model of any host on a small made-up batch, on the CPU and without downloads."""

from __future__ import annotations

import copy
import importlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import BaseModel, revert_sync_batchnorm
from mmengine.registry import MODELS, TRANSFORMS, DefaultScope
from torch import Tensor

from mmvitx.engine.configs import find_dicts
from mmvitx.engine.randomness import seeded

SIZE = (256, 320)  # height and width; the 900 queries of DINO need as many tokens

# The transforms that pack samples, by host, and for the preprocessors that take several frames.
_PACK = dict(mmdet='PackDetInputs', mmseg='PackSegInputs', mmpretrain='PackInputs')
_PACK_FRAMES = dict(TrackDataPreprocessor='PackTrackInputs', ReIDDataPreprocessor='PackReIDInputs')

# Left, top, right and bottom as shares of the width and height. The last box is to be ignored.
_BOXES = ((0.1, 0.1, 0.6, 0.5), (0.3, 0.4, 0.9, 0.95), (0.7, 0.05, 0.95, 0.3))

# What keeps a trial short: proposals, samples and results an image, in train_cfg and test_cfg.
_AT_MOST = dict(num=16, nms_pre=64, max_per_img=16)

# What samples say of an image beside its annotations.
_META = dict(
    img_path='trial.jpg',
    scale_factor=(1.0, 1.0),
    flip=False,
    flip_direction=None,
    border=(0.0, 0.0, 0.0, 0.0),  # that the tests of CenterNet and CornerNet put around images
    reduce_zero_label=False,
    text='thing . stuff .',  # of models that find what a text names
    custom_entities=True,
    frame_id=0,
    video_id=0,
    video_length=2,
    ori_video_length=2,
)
_META_KEYS = ('img_id', 'ori_shape', 'img_shape', 'scale', *_META)


@contextmanager
def isolated(cfg: Config) -> Iterator[None]:
    """Open the scope of a config for a trial, and leave global state as it was.

    This covers the random number generators, the default scope, message hubs and loggers. Some
    heads read the number of the iteration from a message hub, so there is one that says what a
    training says at its start.
    """
    with ExitStack() as stack:
        stack.enter_context(seeded('trial'))
        for named in (MessageHub, MMLogger):
            stack.enter_context(mock.patch.object(named, '_instance_dict', OrderedDict()))
        MMLogger.get_instance('trial', log_level='ERROR')
        hub = MessageHub.get_instance('trial')
        for key, value in dict(epoch=0, iter=0, max_epochs=12, max_iters=1000).items():
            hub.update_info(key, value)
        stack.enter_context(DefaultScope.overwrite_default_scope(cfg.default_scope))
        yield


def build_model(cfg: Config, size: tuple[int, int] = SIZE) -> BaseModel:
    """Build the model of a config for a trial, inside :func:`isolated`.

    Pretrained weights are left out, so nothing is downloaded, and synchronized batch norms become
    plain ones, which run in one process.

    Args:
        cfg: The config of MMDetection, MMSegmentation or MMPretrain. It is not changed.
        size: Height and width of the images. Segmentors pad to it.
    """
    settings = copy.deepcopy(cfg.model)
    preprocessor = settings.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    preprocessor = settings['data_preprocessor'] = ConfigDict(copy.deepcopy(preprocessor))
    if cfg.default_scope == 'mmdet':
        preprocessor.setdefault('type', 'DetDataPreprocessor')  # detectors inside others have none
        preprocessor.pop('batch_augments', None)  # these only resize and pad
    if preprocessor.get('size'):
        preprocessor['size'] = size
    for part in find_dicts([settings.get('train_cfg'), settings.get('test_cfg')]):
        if {'nms', 'num'} & {*part}:  # without NMS, as many results as queries
            part.update({k: min(part[k], most) for k, most in _AT_MOST.items() if part.get(k)})
    for part in find_dicts(settings):
        leave_out_weights(part)
        if part.get('type') == 'MMSyncBN':  # cannot even be built without a process group
            part['type'] = 'BN'
    model = revert_sync_batchnorm(MODELS.build(settings))
    model.init_weights()
    return model


def make_batch(cfg: Config, size: tuple[int, int] = SIZE, batch_size: int = 2) -> dict[str, list]:
    """Make a batch, inside :func:`isolated`, as the host's transforms and loader make it.

    The samples carry what any head may ask for; masks, unless the training of a config loads
    none.

    Args:
        cfg: The config of MMDetection, MMSegmentation or MMPretrain.
        size: Height and width of the images.
        batch_size: The number of images. For models of several frames they make one sample.

    Returns:
        ``inputs``, uint8 images (3, height, width) or (frames, 3, height, width), and
        ``data_samples``.
    """
    samples = [_make_sample(cfg.model, size, index) for index in range(batch_size)]
    if cfg.default_scope == 'mmdet':
        masks = importlib.import_module('mmdet.structures.mask')
        for sample in samples:
            sample['gt_masks'] = masks.BitmapMasks(sample['gt_masks'], *size)
            if not _loads_masks(cfg):  # RTMDet would place its boxes by them
                del sample['gt_masks']
    frames = _PACK_FRAMES.get(cfg.model.get('data_preprocessor', {}).get('type'))
    if frames:
        samples = [{key: [sample[key] for sample in samples] for key in samples[0]}]
        samples[0]['key_frame_flags'] = [index == 0 for index in range(batch_size)]
    pack = dict(type=frames or _PACK[cfg.default_scope], meta_keys=_META_KEYS)
    packed = [TRANSFORMS.build(pack).transform(sample) for sample in samples]
    return {key: [sample[key] for sample in packed] for key in packed[0]}


def _loads_masks(cfg: Config) -> bool:
    steps = [
        part
        for part in find_dicts(cfg.get('train_dataloader'))
        if str(part.get('type')).endswith('LoadAnnotations')
    ]
    return not steps or any(step.get('with_mask') for step in steps)


def training_loss(model: BaseModel, batch: dict[str, list]) -> Tensor:
    """Compute the sum of the losses of a batch in training mode, inside :func:`isolated`."""
    model.train()
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    return model.parse_losses(model(**data, mode='loss'))[0]


@torch.no_grad()
def predict(model: BaseModel, batch: dict[str, list]) -> list:
    """Predict a batch in evaluation mode, inside :func:`isolated`; gives a sample an image."""
    model.eval()
    data = model.data_preprocessor(copy.deepcopy(batch), False)
    return model(**data, mode='predict')


def leave_out_weights(part: dict) -> None:
    """Remove the weights that building a part of a model would load."""
    for key in ('pretrained', 'teacher_ckpt'):
        part.pop(key, None)
    inits = part.get('init_cfg') or []
    inits = inits if isinstance(inits, (list, tuple)) else [inits]
    if any('checkpoint' in init for init in inits):
        part['init_cfg'] = [init for init in inits if 'checkpoint' not in init] or None


def _make_sample(model: dict, size: tuple[int, int], index: int) -> dict[str, Any]:
    """Make an image and its annotations as the transforms of all hosts name them."""
    height, width = size
    counts = [part['num_classes'] for part in find_dicts(model) if 'num_classes' in part]
    channels = len(model.get('data_preprocessor', {}).get('mean', 'rgb'))
    boxes = (np.array(_BOXES) * [width, height, width, height]).round()
    masks = np.zeros((len(boxes), height, width), dtype=np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.astype(int)):
        mask[top:bottom, left:right] = 1
    meta = dict(_META, img_id=index, ori_shape=size, img_shape=size, scale=(width, height))
    labels = np.arange(len(boxes)) % min([2, *counts])
    sample = dict(
        img=np.random.randint(256, size=(height, width, channels), dtype=np.uint8),
        gt_bboxes=boxes.astype(np.float32),
        gt_bboxes_labels=labels,
        gt_ignore_flags=np.array([False, False, True]),
        gt_instances_ids=np.arange(len(boxes)),
        gt_masks=masks,
        gt_seg_map=masks[1] * labels[1].astype(np.uint8),
        gt_edge_map=masks[0] ^ masks[1],
        gt_depth_map=1.0 + masks[0].astype(np.float32),
        gt_label=int(labels[index % 2]),
        **meta,
    )
    if not model.get('rpn_head'):  # where there is one, proposals would keep it from predicting
        sample.update(proposals=sample['gt_bboxes'], proposals_scores=np.ones(len(boxes)))
    return sample
