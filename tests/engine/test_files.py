"""Files are whole under their names, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace

import mmcv
import mmengine
import numpy as np
import pytest
from mmengine.fileio import LocalBackend, get_file_backend, register_backend

from mmvitx.engine import files
from mmvitx.engine.files import check_room, claim_folder, unfinished, write_whole_files
from mmvitx.errors import UserError


@pytest.fixture
def whole_files():
    write_whole_files()
    yield
    register_backend('local', LocalBackend, force=True, prefixes='')


@pytest.fixture
def full_disk(monkeypatch):
    """Let the disk be full when half of something is written."""

    def put(self, content, path):
        with open(path, 'wb') as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(LocalBackend, 'put', put)


def write_picture(path):
    mmcv.imwrite(np.zeros((8, 8, 3), np.uint8), str(path))


def write_predictions(path):
    mmengine.dump(list(range(100)), str(path))


def write_checkpoint(path):
    get_file_backend(str(path)).put(b'12345678', str(path))


WRITERS = {'a.png': write_picture, 'a.pkl': write_predictions, 'a.pth': write_checkpoint}


@pytest.mark.parametrize('name', WRITERS)
def test_a_full_disk_leaves_what_was_there(whole_files, full_disk, tmp_path, name):
    (tmp_path / name).write_text('old')
    with pytest.raises(UserError, match=f'{name} cannot be written: No space .*; make room there'):
        WRITERS[name](tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == 'old'


@pytest.mark.parametrize('name', WRITERS)
def test_what_is_written_can_be_read(whole_files, tmp_path, name):
    WRITERS[name](tmp_path / 'folder' / name)
    assert (tmp_path / 'folder' / name).stat().st_size
    assert len(list((tmp_path / 'folder').iterdir())) == 1


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    seen = []
    sync = files._sync
    monkeypatch.setattr(
        files, '_sync', lambda path: (seen.append((path, (tmp_path / 'a').exists())), sync(path))
    )
    with unfinished(tmp_path / 'a', sync=True) as path:
        path.write_text('text')
    assert seen == [(path, False), (tmp_path, True)]


def test_a_file_system_need_not_sync_folders(tmp_path, monkeypatch):
    def fsync(number):
        if os.path.isdir(f'/proc/self/fd/{number}'):
            raise OSError(errno.EINVAL, 'Invalid argument')

    monkeypatch.setattr(files.os, 'fsync', fsync)
    with unfinished(tmp_path / 'a', sync=True) as path:
        path.write_text('text')
    assert (tmp_path / 'a').read_text() == 'text'


@pytest.mark.parametrize(('free', 'warns'), [(300, False), (299, True), (100, True)])
def test_room_for_three_checkpoints_is_wanted(tmp_path, monkeypatch, free, warns):
    monkeypatch.setattr(files.shutil, 'disk_usage', lambda path: SimpleNamespace(free=free))
    lines = []
    monkeypatch.setattr(files, 'print_log', lambda text, **kwargs: lines.append(text))
    check_room(tmp_path, 100)
    assert bool(lines) is warns


def test_room_for_one_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(files.shutil, 'disk_usage', lambda path: SimpleNamespace(free=5 * 10**6))
    with pytest.raises(UserError, match=r'about 6 MB, and the disk of .* has 5 MB left: make room'):
        check_room(tmp_path, 6 * 10**6)


def test_what_a_killed_process_left_is_cleared(tmp_path):
    for name in ('epoch_1.pth', 'epoch_2.unfinished.pth', 'last_checkpoint.unfinished'):
        (tmp_path / name).touch()
    claim_folder(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {'.lock', 'epoch_1.pth'}
    claim_folder(tmp_path)  # this process has it already
