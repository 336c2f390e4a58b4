"""What is done to images before a model sees them."""

from __future__ import annotations

from mmengine.config import Config

from mmvitx.engine.configs import walk

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
    old_means = [list(mean) for mean in old_means if mean]
    rest = {name: part for name, part in cfg.items() if name not in ('model', 'data_preprocessor')}
    for _, part in walk(rest):  # transforms that fill with the mean
        mean = part.get('mean') if isinstance(part, dict) else None
        if isinstance(mean, (list, tuple)) and list(mean) in old_means:
            ours = dict(mean=MEAN, std=STD, to_rgb=True, bgr_to_rgb=True)
            part.update({key: value for key, value in ours.items() if key in part})


def _normalize(preprocessor: dict, order: str) -> None:
    order = 'to_rgb' if 'to_rgb' in preprocessor else order
    preprocessor.pop('rgb_to_bgr', None)
    preprocessor.update({'mean': MEAN, 'std': STD, order: True})
