"""What a model takes of a checkpoint, and what whoever loads it is told."""

import copy
import logging
import re

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModule, BaseTTAModel
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader, load_checkpoint
from torch import nn

from mmvitx.checkpoints import CheckpointError
from mmvitx.checkpoints.fitting import fit, load_state_dict
from mmvitx.models.layers import resize_position_embedding
from mmvitx.registry import MODELS

ARCH = dict(embed_dims=(8,) * 4, serial_depths=(1,) * 4, parallel_depth=0, mlp_ratios=(1,) * 4)


def backbone(arch=ARCH, **settings):
    return MODELS.build(dict(type='mmvitx.CoaT', arch=arch, **settings))


def classifier(num_classes=3):
    init_default_scope('mmpretrain')
    return MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(type='mmvitx.CoaT', arch=ARCH, out_type='cls_token'),
            head=dict(type='LinearClsHead', num_classes=num_classes, in_channels=8),
        )
    )


@pytest.fixture
def logged():
    """Collect what mmengine logs."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def test_the_report_counts_what_is_taken_dropped_and_missing():
    weights = classifier(num_classes=5).state_dict()
    del weights['backbone.cls_tokens.0']
    weights['neck.weight'] = torch.ones(1)
    model = classifier()
    result = fit(weights, model)
    assert result.missing == ['backbone.cls_tokens.0', 'head.fc.weight', 'head.fc.bias']
    number = len(weights)
    assert result.report(model) == (
        f'ImageClassifier takes {number - 3} of {number} tensors; '
        'drops head (2 of another shape), neck (1 not in the model); '
        'lacks backbone (1), head (2), which stay as initialized'
    )


def test_whoever_loads_gets_the_report_in_one_line(tmp_path, logged):
    weights = classifier().state_dict()
    torch.save(dict(state_dict=weights), tmp_path / 'weights.pth')
    model = backbone(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'weights.pth')))
    model.init_weights()
    number = len(weights)
    assert (
        f'CoaT takes {number - 4} of {number} tensors; drops head (2 not of the backbone), norms '
        '(2 not in the model); lacks crpes (6), which stay as initialized'
    ) in logged
    assert not [line for line in logged if 'missing keys' in line or 'unexpected key' in line]


@pytest.mark.parametrize('way', ['init_cfg', 'load_checkpoint', 'detector'])
def test_nothing_taken_is_an_error_everywhere(tmp_path, way):
    torch.save(dict(state_dict={'conv1.weight': torch.ones(1)}), tmp_path / 'resnet.pth')
    path = str(tmp_path / 'resnet.pth')
    model = backbone(init_cfg=dict(type='Pretrained', checkpoint=path))
    with pytest.raises(CheckpointError, match=r'none of the 1 tensors .* is conv1.weight \(1,\)'):
        if way == 'init_cfg':
            model.init_weights()
        elif way == 'load_checkpoint':
            load_checkpoint(model, path)
        else:
            load_checkpoint(nn.ModuleDict(dict(backbone=model, neck=nn.Linear(1, 1))), path)


def test_a_backbone_that_takes_nothing_of_its_own_is_an_error():
    """Even if other parts of the model take something."""
    weights = {
        'backbone.conv1.weight': torch.ones(1),
        **classifier().head.state_dict(prefix='head.'),
    }
    with pytest.raises(
        CheckpointError,
        match=r'none of the 1 tensors under backbone. of the file fits the CoaT: the first of the '
        r'checkpoint is backbone.conv1.weight \(1,\), that of the model backbone.patch',
    ):
        fit(weights, classifier(), 'the file')
    del weights['backbone.conv1.weight']  # the head alone may be meant
    assert len(fit(weights, classifier()).taken) == 2


@pytest.mark.parametrize('content', [{}, {'a': 1}, {'model_ema': {'conv.weight': torch.ones(1)}}])
def test_a_file_without_tensors_is_said_to_be_one(tmp_path, content):
    torch.save(content, tmp_path / 'empty.pth')
    with pytest.raises(CheckpointError, match=r'none of the 0 tensors .* checkpoint is None, that'):
        load_checkpoint(backbone(), str(tmp_path / 'empty.pth'))


def test_weights_are_found_under_model_too(tmp_path, logged):
    weights = backbone().state_dict()
    torch.save(dict(model=weights), tmp_path / 'weights.pth')
    load_checkpoint(backbone(), str(tmp_path / 'weights.pth'), logger='current')
    assert f'CoaT takes {len(weights)} of {len(weights)} tensors' in logged


def test_models_without_our_backbones_load_as_ever(tmp_path, capsys):
    torch.save({'0.bias': torch.ones(3), 'other': torch.ones(1)}, tmp_path / 'weights.pth')
    model = nn.Sequential(nn.Linear(2, 3))
    load_checkpoint(model, str(tmp_path / 'weights.pth'))
    assert model[0].bias.tolist() == [1, 1, 1]
    assert 'unexpected key in source state_dict: other' in capsys.readouterr().out


def test_strict_is_strict():
    weights = classifier().state_dict()
    load_state_dict(classifier(), weights, strict=True)
    with pytest.raises(CheckpointError, match=r'do not fit .* exactly: .* neck \(1 not in'):
        load_state_dict(classifier(), {**weights, 'neck.bias': torch.ones(1)}, strict=True)
    weights.popitem()
    with pytest.raises(CheckpointError, match=r'do not fit .* exactly: .* lacks head \(1\)'):
        load_state_dict(classifier(), weights, strict=True)


def test_wrappers_are_looked_through():
    class Merging(BaseTTAModel):
        def merge_preds(self, data_samples_list):
            return data_samples_list

    inner, weights = classifier(), classifier().state_dict()
    model = Merging.__new__(Merging)
    nn.Module.__init__(model)
    model.module = inner
    load_state_dict(model, weights)
    assert torch.equal(inner.head.fc.weight, weights['head.fc.weight'])


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
@pytest.mark.parametrize(('theirs', 'ours'), [('mini', 'tiny'), ('lite_mini', 'lite_small')])
def test_another_architecture_is_named(theirs, ours, prefix):
    """Those of these pairs share many names and shapes."""
    weights = backbone(theirs, out_type='cls_token').state_dict()
    weights = {prefix + name: value for name, value in weights.items()}
    model = backbone(ours)
    with pytest.raises(
        CheckpointError, match=f'the file does not fit .* weights of coat_{theirs}, .* coat_{ours}:'
    ):
        fit(weights, model, 'the file')
    if not prefix:
        with pytest.raises(CheckpointError, match=f'weights of coat_{theirs}'):
            model.load_state_dict(weights)


@pytest.mark.parametrize('settings', [dict(out_indices=(0, 1)), dict(out_indices=(0, 1, 2))])
def test_a_part_of_an_architecture_is_not_taken_for_another(settings):
    """The first 18 or 27 of the 36 blocks of CaiT XXS36 are like those of XXS24."""
    cait = dict(type='mmvitx.CaiT', arch='xxs36')
    weights = MODELS.build(dict(cait, **settings)).state_dict()
    assert fit(weights, MODELS.build(cait)).missing


def test_a_subclass_is_of_its_family():
    class Mine(type(backbone())):
        pass

    assert Mine('lite_tiny').arch_name == 'coat_lite_tiny'
    fit(backbone('lite_tiny', out_type='cls_token').state_dict(), Mine('lite_tiny'))


def test_a_change_of_an_architecture_still_takes_what_fits():
    weights = backbone('lite_tiny').state_dict()
    gray = backbone('lite_tiny', in_channels=1)
    assert fit(weights, gray).missing == ['patch_embeds.0.proj.weight']
    numbers = {**type(gray).archs['lite_tiny'], 'serial_depths': (2, 2, 2, 3)}
    assert len(fit(weights, backbone(numbers)).missing) == 12
    shallow = backbone('lite_tiny', out_indices=(0, 1))
    assert not fit(weights, shallow).missing


def test_a_part_may_adapt_its_weights():
    class Doubling(BaseModule):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.zeros(4))

        def adapt_state_dict(self, state_dict, prefix=''):
            state_dict[prefix + 'scale'] = state_dict[prefix + 'scale'].repeat(2)

    model = nn.ModuleDict(dict(backbone=Doubling()))
    given = {'backbone.scale': torch.ones(2)}
    load_state_dict(model, copy.copy(given))
    assert model['backbone'].scale.tolist() == [1, 1, 1, 1]
    assert given['backbone.scale'].shape == (2,)


def test_the_schemes_of_mmengine_are_still_there():
    for scheme in ('torchvision://', 'open-mmlab://', 'modelzoo://', 'mmvitx://', ''):
        assert scheme in CheckpointLoader._schemes


def test_a_classifier_of_mmengine_starts_a_detector(tmp_path, tool, write_config):
    """By one option, with position embeddings of another resolution and the head dropped."""
    settings = dict(type='mmvitx.CaiT', arch=dict(embed_dim=16, depth=4, num_heads=2))
    classifier = MODELS.build(dict(settings, img_size=64, out_type='cls_token'))
    weights = {f'backbone.{name}': value for name, value in classifier.state_dict().items()}
    weights.update({'head.fc.weight': torch.zeros(3, 16), 'head.fc.bias': torch.zeros(3)})
    torch.save(dict(meta=dict(epoch=1), state_dict=weights), tmp_path / 'classifier.pth')
    detector = dict(_delete_=True, **settings, img_size=96)
    config = write_config(
        tmp_path, extra=f"model['backbone'] = {detector}\nmodel['neck']['in_channels'] = [16] * 4\n"
    )
    work = tmp_path / 'work'
    runner = tool('train').main(
        [config, '--work-dir', str(work), '--cfg-options']
        + [f'model.backbone.init_cfg.checkpoint={tmp_path / "classifier.pth"}']
        + ['optim_wrapper.optimizer.lr=0.0', 'optim_wrapper.optimizer.weight_decay=0.0']
    )
    theirs, ours = classifier.state_dict(), runner.model.backbone.state_dict()
    assert theirs['pos_embed'].shape == (1, 16, 16)
    resized = resize_position_embedding(theirs.pop('pos_embed'), (6, 6))
    torch.testing.assert_close(ours['pos_embed'], resized)
    taken = {name for name in theirs if name in ours}
    assert {'patch_embed.proj.weight', 'blocks.3.mlp.fc2.bias'} <= taken
    assert all(torch.equal(ours[name], theirs[name]) for name in taken)
    (log,) = work.glob('*/*.log')
    report = re.search(
        r'CaiT takes (\d+) of (\d+) tensors; drops (.*); lacks (.*)', log.read_text()
    )
    assert int(report[1]) == len(taken) + 1 and 'head (2 not of the backbone)' in report[3]
    assert 'pyramid' in report[4] and 'tap_norms' in report[4]
