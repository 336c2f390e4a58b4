from __future__ import annotations

import errno
from collections.abc import Iterable

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserError(RuntimeError):
    """Something that the user gave does not fit; its message is one sentence that says what to do.

    The tools print the message without a traceback.
    """


def first_line(error: BaseException) -> str:
    """Give the first line of an error's message, or the error's name if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def shorten(names: Iterable) -> str:
    """List some names, and how many there are."""
    names = [str(name) for name in names]
    return ', '.join(names[:5]) + (f', ... {len(names)} in all' if len(names) > 5 else '')


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk is full, or a quota or a limit of files reached."""
    return isinstance(error, OSError) and error.errno in NO_ROOM


def describe(error: BaseException) -> str:
    """Give the sentence of a user's error, or of a full disk."""
    if is_full(error):
        place = f' ({error.filename})' if error.filename else ''
        return f'{error.strerror}{place}: make room and try again'
    # one that a process loading data raised comes with the traceback of that
    return str(error).rpartition(f'{UserError.__name__}: ')[2].strip()
