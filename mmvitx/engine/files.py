"""Writing where a tool's user said: whole files or none."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import print_log

from mmvitx.errors import UserError, is_full

UNFINISHED = '.unfinished'  # stands before the suffix of a file that is being written


def check_folder(folder: str | Path, option: str) -> None:
    """Make a folder for results if it is not there, and see that files can be made in it.

    Args:
        folder: The folder.
        option: What the user names it with.

    Raises:
        UserError: It cannot be written.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as e:
        raise UserError(
            f'the output folder {folder} cannot be written ({e.strerror}): '
            f'choose another with {option}'
        ) from e


_claims = []  # locks of this process, held until it ends


def claim_folder(folder: str | Path) -> None:
    """Let no other process train in a folder while this one lives; clear what a killed one left.

    Args:
        folder: A work dir.

    Raises:
        UserError: Another process trains there.
    """
    lock = FileLock(Path(folder, '.lock'), timeout=0, is_singleton=True)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f'another process trains in {folder}: wait for it, or choose another folder with '
            '--work-dir'
        ) from None
    except (OSError, NotImplementedError) as e:  # of a file system without locks
        print_log(f'{folder} cannot be locked ({e}): no second training should use it')
    else:
        _claims.append(lock)
    for path in Path(folder).glob(f'*{UNFINISHED}*'):
        path.unlink(missing_ok=True)


def check_room(folder: str | Path, size: int) -> None:
    """Check that checkpoints fit on the disk: one must, three should.

    Three are the two that are kept and the one that is being written.

    Args:
        folder: Where they will be written.
        size: Bytes of one.

    Raises:
        UserError: There is no room for one.
    """
    free = shutil.disk_usage(folder).free
    if free >= 3 * size:
        return
    text = (
        f'a checkpoint will have about {size / 1e6:,.0f} MB, and the disk of {folder} has '
        f'{free / 1e6:,.0f} MB left: make room, or choose another place with --work-dir'
    )
    if free < size:
        raise UserError(text)
    print_log(text, logger='current', level=logging.WARNING)


def check_target(target: Path, force: bool) -> None:
    """Refuse, before any work, a file that cannot be written.

    Raises:
        UserError: Its folder is missing or cannot be written, or it exists.
    """
    if target.is_dir() or not target.parent.is_dir():
        raise UserError(f'{target} cannot be written: name a file in a folder that exists')
    if target.exists() and not force:
        raise UserError(f'{target} exists: name another file, or overwrite it with --force')
    try:
        tempfile.TemporaryFile(dir=target.parent).close()
    except OSError as e:
        raise UserError(f'{target} cannot be written ({e.strerror}): name another folder') from e


@contextmanager
def unfinished(target: Path, sync: bool = False) -> Iterator[Path]:
    """Give a file to write to, which becomes ``target`` if nothing is raised: whole, or not at all.

    Args:
        target: The file.
        sync: Whether to wait until the disk has it, so that it also survives a loss of power.

    Raises:
        UserError: The folder cannot be written, or its disk is full.
    """
    # of several processes each writes its own
    path = target.with_name(f'{target.stem}{UNFINISHED}-{os.getpid()}{target.suffix}')
    try:
        yield path
        if sync:
            _sync(path)
        path.replace(target)
        if sync:
            with suppress(OSError):  # some network file systems have no fsync for folders
                _sync(target.parent)
    except OSError as e:
        hint = 'make room there' if is_full(e) else 'name another place'
        raise UserError(f'{target} cannot be written: {e.strerror}; {hint}') from e
    finally:
        path.unlink(missing_ok=True)


def _sync(path):
    # Windows syncs what is open for writing only
    number = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(number)
    finally:
        os.close(number)


class WholeFiles(LocalBackend):
    """mmengine's backend for local files: writes them whole, and lists no hidden ones."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes; a checkpoint is on the disk when this returns."""
        target = Path(filepath)
        with unfinished(target, sync=target.suffix == '.pth') as path:
            super().put(obj, path)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text, as :meth:`put` does."""
        self.put(obj.encode(encoding), filepath)

    def list_dir_or_file(self, *args: Any, **kwargs: Any) -> Iterator[str]:
        """List a folder without what is hidden: ``.ipynb_checkpoints`` is no class of images."""
        paths = super().list_dir_or_file(*args, **kwargs)
        return (path for path in paths if not any(p.startswith('.') for p in Path(path).parts))


def write_whole_files() -> None:
    """Let mmengine, mmcv and the hosts write local files (checkpoints, pictures) by WholeFiles."""
    register_backend('local', WholeFiles, force=True, prefixes='')
