"""A backbone as a file for images of any size gives what the model gives."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from mmvitx.engine import export
from mmvitx.errors import UserError
from mmvitx.models.backbones.base import OUT_TYPES

sys.path.append(str(Path(__file__).parents[1] / 'models/backbones'))
from families import SMALL

from mmvitx.registry import MODELS

HAS_ONNX = all(importlib.util.find_spec(n) for n in ('onnx', 'onnxscript', 'onnxruntime'))
# Family -> what is changed of its small model.
CHANGES = {
    'coat': dict(
        arch=dict(
            embed_dims=(8, 16, 16, 16),
            serial_depths=(1, 1, 1, 1),
            parallel_depth=1,
            mlp_ratios=(2, 2, 2, 2),
        )
    ),
    'cait': {},
    'crossvit': {},
}


@pytest.fixture
def main(tool):
    return tool('export').main


@pytest.mark.parametrize(
    'name', ['coat', *(pytest.param(name, marks=pytest.mark.slow) for name in ('cait', 'crossvit'))]
)
@pytest.mark.filterwarnings('ignore')
def test_the_files_give_the_same_at_other_sizes(name, tmp_path, capsys):
    torch.manual_seed(0)
    model = MODELS.build({**SMALL[name], **CHANGES[name]}).eval()
    program = export.record(model)
    for suffix in ('.pt2', '.onnx') if HAS_ONNX else ('.pt2',):
        path = tmp_path / f'model{suffix}'
        export.write(program, path, export.output_names(model))
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
        (
            ['coat_lite_tiny', '--out', 'model.pt2', '--cfg-options', 'out_type=raw'],
            r'out_type is set by --out-type',
        ),
    ],
)
def test_bad_input_is_refused(main, argv, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        main(argv)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('name', 'saved', 'wanted', 'dropped', 'message'),
    [
        ('cait', 'cls_token', 'featmap', (), r'no weights of the pyramid, which a CaiT learns in'),
        ('crossvit', 'cls_token', 'featmap', (), r'no weights of the pyramid'),
        ('cait', 'cls_token', 'cls_token', ('norm.weight', 'norm.bias'), r'lacks norm'),
        ('crossvit', 'featmap', 'featmap', ('norm.0.weight',), r'lacks norm'),
        ('coat', 'featmap', 'cls_token', (), r'not all weights that --out-type cls_token needs'),
        ('coat', 'cls_token', 'featmap', (), None),
    ],
)
def test_a_checkpoint_must_have_all_weights(name, saved, wanted, dropped, message, tmp_path):
    weights = MODELS.build(dict(SMALL[name], out_type=saved)).state_dict()
    path = str(tmp_path / 'weights.pth')
    torch.save({n: t for n, t in weights.items() if n not in dropped}, path)
    model = MODELS.build(dict(SMALL[name], out_type=wanted))
    if message:
        with pytest.raises(UserError, match=message):
            export.fill(model, path)
    else:
        export.fill(model, path)
        assert all(torch.equal(t, weights[n]) for n, t in model.state_dict().items())


def test_what_is_interrupted_leaves_no_file(main, tmp_path, monkeypatch):
    def interrupt(program, path, *args):
        path.write_bytes(b'half')
        raise KeyboardInterrupt

    monkeypatch.setattr(export, 'record', lambda model: None)
    monkeypatch.setattr(export, 'write', interrupt)
    with pytest.raises(KeyboardInterrupt):
        main(['coat_lite_tiny', '--out', str(tmp_path / 'model.pt2')])
    assert not list(tmp_path.iterdir())


def test_a_full_disk_raises(tmp_path):
    (tmp_path / 'model.pt2').symlink_to('/dev/full')
    program = torch.export.export(torch.nn.Linear(1, 1), (torch.zeros(1, 1),))
    with pytest.raises(OSError, match='No space'):
        export.write(program, tmp_path / 'model.pt2', [])


def test_a_file_that_differs_is_not_kept(main, tmp_path, monkeypatch):
    monkeypatch.setattr(export, 'record', lambda model: None)
    monkeypatch.setattr(export, 'write', lambda program, path, *args: path.write_bytes(b''))
    monkeypatch.setattr(export, 'load', lambda path: lambda images: [torch.zeros(1)])
    with pytest.raises(UserError, match='differs from the model by inf'):
        main(['coat_lite_tiny', '--out', str(tmp_path / 'model.pt2')])
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(main, tmp_path, monkeypatch):
    monkeypatch.setattr(export.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='pip install onnx onnxscript onnxruntime'):
        main(['coat_lite_tiny', '--out', str(tmp_path / 'model.onnx')])


def test_all_outputs_can_be_asked_for(tool):
    for out_type in OUT_TYPES:
        words = ['coat_lite_tiny', '--out', 'model.pt2', '--out-type', out_type]
        assert tool('export').parse_args(words).out_type == out_type
