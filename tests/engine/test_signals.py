"""Signals that ask a training to stop."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
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


def test_a_pool_of_processes_can_be_ended():
    """As MMDetection's VOC metric has one, in the middle of a training."""
    with listening():
        pool = multiprocessing.get_context('fork').Pool(2)
        assert pool.map(abs, [-1, 2]) == [1, 2]
        pool.terminate()  # by SIGTERM
        for worker in pool._pool:
            worker.join(20)
            assert not worker.is_alive()
