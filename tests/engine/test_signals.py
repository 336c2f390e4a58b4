"""Signals that ask a training to stop."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from types import SimpleNamespace

from mmvitx.engine.signals import asked_to_stop, listening


def test_nobody_needs_to_read_what_is_said(monkeypatch):
    """As `tee`, which ends of a Ctrl-C before the training does."""
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(sys, '__stderr__', SimpleNamespace(fileno=lambda: writer))
    with listening():
        os.kill(os.getpid(), signal.SIGINT)
        assert asked_to_stop() == signal.SIGINT
    os.close(writer)


def test_a_pool_can_end_its_processes():
    """By SIGTERM, which they inherit; MMDetection's VOC metric has a pool."""
    fork = multiprocessing.get_context('fork')
    runs = fork.Event()
    with listening():
        worker = fork.Process(target=lambda: runs.set() or time.sleep(60), name='ForkPoolWorker-1')
        worker.start()
        assert runs.wait(10)
        worker.terminate()
        worker.join(10)
    worker.kill()
    assert worker.exitcode == 128 + signal.SIGTERM
