"""A model is evaluated if the checkpoint has filled it, and the results can be written."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.model import BaseModel, BaseTTAModel
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from mmvitx.engine import files
from mmvitx.engine.evaluation import RequireWeights, draw, write_predictions
from mmvitx.errors import UserError


class Detector(BaseModel):
    """Makes names and weights differ: tied, renamed and unsaved parameters, and buffers."""

    def __init__(self):
        super().__init__(data_preprocessor=dict(type='ImgDataPreprocessor', mean=[0], std=[1]))
        self.backbone = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).requires_grad_(False)
        self.head = nn.Linear(3, 2)
        self.tied = nn.Linear(3, 2)
        self.tied.weight = self.head.weight
        self.register_buffer('grid', torch.zeros(2))
        self.unsaved = nn.Linear(3, 3)
        self._register_state_dict_hook(self.drop)
        self._register_load_state_dict_pre_hook(self.rename)

    @staticmethod
    def drop(module, state_dict, prefix, metadata):
        for name in ('weight', 'bias'):
            del state_dict[f'{prefix}unsaved.{name}']

    def rename(self, state_dict, prefix, *args):
        for name in [name for name in state_dict if name.startswith(f'{prefix}old_head.')]:
            state_dict[name.replace('old_head', 'head')] = state_dict.pop(name)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return inputs


class Flipped(BaseTTAModel):
    def merge_preds(self, data_samples_list):
        return data_samples_list


def evaluate(weights, model=None, average=None):
    """Load weights between the two calls, as a runner does."""
    cfg = SimpleNamespace(load_from='a.pth')
    runner = SimpleNamespace(model=model or Detector(), cfg=cfg, _resume=False)
    hook = RequireWeights()
    hook.before_run(runner)
    if average:
        average.before_run(runner)
        average.after_load_checkpoint(runner, dict(state_dict=weights))
    load_state_dict(runner.model, weights)
    hook.before_test(runner)


@pytest.fixture
def weights():
    return Detector().state_dict()


def test_a_whole_checkpoint(weights):
    evaluate(weights)
    evaluate(weights, Flipped(module=Detector()))


@pytest.mark.parametrize(
    ('dropped', 'parts'),
    [
        (['tied.bias'], r'1 of 7 parameters of the Detector, tied \(1\): '),
        (['head.weight', 'tied.weight'], r'1 of 7 parameters of the Detector, head \(1\): '),
        (['backbone.0.weight', 'head.bias'], r'2 of 7 .*, backbone \(1\), head \(1\): '),
    ],
)
@pytest.mark.parametrize('augmented', [False, True])
def test_a_part_that_is_missing(weights, dropped, parts, augmented):
    for name in dropped:
        del weights[name]
    model = Flipped(module=Detector()) if augmented else Detector()
    with pytest.raises(UserError, match=f'^a.pth has no weights for {parts}.*--allow-missing'):
        evaluate(weights, model)


def test_a_part_of_another_shape(weights):
    weights['tied.bias'] = torch.zeros(5)
    with pytest.raises(UserError, match=r'tied \(1\)'):
        evaluate(weights)


def test_what_is_no_parameter_may_be_missing(weights):
    del weights['grid'], weights['backbone.1.num_batches_tracked']
    evaluate(weights)


def test_one_name_of_a_tied_parameter_is_enough(weights):
    del weights['head.weight']
    evaluate(weights)


def test_names_of_an_older_checkpoint(weights):
    for name in ('head.weight', 'head.bias'):
        weights[f'old_{name}'] = weights.pop(name)
    del weights['tied.weight']
    evaluate(weights)


def test_a_moving_average_is_loaded_beside(weights):
    ema = EMAHook()
    evaluate(weights, average=ema)
    assert torch.equal(ema.ema_model.module.head.bias, weights['head.bias'])
    del weights['head.bias']
    with pytest.raises(UserError, match=r'head \(1\)'):
        evaluate(weights, average=EMAHook())


PLACES = {
    'other suffix': (write_predictions, 'a.json', '^--out .*a.json: expected a file .* in .pkl'),
    'folder': (write_predictions, 'folder.pkl', '^--out .*folder.pkl: .* no folder$'),
    'under a file': (write_predictions, 'file/a.pkl', 'file cannot be written .* with --out$'),
    'no place for files': (write_predictions, '/proc/x/a.pkl', 'cannot be written .* with --out$'),
    'pictures in a file': (draw, 'file', 'file cannot be written .* with --show-dir$'),
    'pictures under a file': (draw, 'file/x', 'cannot be written .* with --show-dir$'),
    'no place for pictures': (draw, '/proc/x', 'cannot be written .* with --show-dir$'),
}


@pytest.mark.parametrize('case', PLACES)
def test_a_place_that_cannot_be_written(tmp_path, case):
    function, place, message = PLACES[case]
    (tmp_path / 'folder.pkl').mkdir()
    (tmp_path / 'file').touch()
    cfg = Config(dict(default_scope='mmseg', test_evaluator=[]))
    with pytest.raises(UserError, match=message):
        function(cfg, str(tmp_path / place))


@pytest.mark.parametrize(('function', 'name'), [(write_predictions, 'a.pkl'), (draw, 'pictures')])
def test_a_place_that_is_read_only(tmp_path, monkeypatch, function, name):
    def refuse(dir):
        raise OSError(errno.EROFS, 'Read-only file system')

    monkeypatch.setattr(files.tempfile, 'TemporaryFile', refuse)
    cfg = Config(dict(default_scope='mmseg', test_evaluator=[]))
    with pytest.raises(UserError, match=r'cannot be written \(Read-only file system\)'):
        function(cfg, str(tmp_path / name))
