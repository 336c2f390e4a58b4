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
from ssl import SSLError
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from filelock import FileLock, Timeout
from mmengine.logging import print_log

from mmvitx.checkpoints.loading import COPY_AGAIN, CheckpointError, load_file
from mmvitx.checkpoints.published import PUBLISHED, find_published

TIMEOUT = 30.0  # seconds without a byte after which a server does not answer
PATIENCE = 1.0  # seconds to wait for another process before saying so


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
    try:
        return _download(url)
    except _NoDownloadError as e:
        raise CheckpointError(_explain(url, str(e))) from e


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
    if published.hub is None or _place(published.url).is_file():
        return download(published.url)

    import huggingface_hub  # here, as few runs come by

    copy = dict(repo_id=published.hub, filename='model.safetensors')
    kept = huggingface_hub.try_to_load_from_cache(**copy)
    if isinstance(kept, str):
        return Path(kept)
    try:
        return _download(published.url)
    except _NoDownloadError as first:
        print_log(f'{published.url}: {first}; trying the copy {published.hub}', logger='current')
        try:
            if not getproxies():  # the hub's library would ask again for 20 s
                socket.getaddrinfo(urlsplit(huggingface_hub.constants.ENDPOINT).hostname, None)
            return Path(huggingface_hub.hf_hub_download(**copy))
        except Exception as second:  # of the hub, of its HTTP library, of the system
            cause = second.__cause__ or second
            reason = (str(cause) or type(cause).__name__).splitlines()[0].rstrip('.')
            copy_too = f'{first}; its copy {published.hub} on the Hugging Face hub: {reason}'
            raise CheckpointError(_explain(published.url, copy_too)) from first


def known_hash(url: str) -> str | None:
    """Tell how the SHA-256 of a file begins, if its authors say so.

    The hash of a published file is in our table; others have it at the end of their name, as
    PyTorch does it (``resnet18-5c106cde.pth``; a number, as in ``epoch-12.pth``, is none).
    """
    for published in PUBLISHED.values():
        if published.url == url:
            return published.sha256
    match = re.search(r'-((?=\d*[a-f])[\da-f]{8,64})\.\w+$', _file_name(url))
    return match[1] if match else None


def _file_name(url: str) -> str:
    return Path(urlsplit(url).path).name or 'checkpoint'


def _place(url: str) -> Path:
    """Where a file is kept, where torch.hub does too if its name is unmistakable."""
    cache = Path(torch.hub.get_dir(), 'checkpoints')
    if known_hash(url) or any(published.url == url for published in PUBLISHED.values()):
        return cache / _file_name(url)
    return cache / hashlib.sha256(url.encode()).hexdigest()[:8] / _file_name(url)


def _explain(url: str, reason: str) -> str:
    sha256 = known_hash(url)
    return (
        f'the checkpoint {url}{f" (SHA-256 {sha256}...)" if sha256 else ""} cannot be downloaded '
        f'({reason}): get it in another way and put it into {_place(url).parent}'
    )


class _NoDownloadError(Exception):
    """Why a download failed."""


def _download(url: str) -> Path:
    path, sha256 = _place(url), known_hash(url)
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            with _lock(path):
                if not path.is_file():
                    _fetch(url, path, sha256)
                return path
    except OSError as e:
        raise CheckpointError(
            f'{e.filename or path.parent} cannot be written ({e.strerror or e}): name another '
            'cache folder with the variable TORCH_HOME'
        ) from e
    _check_hash(path, sha256, hint=f': remove {path} and try again')
    return path


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Keep others from downloading the same; say so if others do."""
    lock = FileLock(f'{path}.lock')
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        print_log(f'waiting for another process that holds {lock.lock_file}', logger='current')
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


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
        reason = re.sub(f'(the checkpoint )?{re.escape(str(incoming))}', 'what came', str(e))
        raise _NoDownloadError(reason.removesuffix(COPY_AGAIN)) from e
    except (URLError, HTTPException, SSLError, ConnectionError, TimeoutError, ValueError) as e:
        reason = e.reason if type(e) is URLError else e  # of an HTTPError the text says more
        raise _NoDownloadError(reason) from e
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
