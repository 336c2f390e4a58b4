"""Writing where a tool's user said."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmvitx.errors import UserError


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
def unfinished(target: Path) -> Iterator[Path]:
    """Give a file to write to, which becomes ``target`` if nothing is raised: whole, or not at all.

    Raises:
        UserError: The folder cannot be written.
    """
    path = target.with_name(f'{target.stem}.unfinished{target.suffix}')
    try:
        yield path
        path.replace(target)
    except OSError as e:
        raise UserError(f'{target} cannot be written: {e}') from e
    finally:
        path.unlink(missing_ok=True)
