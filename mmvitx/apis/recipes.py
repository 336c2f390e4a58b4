"""Optimizers and schedules that train our backbones, for configs that were made for others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config

from mmvitx.models.names import Named

# Stochastic depth of the published models, by family and architecture: ImageNet recipes of CoaT's
# and CrossViT's authors; CaiT's as an independent port has them.
DROP_PATH_RATES = {
    'CoaT': {'small': 0.2, 'lite_medium': 0.3},
    'CrossViT': dict.fromkeys(
        ('tiny', 'small', 'base', '9', '15', '18', '9_dagger', '15_dagger', '18_dagger'), 0.1
    ),
    'CaiT': {
        'xxs24': 0.05,
        'xxs36': 0.1,
        'xs24': 0.05,
        's24': 0.1,
        's36': 0.2,
        'm36': 0.3,
        'm48': 0.4,
    },
}


class Recipe(NamedTuple):
    """AdamW with a warm-up.

    Attributes:
        lr: The learning rate, for ``batch_size``.
        batch_size: Images of a step over all processes.
        weight_decay: That of AdamW.
        warmup: The scheduler for the first steps.
    """

    lr: float
    batch_size: int
    weight_decay: float
    warmup: dict


# by host: CoaT's detection recipe, Swin's segmentation recipe, DeiT's ImageNet recipe
RECIPES = {
    'mmdet': Recipe(1e-4, 16, 0.05, dict(start_factor=0.001, by_epoch=False, begin=0, end=500)),
    'mmseg': Recipe(6e-5, 16, 0.01, dict(start_factor=1e-6, by_epoch=False, begin=0, end=1500)),
    'mmpretrain': Recipe(
        1e-3,
        1024,
        0.05,
        dict(start_factor=1e-3, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    ),
}

# learning rates that a scheduler states as such, not as a factor
ABSOLUTE = ('eta_min', 'eta_max')


def use_recipe(cfg: Config, named: Named, pretrained: bool, from_transformer: bool) -> None:
    """Give a config the optimizer and warm-up with which a backbone of ours trains.

    A recipe with AdamW keeps its learning rate if it was made for a transformer, or if it has a
    rate of its own for the backbone, as those of DETR have.

    Args:
        cfg: A config of a host with the new backbone; changed in place.
        named: The backbone.
        pretrained: Whether it starts from weights; only then the rates fall with depth.
        from_transformer: Whether the old one was a transformer.
    """
    wrapper = cfg.get('optim_wrapper')
    old = (wrapper or {}).get('optimizer')
    if not old:
        return
    recipe = RECIPES[cfg.default_scope]
    paramwise = dict(wrapper.get('paramwise_cfg') or {})
    keys = dict(paramwise.get('custom_keys') or {})
    of_backbone = next((v for k, v in keys.items() if k.strip('.') == 'backbone'), {})
    has_own_rate = of_backbone.get('lr_mult', 1.0) != 1.0
    keeps = old.get('type') == 'AdamW' and (from_transformer or has_own_rate)
    if not keeps:
        batch_size = _total_batch_size(cfg)
        lr = float(f'{recipe.lr * batch_size / recipe.batch_size:.6g}')
        cfg.auto_scale_lr = {**(cfg.get('auto_scale_lr') or {}), 'base_batch_size': batch_size}
        wrapper['optimizer'] = dict(
            type='AdamW', lr=lr, betas=(0.9, 0.999), weight_decay=recipe.weight_decay
        )
        duplicates = {k: v for k, v in paramwise.items() if k == 'bypass_duplicate'}
        paramwise = dict(
            norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0, **duplicates
        )
        keys = {}
        _adapt_schedule(cfg, recipe, lr / old['lr'] if old.get('lr') else 1.0)
    # constructors ask for the old backbone's layers
    wrapper.pop('constructor', None)
    for key in ('decay_rate', 'decay_type', 'num_layers', 'layer_decay_rate'):
        paramwise.pop(key, None)
    for name in ('cls_token', 'pos_embed'):
        keys[f'backbone.{name}'] = {**of_backbone, 'decay_mult': 0.0}
    wrapper['paramwise_cfg'] = {**paramwise, 'custom_keys': keys}
    decays = named.family.decays_by_layer and pretrained and not has_own_rate
    if decays and 'backbone' in cfg.model:
        wrapper['constructor'] = 'mmvitx.LayerDecayOptimWrapperConstructor'
        wrapper['paramwise_cfg']['layer_decay_rate'] = layer_decay_rate(named)


def layer_decay_rate(named: Named) -> float:
    """Give the factor a layer: 0.7, 0.8 and 0.9 for 12, 24 and 36 layers or more.

    ViTDet has 0.7, 0.8 and 0.9 for 12, 24 and 32 (configs of detectron2's projects/ViTDet).
    """
    with torch.device('meta'):
        num_layers = named.family(named.arch).get_layer_depth('', '')[1] - 2
    return round(min(0.9, 0.6 + num_layers / 120), 3)


def _total_batch_size(cfg: Config) -> int:
    """Tell for how many images a step a config is meant: by its name, as 8xb2, or as it says."""
    named = re.search(r'(\d+)xb(\d+)', Path(cfg.filename or '').name)
    if named:  # RTMDet's are 8xb32, and have a base_batch_size of 16
        return int(named[1]) * int(named[2])
    base = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    return base or 8 * (cfg.get('train_dataloader') or {}).get('batch_size', 1)


def _adapt_schedule(cfg: Config, recipe: Recipe, factor: float) -> None:
    """Scale the learning rates that schedulers state, and see that one of them warms up."""
    schedulers = cfg.get('param_scheduler') or []
    schedulers = schedulers if isinstance(schedulers, (list, tuple)) else [schedulers]
    for scheduler in schedulers:
        for key in ABSOLUTE:
            if scheduler.get(key):
                scheduler[key] = float(f'{scheduler[key] * factor:.6g}')
    warms_up = any(re.search('Linear|Warmup|Constant', str(one.get('type'))) for one in schedulers)
    if not warms_up:
        schedulers = [dict(type='LinearLR', **recipe.warmup), *schedulers]
    cfg.param_scheduler = [*schedulers]
