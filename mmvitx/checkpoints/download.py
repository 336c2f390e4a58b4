"""Getting checkpoint files from elsewhere: whole, or not at all."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit

import torch
from filelock import FileLock
from mmengine.logging import print_log

from mmvitx.checkpoints.loading import CheckpointError, load_file
from mmvitx.checkpoints.published import PUBLISHED, find_published

TIMEOUT = 30.0  # seconds without a byte after which a server does not answer


def download(url: str) -> Path:
    """Download a checkpoint into the cache of ``torch.hub``, unless it is there.

    A file appears in the cache whole or not at all, however the download ends, and of several
    processes one downloads. Where its hash is known (see :func:`known_hash`) the content is
    checked, also of a file that was there before; without one it is read before it is kept.

    Args:
        url: An http(s) address.

    Returns:
        The file.

    Raises:
        CheckpointError: In one sentence: what went wrong, the address, the hash if it is known,
            and the folder in which to put the file.
    """
    return _download(url, _describe(url))


def download_published(name: str) -> Path:
    """Get a published checkpoint: from a cache, its authors, or timm's copy on the hub.

    Args:
        name: As ``coat_small``, with or without ``mmvitx://``; see
            :data:`mmvitx.checkpoints.published.PUBLISHED`.

    Returns:
        The file, in the cache of ``torch.hub`` or of the Hugging Face hub.

    Raises:
        CheckpointError: There is none of that name, or no source gave it: like :func:`download`.
    """
    published = find_published(name)
    what = f'{name}, {_describe(published.url)},'
    if published.hub is None or _place(published.url).is_file():
        return _download(published.url, what)

    import huggingface_hub  # here, as few runs come by

    copy = dict(repo_id=published.hub, filename='model.safetensors')
    kept = huggingface_hub.try_to_load_from_cache(**copy)
    if isinstance(kept, str):
        return Path(kept)
    try:
        return _download(published.url, what)
    except CheckpointError as e:
        print_log(f'{e}; now trying its copy {published.hub} on the Hugging Face hub', 'current')
        try:
            return Path(huggingface_hub.hf_hub_download(**copy))
        except Exception as second:  # of the hub, of its HTTP library, of the system
            reason = str(second).splitlines()[0].rstrip('.')
            raise CheckpointError(f'{e}; nor its copy {published.hub} ({reason})') from e


def known_hash(url: str) -> str | None:
    """Tell how the SHA-256 of a file begins, if its authors say so.

    The hash of a published file is in our table; others have it at the end of their name, as
    PyTorch does it (``resnet18-5c106cde.pth``).
    """
    for published in PUBLISHED.values():
        if published.url == url:
            return published.sha256
    match = torch.hub.HASH_REGEX.search(Path(urlsplit(url).path).name)
    return match[1] if match else None


def _place(url: str) -> Path:
    return Path(torch.hub.get_dir(), 'checkpoints', Path(urlsplit(url).path).name)


def _describe(url: str) -> str:
    sha256 = known_hash(url)
    return url + (f' (SHA-256 {sha256}...)' if sha256 else '')


def _download(url: str, what: str) -> Path:
    path, sha256 = _place(url), known_hash(url)
    if path.is_file():
        _check_hash(path, sha256, hint=f': remove {path} and try again')
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f'{path}.lock'):
            if not path.is_file():
                _fetch(url, path, sha256)
    except (CheckpointError, OSError, ValueError, HTTPException) as e:
        reason = e.reason if type(e) is URLError else e  # of an HTTPError the text says more
        raise CheckpointError(
            f'the checkpoint {what} cannot be downloaded ({reason}): get it in another way and put '
            f'it into {path.parent}'
        ) from e
    return path


def _fetch(url: str, path: Path, sha256: str | None) -> None:
    """Download to another name, check, and only then rename."""
    incoming = path.with_name(f'{path.name}.incoming')
    for left in glob.glob(f'{glob.escape(str(incoming))}*'):  # by a process that was killed
        os.remove(left)
    try:
        with _timeout(TIMEOUT):
            torch.hub.download_url_to_file(url, str(incoming))
        _check_hash(incoming, sha256)
        if sha256 is None:
            load_file(incoming)
        incoming.replace(path)
    except CheckpointError as e:
        what_is_wrong = re.sub(f'(the checkpoint )?{re.escape(str(incoming))}', 'what came', str(e))
        raise CheckpointError(what_is_wrong) from e
    finally:
        incoming.unlink(missing_ok=True)


def _check_hash(path: Path, sha256: str | None, hint: str = '') -> None:
    if sha256 is None:
        return
    actual = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(2**20):
            actual.update(block)
    if not actual.hexdigest().startswith(sha256):
        raise CheckpointError(
            f'the SHA-256 of {path} begins with {actual.hexdigest()[: len(sha256)]}, not with '
            f'{sha256}{hint}'
        )


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """Let no socket that is made in here wait for ever: torch.hub sets no limit."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
