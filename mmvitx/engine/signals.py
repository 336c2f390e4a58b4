"""Signals that ask a training to stop: by a scheduler, a cluster or Ctrl-C."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mmvitx.engine.cli import is_first_process

# Windows has no SIGUSR1
NAMES = 'SIGTERM', 'SIGUSR1', 'SIGINT'
STOPPING = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
SAME = 2.0  # seconds in which a launcher passes on a Ctrl-C that the terminal has sent already

_asked = 0  # the signal that asked to stop; 0 while none did
_asked_at = 0.0


def asked_to_stop() -> int:
    """Give the number of the signal that asked this training to stop, or 0."""
    return _asked


@contextmanager
def listening() -> Iterator[None]:
    """Note the signals of STOPPING instead of ending at once; :class:`StopHook` acts on them.

    Ctrl-C ends the process at once if something has asked to stop before.
    """
    global _asked
    _asked = 0
    before = {number: signal.signal(number, _note) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def status(number: int) -> int:
    """Give the exit status of a process that a signal has ended, as a shell has it."""
    return 128 + number


def _note(number, frame):
    global _asked, _asked_at
    if number == signal.SIGTERM and 'PoolWorker' in multiprocessing.current_process().name:
        os._exit(status(number))  # of a multiprocessing.Pool, as in VOC's metric: it ends them so
    name = 'Ctrl-C' if number == signal.SIGINT else signal.Signals(number).name
    if not _asked:
        _asked, _asked_at = number, time.monotonic()
        hint = '; again to stop at once' if number == signal.SIGINT else ''
        _say(f'{name}: finishing the iteration and saving a checkpoint{hint}')
    elif number == signal.SIGINT and not ('RANK' in os.environ and _is_same()):
        _say('stopped at once; what came after the last checkpoint is lost')
        os._exit(status(number))


def _is_same():
    return time.monotonic() - _asked_at < SAME


def _say(text):
    if is_first_process():
        # `| tee` ends of the same Ctrl-C: an error here would end the training, and save nothing
        with suppress(OSError):
            os.write(sys.__stderr__.fileno(), f'\n{text}\n'.encode())
