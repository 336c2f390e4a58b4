"""mmpretrain knows our classifiers by name."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import official_weights
from mmengine.registry import DefaultScope

from mmvitx.checkpoints import model_index
from mmvitx.checkpoints.published import PUBLISHED

CLASSIFIERS = {name for name, entry in PUBLISHED.items() if entry.size}


@pytest.fixture(autouse=True)
def scope():
    yield
    DefaultScope._instance_dict.clear()


def test_all_published_classifiers_are_listed():
    from mmpretrain import list_models

    names = {name for p in ('coat', 'crossvit', 'cait') for name in list_models(p)}
    assert names >= CLASSIFIERS
    assert 'coat_small' in list_models('*coat*', task='Image Classification')
    assert not [name for name in list_models('*coat*') if 'rcnn' in name]


@pytest.mark.parametrize('first', ['mmvitx', 'mmpretrain'])
def test_the_index_is_read_when_mmpretrain_is_imported(first):
    """In either order; and importing mmvitx imports nothing of mmpretrain."""
    second = {'mmvitx': 'mmpretrain', 'mmpretrain': 'mmvitx'}[first]
    code = (
        f'import sys, {first}\n'
        f'print("mmpretrain" in sys.modules)\n'
        f'import {second}, mmpretrain\n'
        'print("coat_small" in mmpretrain.list_models("*coat*"))\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == [str(first == 'mmpretrain'), 'True'], done.stderr


def test_a_wheel_has_the_index_under_mim(tmp_path, monkeypatch):
    package = tmp_path / 'site-packages/mmvitx'
    (package / 'checkpoints').mkdir(parents=True)
    monkeypatch.setattr(model_index, '__file__', str(package / 'checkpoints/model_index.py'))
    assert model_index.find_root() is None
    metafile = package / '.mim' / model_index.METAFILE
    metafile.parent.mkdir(parents=True)
    metafile.touch()
    assert model_index.find_root() == package / '.mim'


def test_a_model_by_name_with_weights(tmp_path):
    from mmpretrain import ImageClassificationInferencer, get_model

    official = official_weights('coat_lite_tiny')
    torch.save(dict(model=official), tmp_path / 'coat.pth')
    model = get_model('coat_lite_tiny', pretrained=str(tmp_path / 'coat.pth'))
    assert torch.equal(model.head.fc.weight, official['head.weight'])
    inferencer = ImageClassificationInferencer(model)
    (result,) = inferencer(np.zeros((90, 60, 3), np.uint8))
    assert result['pred_scores'].shape == (1000,) and isinstance(result['pred_class'], str)
