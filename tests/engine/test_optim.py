"""Layer-wise learning rates, by one constructor for detectors, segmentors and classifiers."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import nn

import mmvitx.registry
from mmvitx.errors import UserError
from mmvitx.registry import MODELS

ARCH = dict(embed_dims=(8,) * 4, serial_depths=(2,) * 4, parallel_depth=0, mlp_ratios=(1,) * 4)
BACKBONE = dict(type='mmvitx.CoaT', arch=ARCH)
HOSTS = {
    'mmdet': dict(
        type='mmdet.RPN',
        backbone=BACKBONE,
        neck=dict(type='mmdet.FPN', in_channels=[8] * 4, out_channels=8, num_outs=5),
        rpn_head=dict(type='mmdet.RPNHead', in_channels=8, feat_channels=8),
        train_cfg=dict(rpn=None),
        test_cfg=dict(rpn=None),
    ),
    'mmseg': dict(
        type='mmseg.EncoderDecoder',
        backbone=BACKBONE,
        decode_head=dict(type='mmseg.FCNHead', in_channels=8, channels=8, num_classes=4),
        test_cfg=dict(mode='whole'),
    ),
    'mmpretrain': dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(out_type='cls_token', **BACKBONE),
        head=dict(type='LinearClsHead', num_classes=4, in_channels=8),
    ),
}


def optimize(model, **paramwise_cfg):
    return build_optim_wrapper(
        model,
        dict(
            optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.1),
            constructor='mmvitx.LayerDecayOptimWrapperConstructor',
            paramwise_cfg=paramwise_cfg,
        ),
    ).optimizer


def settings_of(model, optimizer):
    by_id = {
        id(p): (group['lr'], group['weight_decay'])
        for group in optimizer.param_groups
        for p in group['params']
    }
    return {name: by_id[id(p)] for name, p in model.named_parameters() if id(p) in by_id}


@pytest.mark.parametrize('host', HOSTS)
def test_rates_fall_with_depth_in_every_host(host):
    init_default_scope(host)
    model = MODELS.build(HOSTS[host])
    optimizer = optimize(model, layer_decay_rate=0.5, norm_decay_mult=0.0)
    settings = settings_of(model, optimizer)
    assert settings.keys() == dict(model.named_parameters()).keys()
    num_layers = 10  # eight blocks, the patch embedding below and everything above
    assert settings['backbone.patch_embeds.0.proj.weight'] == (0.5 ** (num_layers - 1), 0.1)
    assert settings['backbone.serial_blocks.0.0.norm1.weight'] == (0.5 ** (num_layers - 2), 0.0)
    assert settings['backbone.serial_blocks.3.1.mlp.fc1.weight'] == (0.5, 0.1)
    heads = [lr for name, (lr, _) in settings.items() if not name.startswith('backbone')]
    assert heads and set(heads) == {1.0}


def test_equal_settings_share_a_group_and_training_works():
    init_default_scope('mmpretrain')
    model = MODELS.build(HOSTS['mmpretrain'])
    model.backbone.patch_embeds[0].requires_grad_(False)
    custom = {'cls_token': dict(decay_mult=0.0), 'head': dict(lr_mult=0.5)}
    optimizer = optimize(model, layer_decay_rate=0.5, norm_decay_mult=0.0, custom_keys=custom)
    settings = settings_of(model, optimizer)
    assert settings['head.fc.weight'] == (0.5, 0.1)
    assert settings['backbone.cls_tokens.0'][1] == 0.0
    assert not any(name.startswith('backbone.patch_embeds.0') for name in settings)
    assert len(optimizer.param_groups) == len(set(settings.values()))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    sum(p.sum() for p in model.parameters()).backward()
    optimizer.step()
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == settings.keys()


@pytest.mark.parametrize(
    ('backbone', 'block', 'num_layers'),
    [
        (
            dict(type='mmvitx.CaiT', arch=dict(embed_dim=24, depth=4, num_heads=3)),
            'blocks.3.norm1',
            6,
        ),
        (dict(type='mmvitx.CrossViT', arch='tiny'), 'blocks.2.blocks.1.3.norm1', 14),
    ],
)
def test_rates_of_the_other_families(backbone, block, num_layers):
    init_default_scope('mmdet')
    model = nn.ModuleDict(dict(backbone=MODELS.build(backbone), head=nn.Linear(2, 2)))
    model.backbone = model['backbone']
    custom = {'backbone.pos_embed': dict(decay_mult=0.0)}
    optimizer = optimize(model, layer_decay_rate=0.5, norm_decay_mult=0.0, custom_keys=custom)
    settings = settings_of(model, optimizer)
    first = next(name for name in settings if 'pos_embed' in name)
    assert settings[first] == (0.5 ** (num_layers - 1), 0.0)
    assert settings[f'backbone.{block}.weight'] == (0.5, 0.0)
    assert settings['head.weight'] == (1.0, 0.1)


def test_a_tied_parameter_is_updated_once():
    init_default_scope('mmpretrain')
    model = MODELS.build(HOSTS['mmpretrain'])
    model.tied = nn.Linear(8, 4)
    model.tied.weight = model.head.fc.weight
    with pytest.raises(UserError, match='head.fc.weight is shared .* bypass_duplicate=True'):
        optimize(model, layer_decay_rate=0.5)
    optimizer = optimize(model, layer_decay_rate=0.5, bypass_duplicate=True)
    params = [id(p) for group in optimizer.param_groups for p in group['params']]
    assert sorted(params) == sorted(map(id, model.parameters()))


def test_other_optimizers_and_lists_in_settings():
    init_default_scope('mmpretrain')
    model = MODELS.build(HOSTS['mmpretrain'])
    settings = dict(
        constructor='mmvitx.LayerDecayOptimWrapperConstructor',
        paramwise_cfg=dict(layer_decay_rate=0.5, custom_keys={'head': dict(betas=[0.8, 0.9])}),
    )
    wrapper = build_optim_wrapper(model, dict(optimizer=dict(type='Adam', lr=1.0), **settings))
    assert {tuple(group['betas']) for group in wrapper.optimizer.param_groups} == {
        (0.8, 0.9),
        (0.9, 0.999),
    }
    with pytest.raises(UserError, match='state the lr'):
        build_optim_wrapper(model, dict(optimizer=dict(type='Adam'), **settings))


def test_a_model_without_depths_is_refused():
    model = nn.ModuleDict(dict(backbone=nn.Linear(2, 2)))
    with pytest.raises(UserError, match='this is a ModuleDict with the backbone Linear'):
        optimize(model, layer_decay_rate=0.5)


@pytest.mark.parametrize('rate', [None, 0, 1.5, 'half'])
def test_a_wrong_rate_is_refused(rate):
    with pytest.raises(UserError, match=r'needs a layer_decay_rate in \(0, 1\]'):
        optimize(nn.Linear(2, 2), layer_decay_rate=rate, norm_decay_mult=0.0)


def test_it_is_in_a_child_registry():
    assert mmvitx.registry.OPTIM_WRAPPER_CONSTRUCTORS.parent is not None
