import argparse
import shutil

import pytest
import torch
from mmengine.runner import load_checkpoint

from mmvitx.checkpoints import CheckpointError
from mmvitx.checkpoints.published import PUBLISHED
from mmvitx.errors import UserError
from mmvitx.registry import MODELS

ARCH = dict(embed_dims=(8,) * 4, serial_depths=(2,) * 4, parallel_depth=0, mlp_ratios=(1,) * 4)
OFFICIAL = {
    'cls_token1': torch.full((1, 1, 8), 2.0),
    'cpe1.proj.weight': torch.ones(8, 1, 3, 3),
    'serial_blocks1.0.norm1.weight': torch.ones(8),
    'serial_blocks1.0.cpe.proj.weight': torch.ones(8, 1, 3, 3),
    'head.bias': torch.zeros(10),
    'novelty': torch.zeros(1),
}


@pytest.fixture
def convert(tool):
    return tool('convert_checkpoint').main


@pytest.fixture
def official(tmp_path):
    path = tmp_path / 'official.pth'
    torch.save(dict(model=OFFICIAL, args=argparse.Namespace(lr=1)), path)
    return str(path)


def test_the_result_is_a_file_of_mmengine(convert, official, tmp_path, capsys):
    target = tmp_path / 'ours.pth'
    convert([official, str(target)])
    checkpoint = torch.load(target, weights_only=True)  # with nothing of this package
    assert list(checkpoint['state_dict']) == [
        'backbone.cls_tokens.0',
        'backbone.cpes.0.proj.weight',
        'backbone.serial_blocks.0.0.norm1.weight',
        'head.fc.bias',
    ]
    out = capsys.readouterr().out
    assert 'published checkpoint of coat: 6 tensors become 4, backbone (3), head (1)' in out
    assert f'written: {target}' in out
    backbone = MODELS.build(dict(type='mmvitx.CoaT', arch=ARCH))
    load_checkpoint(backbone, str(target))
    assert backbone.cls_tokens[0].eq(2).all()


def test_a_dry_run_shows_the_names_and_writes_nothing(convert, official, tmp_path, capsys):
    convert([official, str(tmp_path / 'ours.pth'), '--dry-run'])
    lines = [' '.join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert 'cls_token1 -> backbone.cls_tokens.0' in lines
    assert 'head.bias -> head.fc.bias' in lines
    assert 'serial_blocks1.0.cpe.proj.weight -> backbone.cpes.0.proj.weight (copy)' in lines
    assert 'novelty -> (dropped)' in lines
    assert not (tmp_path / 'ours.pth').exists()


def test_a_file_of_another_kind_is_refused(convert, tmp_path):
    for content, what in (
        ({'conv1.weight': torch.ones(1)}, 'its 1 tensors begin with conv1.weight'),
        ([1, 2], 'it has no tensors'),
    ):
        torch.save(content, tmp_path / 'other.pth')
        with pytest.raises(UserError, match=f'no checkpoint of the authors or of timm .{what}'):
            convert([str(tmp_path / 'other.pth'), str(tmp_path / 'ours.pth')])


def test_the_target_is_checked_first(convert, tmp_path):
    missing = str(tmp_path / 'no.pth')
    with pytest.raises(UserError, match='cannot be written: name a file in a folder that exists'):
        convert([missing, str(tmp_path / 'no folder/ours.pth')])
    with pytest.raises(UserError, match='cannot be written'):
        convert([missing, str(tmp_path)])
    (tmp_path / 'ours.pth').touch()
    with pytest.raises(UserError, match='ours.pth exists: .* --force'):
        convert([missing, str(tmp_path / 'ours.pth')])
    with pytest.raises(CheckpointError, match='no.pth does not exist'):
        convert([missing, str(tmp_path / 'ours.pth'), '--force'])


def test_a_full_disk_leaves_what_was_there(convert, official, tmp_path, monkeypatch):
    def fill(checkpoint, path):
        path.write_bytes(b'half')
        raise OSError(28, 'No space left on device')

    target = tmp_path / 'ours.pth'
    target.write_text('before')
    monkeypatch.setattr(torch, 'save', fill)
    with pytest.raises(UserError, match='ours.pth cannot be written: .*No space left'):
        convert([official, str(target), '--force'])
    assert target.read_text() == 'before'
    assert not list(tmp_path.glob('*unfinished*'))


def test_names_are_known_here_too(convert, tmp_path, monkeypatch, official):
    with pytest.raises(CheckpointError, match='did you mean coat_small'):
        convert(['mmvitx://coat_smal', str(tmp_path / 'ours.pth')])
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    cache = tmp_path / 'hub/checkpoints'
    cache.mkdir(parents=True)
    name = PUBLISHED['crossvit_9'].url.rpartition('/')[2]
    shutil.copy(official, cache / name)
    convert(['mmvitx://crossvit_9', str(tmp_path / 'ours.pth')])
    assert (tmp_path / 'ours.pth').exists()
