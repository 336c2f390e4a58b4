"""What is done to images before a model sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

# of all published weights of the three families
MEAN = [123.675, 116.28, 103.53]
STD = [58.395, 57.12, 57.375]

PREPROCESSORS = dict(mmdet='DetDataPreprocessor', mmseg='SegDataPreProcessor')


def use_preprocessing(cfg: Config, holder: dict) -> None:
    """Normalize images as our weights want it: RGB, with the mean and deviation of ImageNet.

    Args:
        cfg: A config of a host; changed in place.
        holder: The part of its model that has the backbone.
    """
    scope = cfg.default_scope
    places = [part for part in (cfg.model, holder, cfg) if part.get('data_preprocessor')]
    if not places and scope in PREPROCESSORS:
        cfg.model['data_preprocessor'] = dict(type=PREPROCESSORS[scope])
        places = [cfg.model]
    elif not places:
        cfg.data_preprocessor = {}
        places = [cfg]
    old_means = []
    for place in places:
        preprocessor = place['data_preprocessor']
        while 'data_preprocessor' in preprocessor:  # of several branches of data
            preprocessor = preprocessor['data_preprocessor']
        old_means.append(preprocessor.get('mean'))
        _normalize(preprocessor, 'to_rgb' if scope == 'mmpretrain' else 'bgr_to_rgb')
    for name, part in cfg.items():  # transforms that fill with the mean
        if name != 'model' and name != 'data_preprocessor':
            _replace_mean(part, [list(mean) for mean in old_means if mean])


def _normalize(preprocessor: dict, order: str) -> None:
    order = 'to_rgb' if 'to_rgb' in preprocessor else order
    preprocessor.pop('rgb_to_bgr', None)
    preprocessor.update({'mean': MEAN, 'std': STD, order: True})


def _replace_mean(node: Any, old_means: list) -> None:
    if isinstance(node, Mapping):
        mean = node.get('mean')
        if isinstance(mean, (list, tuple)) and list(mean) in old_means:
            node['mean'] = MEAN
            if 'std' in node:
                node['std'] = STD
            for order in ('to_rgb', 'bgr_to_rgb'):
                if order in node:
                    node[order] = True
        for value in node.values():
            _replace_mean(value, old_means)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _replace_mean(value, old_means)
