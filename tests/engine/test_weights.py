from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModule, BaseTTAModel
from torch import nn

from mmvitx.checkpoints import CheckpointError
from mmvitx.engine import weights as engine_weights
from mmvitx.models.backbones import CoaT


def weights_of(tmp_path, checkpoint, **settings):
    path = tmp_path / 'weights.pth'
    torch.save(checkpoint, path)
    return engine_weights.read_weights(Config(dict(load_from=str(path), **settings)))


def test_weights_are_compared_by_name_and_shape(tmp_path):
    model = nn.Sequential(nn.Linear(2, 3))
    for fitting in (
        dict(state_dict=model.state_dict()),
        model.state_dict(),
        {f'module.{name}': value for name, value in model.state_dict().items()},
        {'0.bias': torch.zeros(3), 'head.weight': torch.zeros(1)},
    ):
        engine_weights.check_weights(weights_of(tmp_path, fitting), model)
    engine_weights.check_weights(None, model)

    for other in ({'0.bias': torch.zeros(4)}, {'1.bias': torch.zeros(3)}, dict(model={})):
        with pytest.raises(CheckpointError, match='none of the . tensors .* fits the Sequential'):
            engine_weights.check_weights(weights_of(tmp_path, other), model)


def test_resuming_needs_more_than_weights(tmp_path):
    with pytest.raises(CheckpointError, match='no message_hub, meta, optimizer.* load_from='):
        weights_of(tmp_path, dict(state_dict={}), resume=True)
    with pytest.raises(CheckpointError, match='holds a list, a dict of weights was expected'):
        weights_of(tmp_path, [torch.zeros(1)])


def test_weights_are_compared_with_what_a_merging_model_holds(tmp_path):
    class Merging(BaseTTAModel):
        def merge_preds(self, data_samples_list):
            return data_samples_list

    weights = weights_of(tmp_path, {'0.bias': torch.zeros(3)})
    inner = nn.Sequential(nn.Linear(2, 3))
    model = Merging.__new__(Merging)
    nn.Module.__init__(model)
    model.module = inner
    engine_weights.check_weights(weights, model)


class Part(BaseModule):
    def __init__(self, **init_cfg):
        super().__init__(init_cfg=dict(type='Pretrained', **init_cfg))
        self.fc = nn.Linear(2, 3)


class Converter(Part):
    def init_weights(self):
        from mmengine.runner import CheckpointLoader

        CheckpointLoader.load_checkpoint(self.init_cfg['checkpoint'])


def part_of(tmp_path, checkpoint, kind=Part, **settings) -> nn.Module:
    torch.save(checkpoint, tmp_path / 'part.pth')
    part = kind(checkpoint=str(tmp_path / 'part.pth'), **settings)
    return nn.ModuleDict(dict(neck=nn.Linear(1, 1), backbone=part))


@pytest.mark.parametrize(
    'checkpoint, prefix',
    [
        ({'fc.weight': torch.ones(3, 2)}, None),
        ({'module.fc.weight': torch.ones(3, 2), 'head': torch.ones(1)}, None),
        (dict(state_dict={'backbone.fc.weight': torch.ones(3, 2)}), 'backbone'),
        ({'backbone.fc.weight': torch.ones(3, 2)}, 'backbone.'),
    ],
)
def test_a_pretrained_part_fits(tmp_path, checkpoint, prefix):
    model = part_of(tmp_path, checkpoint, prefix=prefix)
    engine_weights.check_pretrained(model)
    model['backbone'].init_weights()
    assert model['backbone'].fc.weight.eq(1).all()  # mmengine agrees


@pytest.mark.parametrize(
    'checkpoint, prefix, first',
    [
        ({'fc.weight': torch.ones(3, 3)}, None, r'first of the checkpoint is fc.weight \(3, 3\)'),
        (dict(ema={'fc.weight': torch.ones(3, 2)}), None, 'first of the checkpoint is None'),
        (
            {'backbone.fc.weight': torch.ones(3, 2)},
            None,
            'first of the checkpoint is backbone.fc.weight',
        ),
        ({'fc.weight': torch.ones(3, 2)}, 'backbone', 'first of the checkpoint is None'),
    ],
)
def test_a_pretrained_part_that_does_not_fit(tmp_path, checkpoint, prefix, first):
    model = part_of(tmp_path, checkpoint, prefix=prefix)
    message = rf'none of the . tensors .* \(model.backbone.init_cfg\) fits the Part: the {first}'
    with pytest.raises(CheckpointError, match=message):
        engine_weights.check_pretrained(model)


def test_published_names_are_checked_before_the_run(tmp_path, monkeypatch):
    model = nn.ModuleDict(dict(backbone=Part(checkpoint='mmvitx://coat_smal')))
    with pytest.raises(CheckpointError, match='did you mean coat_small'):
        engine_weights.check_pretrained(model)
    with pytest.raises(CheckpointError, match='did you mean coat_small'):
        engine_weights.read_weights(Config(dict(load_from='mmvitx://coat_smal')))


def test_what_a_training_starts_from_is_said(monkeypatch):
    lines = []
    monkeypatch.setattr(engine_weights, 'print_log', lambda text, logger: lines.append(text))
    for backbone in (
        dict(arch='lite_tiny'),
        dict(arch='lite_tiny', init_cfg=dict(checkpoint='mine.pth')),
        dict(arch={**CoaT.archs['lite_tiny'], 'serial_depths': (1, 1, 1, 1)}),
    ):
        model = nn.ModuleDict(dict(backbone=CoaT(**backbone)))
        for scope, from_scratch in ('mmdet', False), ('mmdet', True), ('mmpretrain', False):
            runner = SimpleNamespace(model=model, cfg=Config(dict(default_scope=scope)))
            engine_weights.note_start(runner, None, None, from_scratch)
    hint = (
        'The coat_lite_tiny starts from random weights. From those of ImageNet it starts with '
        '--cfg-options model.backbone.init_cfg.checkpoint=mmvitx://coat_lite_tiny'
    )
    assert lines == [
        hint,
        *[hint.partition('. ')[0]] * 2,
        *['The coat_lite_tiny starts from mine.pth'] * 3,
        *['The CoaT starts from random weights'] * 3,
    ]


def test_a_part_that_converts_its_file_is_left_alone(tmp_path):
    engine_weights.check_pretrained(part_of(tmp_path, dict(model={}), Converter))


def test_what_a_checkpoint_fills_needs_no_file(tmp_path):
    """Part by part: a detector for other classes takes a whole backbone, and a part of its head."""
    model = nn.ModuleDict({name: Part(checkpoint='no.pth') for name in ('backbone', 'head')})
    weights = {name: value for name, value in model.state_dict().items() if name != 'head.fc.bias'}
    taken = engine_weights.check_weights(weights_of(tmp_path, weights), model)
    engine_weights.drop_pretrained(model, taken)
    assert model['backbone'].init_cfg is None
    assert model['head'].init_cfg['checkpoint'] == 'no.pth'


def test_a_pretrained_part_must_be_there(tmp_path):
    model = nn.ModuleDict(dict(backbone=Part(checkpoint=str(tmp_path / 'no.pth'))))
    message = 'no.pth does not exist; --from-scratch starts from random weights'
    with pytest.raises(CheckpointError, match=message):
        engine_weights.check_pretrained(model)
    model['backbone'].init_cfg['checkpoint'] = 'torchvision://resnet50'
    engine_weights.check_pretrained(model)
