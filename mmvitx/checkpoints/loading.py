"""Reading checkpoint files without running what is inside.

A checkpoint is a pickle, and a pickle can call any function. torch reads one safely with
``weights_only=True``, if all that it names is on torch's allow-list. The files that mmengine writes
hold more than tensors (the history of every logged value, numpy scalars, ``getattr``), so mmengine
cannot read its own files under torch >= 2.6. Here these types, and no others, are put on the list.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import functools
import os
import pickle
import re
import warnings
import zipfile
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer

from mmvitx.errors import UserError

COPY_AGAIN = ': copy or download it again'


class CheckpointError(UserError):
    """A checkpoint file cannot be used."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint file is cut off or damaged."""


def load_file(path: str | os.PathLike, map_location=None, mmap: bool = False):
    """Read a checkpoint of torch, always with ``weights_only=True``, or of safetensors.

    Args:
        path: A local file; which of the two it is, its content tells.
        map_location: Where the tensors go, as in :func:`torch.load`; None means the CPU, so that
            a file from a GPU loads anywhere and several processes do not all fill the first GPU.
        mmap: Whether tensors are read from the file when they are used. Damaged ones are not
            found then.

    Returns:
        What was saved, usually a dict.

    Raises:
        CheckpointError: In one sentence: the file is missing, a folder, empty, not readable,
            damaged, or holds types other than those that torch, mmengine and the authors write.
    """
    path = Path(path).expanduser()
    _check_is_file(path)
    try:
        if _is_safetensors(path):
            device = str(map_location) if isinstance(map_location, (str, torch.device)) else 'cpu'
            return safetensors.torch.load_file(path, device)
        stat = path.stat()
        damaged = None if mmap else _find_damage(path, stat.st_size, stat.st_mtime_ns)
        if damaged:
            raise DamagedCheckpointError(
                f'{path} is damaged: its record {damaged} differs from its checksum{COPY_AGAIN}'
            )
        # The authors' files hold the arguments of their runs in a Namespace, a bag of attributes.
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter('ignore')  # of pickle protocols: what cannot be read is an error
            return torch.load(path, map_location or 'cpu', weights_only=True, mmap=mmap)
    except PermissionError as e:
        raise CheckpointError(f'no permission to read the checkpoint {path}') from e
    except (CheckpointError, MemoryError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as e:  # a damaged pickle can raise anything
        if 'deserialize object on' in str(e):  # the file is fine, map_location is not
            raise
        forbidden = _forbidden_name(str(e))
        if forbidden:
            raise CheckpointError(
                f'the checkpoint {path} holds {forbidden}, which weights do not need and which '
                'could run code, so it is not loaded: if you trust the file, save its weights '
                'alone with the program that wrote it; if a hook of yours put it there, allow its '
                'type with torch.serialization.add_safe_globals, in a module that the config '
                'imports'
            ) from e
        if isinstance(e, OSError) and e.errno not in (None, errno.EINVAL):  # of a cut-off file
            raise CheckpointError(f'{path} cannot be read: {e.strerror}') from e
        raise DamagedCheckpointError(
            f'{path} is truncated, damaged or no PyTorch checkpoint{COPY_AGAIN}'
        ) from e


def _check_is_file(path: Path) -> None:
    if path.is_dir():
        inside = sorted(file.name for file in path.glob('*.pth'))
        raise CheckpointError(
            f'the checkpoint {path} is a folder, a file was expected'
            + (f': name one of {", ".join(inside[:5])}' if inside else '')
        )
    if not path.is_file():
        near = path.parent.glob('*') if path.parent.is_dir() else ()
        close = difflib.get_close_matches(path.name, [file.name for file in near if file.is_file()])
        raise CheckpointError(
            f'the checkpoint {path} does not exist'
            + (f'; did you mean {path.parent / close[0]}?' if close else '')
        )
    if path.stat().st_size == 0:
        raise DamagedCheckpointError(f'the checkpoint {path} is empty{COPY_AGAIN}')


@functools.cache  # a run reads a file more than once: to check it, to load it
def _find_damage(path: Path, size: int, mtime: int) -> str | None:
    """Find a record in a zip file of torch that differs from its checksum; torch does not look.

    Other files, and those saved without checksums (``torch.serialization.set_crc32_options``), have
    none to compare with.
    """
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        return archive.testzip() if any(record.CRC for record in archive.infolist()) else None


def _is_safetensors(path: Path) -> bool:
    with path.open('rb') as file:
        return file.read(9)[8:] == b'{'  # behind the length of the header, which is JSON


def _forbidden_name(message: str) -> str | None:
    """Find in torch's message the type or function that its safe unpickler refused."""
    patterns = (
        r'GLOBAL (\S+)',  # a name that is not on the list
        r'forbidden (getattr\(.*?\))',  # our own getattr
        r'(?:but got|unrecognized function) (.*)',  # an object that may not be called or filled
        r'(TorchScript) archives',
    )
    for pattern in patterns:
        match = re.search(pattern, message)
        if match:
            return match[1].rstrip('.')
    return None


def _getattr(owner, name):
    """``getattr`` as mmengine's checkpoints need it: for the statistics of a HistoryBuffer.

    The real one would hand a crafted file any method of any object on the list.
    """
    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(HistoryBuffer, name)
    owner = getattr(owner, '__name__', type(owner).__name__)
    raise pickle.UnpicklingError(f'forbidden getattr({owner}, {name!r})')


def allow_mmengine_types() -> None:
    """Put the types of mmengine's own checkpoint files on torch's allow-list.

    They are needed with ``weights_only=True``, which is torch's default since 2.6.
    """
    multiarray = np._core.multiarray if hasattr(np, '_core') else np.core.multiarray
    names = {
        'mmengine.logging.history_buffer.HistoryBuffer': HistoryBuffer,
        'mmengine.config.config.ConfigDict': ConfigDict,  # a dict in the metainfo of a config
        'builtins.getattr': _getattr,
        'numpy.ndarray': np.ndarray,
        'numpy.dtype': np.dtype,
    }
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):  # as numpy < 2 and >= 2 say
        names[f'{module}._reconstruct'] = multiarray._reconstruct
        names[f'{module}.scalar'] = multiarray.scalar
    for kind in '?bhilqBHILQefdgUS':  # booleans, integers, floats and strings, but no objects
        dtype = type(np.dtype(kind))
        names[f'{dtype.__module__}.{dtype.__name__}'] = dtype
    torch.serialization.add_safe_globals([(thing, name) for name, thing in names.items()])
