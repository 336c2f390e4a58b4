"""Checkpoints in every published format become ours, and reach models by every way."""

import copy
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint, save_checkpoint

from mmvitx.checkpoints.official import convert_official
from mmvitx.checkpoints.schemes import read_checkpoint
from mmvitx.registry import MODELS

ROOT = Path(__file__).parents[2]
PARITY = ROOT / 'tests/data/parity'


def save(path: Path, checkpoint: dict, safe: bool = False) -> str:
    if safe:
        safetensors.torch.save_file(checkpoint, path)
    else:
        torch.save(checkpoint, path)
    return str(path)


def classifier(arch='tiny', num_classes=1000):
    init_default_scope('mmpretrain')
    channels = dict(tiny=152)[arch]
    return MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(type='mmvitx.CoaT', arch=arch, out_type='cls_token'),
            head=dict(type='LinearClsHead', num_classes=num_classes, in_channels=channels),
        )
    )


def backbone(**settings):
    return MODELS.build(dict(type='mmvitx.CoaT', arch='tiny', **settings))


@pytest.fixture(params=['coat', 'cait', 'timm', 'timm, safetensors', 'mmpretrain'])
def path(request, tmp_path, coat_weights, as_published) -> str:
    """A file in each format, none with a telling name."""
    author, _, safe = request.param.partition(', ')
    if author == 'mmpretrain':
        model = classifier()
        model.load_state_dict(convert_official(coat_weights).state_dict, strict=False)
        checkpoint = dict(meta=dict(epoch=300), state_dict=model.state_dict(), message_hub={})
        save_checkpoint(checkpoint, str(tmp_path / 'weights'))
        return str(tmp_path / 'weights')
    return save(tmp_path / 'weights', as_published(coat_weights, author), bool(safe))


def test_a_classifier_gets_all_its_weights(path, coat_weights, caplog):
    model = classifier()
    load_checkpoint(model, path, map_location='cpu', strict=False)
    assert torch.equal(model.head.fc.bias, coat_weights['head.bias'])
    expected = convert_official(coat_weights).state_dict
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize('prefix', [None, 'backbone', 'backbone.'])
def test_a_backbone_takes_its_part(path, coat_weights, prefix):
    init_cfg = dict(type='Pretrained', checkpoint=path, prefix=prefix)
    model = backbone(init_cfg={k: v for k, v in init_cfg.items() if v})
    model.init_weights()
    expected = convert_official(coat_weights).state_dict
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected[f'backbone.{name}']), name


def test_what_a_published_file_lacks_and_has_too_much(coat_weights):
    weights = {**coat_weights, 'novelty.weight': torch.ones(1)}
    del weights['cls_token1']
    converted = convert_official(weights)
    assert converted.unknown == ['novelty.weight']
    assert 'backbone.cls_tokens.0' not in converted.state_dict
    text = converted.report()
    assert f'published checkpoint of coat: {len(weights)} tensors become' in text
    assert 'head (2)' in text and 'dropped, as no published coat has them: novelty.weight' in text


@pytest.mark.parametrize(
    'names',
    [
        [],
        ['conv1.weight', 'layer1.0.conv1.weight'],  # torchvision's ResNet
        ['patch_embed1.proj.weight', 'block1.0.norm1.weight'],  # PVT
        ['cls_token', 'pos_embed', 'blocks.0.attn.qkv.weight'],  # DeiT
        ['backbone.serial_blocks.0.0.norm1.weight', 'head.fc.weight'],  # ours
    ],
)
def test_other_files_are_left_alone(tmp_path, names):
    checkpoint = dict(state_dict={name: torch.ones(1) for name in names}, optimizer={}, meta={})
    loaded, converted = read_checkpoint(save(tmp_path / 'other.pth', checkpoint))
    assert converted is None
    assert loaded.keys() == checkpoint.keys() and list(loaded['state_dict']) == names


@pytest.mark.parametrize('separator', ['.', '_'], ids=['authors', 'timm'])
def test_the_heads_of_crossvit_become_one(separator):
    weights = {
        'blocks.0.fusion.0.attn.wq.weight': torch.ones(4, 4),
        f'pos_embed{separator}1': torch.ones(1, 5, 4),
        f'cls_token{separator}0': torch.ones(1, 1, 2),
        'head.0.weight': torch.randn(10, 2),
        'head.0.bias': torch.randn(10),
        'head.1.weight': torch.randn(10, 4),
        'head.1.bias': torch.randn(10),
    }
    converted = convert_official(weights)
    assert converted.family == 'crossvit' and not converted.unknown
    assert {'backbone.pos_embed.1', 'backbone.cls_token.0'} < converted.state_dict.keys()
    assert 'backbone.blocks.0.fusion.0.attn.q.weight' in converted.state_dict
    tokens = torch.randn(3, 2), torch.randn(3, 4)
    linear = torch.nn.functional.linear
    mean = sum(linear(t, *(weights[f'head.{i}.{p}'] for p in ('weight', 'bias')))
               for i, t in enumerate(tokens)) / 2  # fmt: skip
    fc = (converted.state_dict[f'head.fc.{p}'] for p in ('weight', 'bias'))
    torch.testing.assert_close(linear(torch.cat(tokens, 1), *fc), mean)


def test_every_key_of_the_parity_files_is_known():
    for file in sorted(PARITY.glob('*.json')):
        record = json.loads(file.read_text())
        weights = {n: torch.empty(s, device='meta') for n, s in record['keys'].items()}
        converted = convert_official(weights)
        assert record['model'].startswith(converted.family) and not converted.unknown
        assert sum(weights[name].numel() for name in converted.renamed) == record['params']


# Detectors ---------------------------------------------------------------------------------------


def official_detector(model, backbone_keys) -> dict:
    """Make an authors' detector of MMDetection 2.x from the names and shapes of ours.

    Its other parts have had the same names since; the backbone has their names, in which shared
    parameters appear under each block that uses them.
    """
    rest = {n: v.clone() for n, v in model.state_dict().items() if not n.startswith('backbone.')}
    own = model.state_dict()
    renamed = convert_official({n: torch.empty(s) for n, s in backbone_keys.items()})
    theirs = {
        f'backbone.{name}': own[ours].clone()
        for name, ours in {**renamed.renamed, **renamed.copies}.items()
        if ours in own  # a detector has no classifier
    }
    meta = dict(mmdet_version='2.11.0', CLASSES=('person', 'bicycle'), epoch=12, iter=87960)
    return dict(meta=meta, state_dict={**theirs, **rest}, optimizer=dict(state={}))


@pytest.mark.parametrize(
    ('config', 'keys'),
    [
        ('mask_rcnn_coat_small_1x_coco', 'coat_small'),
        ('mask_rcnn_coat_lite_mini_3x_coco', 'coat_lite_mini'),
        ('cascade_mask_rcnn_coat_lite_small_1x_coco', 'coat_lite_small'),
    ],
)
def test_a_detector_of_the_authors_fits_our_config_exactly(tmp_path, config, keys):
    init_default_scope('mmdet')
    cfg = Config.fromfile(ROOT / f'configs/{config}.py')
    torch.manual_seed(0)
    model = MODELS.build(copy.deepcopy(cfg.model))
    keys = json.loads((PARITY / f'{keys}.json').read_text())['keys']
    official = official_detector(model, keys)
    assert not any('serial_blocks.' in name for name in official['state_dict'])
    path = save(tmp_path / 'detector.pth', official)

    torch.manual_seed(1)
    other = MODELS.build(copy.deepcopy(cfg.model))
    checkpoint = load_checkpoint(other, path, map_location='cpu', strict=True)
    for name, value in other.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    assert checkpoint['meta']['CLASSES'] == ('person', 'bicycle')
