"""A backbone as a file for images of any size gives what the model gives."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from mmvitx.errors import UserError

sys.path.append(str(Path(__file__).parents[1] / 'models/backbones'))
from families import SMALL

from mmvitx.registry import MODELS

SUFFIXES = [
    '.pt2',
    pytest.param(
        '.onnx',
        marks=pytest.mark.skipif(
            any(importlib.util.find_spec(n) is None for n in ('onnx', 'onnxscript', 'onnxruntime')),
            reason='onnx, onnxscript and onnxruntime are not installed',
        ),
    ),
]


@pytest.fixture
def export(tool):
    return tool('export')


@pytest.mark.parametrize('suffix', SUFFIXES)
@pytest.mark.parametrize('name', ['coat_lite', 'cait', 'crossvit'])
@pytest.mark.filterwarnings('ignore')
def test_the_file_gives_the_same_at_other_sizes(export, name, suffix, tmp_path, capsys):
    torch.manual_seed(0)
    model = MODELS.build(SMALL[name]).eval()
    path = tmp_path / f'model{suffix}'
    export.export(model, path)
    export.check(model, path)
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(export.CHECKED)


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['coat_lite_tiny', '--out', 'model.txt'], r'must end in .onnx or .pt2'),
        (['coat_lite_tiny', '--out', 'no/model.pt2'], r'name a file in a folder that exists'),
        (['coat_lite_tin', '--out', 'model.pt2'], r'no model is called'),
        (['coat_lite_tiny', '--out', 'model.pt2', '--out-indices', '7'], r'out_indices must name'),
        (['coat_lite_tiny', '--out', 'model.pt2', '--checkpoint', 'no.pth'], r'does not exist'),
        (
            ['cait_xxs24', '--out', 'model.pt2', '--cfg-options', 'window_size=7'],
            r'windowed attention cannot be exported for all sizes',
        ),
        (['coat_lite_tiny', '--out', 'model.pt2', '--opset', '18'], r'--opset is for'),
    ],
)
def test_bad_input_is_refused(export, argv, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        export.main(argv)
    assert not list(tmp_path.iterdir())


def test_a_file_that_differs_is_not_kept(export, tmp_path, monkeypatch):
    monkeypatch.setattr(export, 'export', lambda model, path, opset: path.write_bytes(b''))
    monkeypatch.setattr(export, 'load', lambda path: lambda images: [torch.zeros(1)])
    with pytest.raises(UserError, match='differs from the model by inf'):
        export.main(['coat_lite_tiny', '--out', str(tmp_path / 'model.pt2')])
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(export, tmp_path, monkeypatch):
    monkeypatch.setattr(export.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='pip install onnx onnxscript onnxruntime'):
        export.main(['coat_lite_tiny', '--out', str(tmp_path / 'model.onnx')])
