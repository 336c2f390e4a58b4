"""Which splits are drawn, where to, and what is printed; the drawing is tested with the sheets."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import pytest

from mmvitx.apis import speed
from mmvitx.errors import UserError

HOSTS = ('mmdet', 'mmseg', 'mmpretrain')


@pytest.fixture
def browse(tool, tmp_path, capsys):
    """Run the tool and give the lines that it prints."""

    def run(*words):
        tool('browse').main([*words, '--work-dir', str(tmp_path / 'work')])
        return capsys.readouterr().out.splitlines()

    return run


def sheets(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / 'work').iterdir())


@pytest.mark.parametrize('host', HOSTS)
def test_each_split_has_a_sheet(host, browse, write_config, tiny_data, tmp_path):
    lines = browse(write_config(tmp_path, host), '--samples', '2')
    files = [f'  {tiny_data}/images/{i}.png' for i in (0, 3)]
    work = tmp_path / 'work'
    start = lines.index(f'train: {work}/samples_train.jpg')
    assert lines[start + 1 : start + 3] == files
    assert lines[-3:] == [f'val: {work}/samples_val.jpg', *files]
    assert sheets(tmp_path) == ['samples_train.jpg', 'samples_val.jpg']  # test equals val
    assert cv2.imread(str(work / 'samples_val.jpg')).shape[1] > 800


def test_a_test_set_of_its_own(browse, write_config, tmp_path):
    extra = (
        'test_dataloader = dict(dataset=dict(pipeline=test_pipeline, test_mode=True, **dataset))\n'
        "test_dataloader['dataset']['indices'] = 1\n"
    )
    config = write_config(tmp_path, 'mmseg', extra=extra)
    browse(config, '--samples', '1')
    assert sheets(tmp_path) == ['samples_test.jpg', 'samples_train.jpg', 'samples_val.jpg']


def test_a_split_by_name(browse, write_config, tmp_path):
    browse(write_config(tmp_path, 'mmpretrain'), '--split', 'test')
    assert sheets(tmp_path) == ['samples_test.jpg']


def test_speed_and_sheets(browse, write_config, tmp_path, monkeypatch):
    monkeypatch.setattr(speed, '_time', lambda step: step() or 4.0)
    config = write_config(tmp_path, 'mmpretrain')
    assert browse(config, '--speed', '--samples', '3')[0].startswith('data: ')
    assert not (tmp_path / 'work').exists()
    lines = browse(config, '--speed', '--split', 'train', '--samples', '3')
    assert lines[0] == 'train: 4 images of 64 x 64 px'
    assert f'train: {tmp_path}/work/samples_train.jpg' in lines
    assert any('3 images in random order' in line for line in lines)


ERRORS = {
    'no samples': (['--samples', '0'], '^--samples 0: expected at least 1$'),
    'split': (
        ['--split', 'val', '--cfg-options', 'val_dataloader=None', 'val_cfg=None'],
        '^--split val: the config .*tiny_mmseg.py has no val_dataloader$',
    ),
    'data': (['--data-root', '/nowhere'], '/nowhere.* does not exist'),
}


@pytest.mark.parametrize('case', ERRORS)
def test_says_what_is_wrong(case, browse, write_config, tmp_path):
    words, message = ERRORS[case]
    with pytest.raises(UserError, match=message):
        browse(write_config(tmp_path, 'mmseg'), *words)


def test_a_work_dir_that_is_a_file(browse, write_config, tmp_path):
    (tmp_path / 'work').touch()
    with pytest.raises(UserError, match='work cannot be written .*another with --work-dir'):
        browse(write_config(tmp_path, 'mmseg'))


def test_an_image_that_cannot_be_read(browse, write_config, tiny_data, tmp_path, monkeypatch):
    """The others are drawn."""
    warnings = []
    monkeypatch.setattr('mmvitx.engine.sheets.print_log', lambda text, **_: warnings.append(text))
    root = shutil.copytree(tiny_data, tmp_path / 'data')
    (root / 'images/0.png').write_bytes(b'')
    browse(write_config(tmp_path, 'mmpretrain', root=root), '--split', 'train')
    (warning,) = warnings
    assert 'images/0.png cannot be read (no image, or damaged)' in warning
    assert sheets(tmp_path) == ['samples_train.jpg']
