"""Training data from any place of a run on, and loader processes that end with their parent."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from numbers import Integral
from typing import Any

import torch
from torch.utils.data import DataLoader

from mmvitx.engine.signals import STOPPING

PR_SET_PDEATHSIG = 1  # of Linux's prctl


class Place(int):
    """An index of a dataset that knows the seed of the sample's random transforms."""

    seed: tuple


class Batches:
    """The batches of a batch sampler, beginning anywhere.

    The sampler runs as usual, so the order is its own; batches before the beginning are skipped
    without being loaded. All other attributes are those of the batch sampler.

    Args:
        batch_sampler: What gives lists of indices.
        seed: The seed of the run.

    Attributes:
        beginning: The epoch with which they begin, counted from 0, and the number of its batches
            that are passed over.
    """

    def __init__(self, batch_sampler: Any, seed: int):
        self.batch_sampler, self.seed = batch_sampler, seed
        self.beginning = 0, 0
        self._epoch = 0
        self._rest = None  # of the first epoch, if the training goes on within it

    def __getattr__(self, name: str) -> Any:
        if name == 'batch_sampler':  # not there yet, while it is copied or unpickled
            raise AttributeError(name)
        return getattr(self.batch_sampler, name)

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[list[Place]]:
        first = self.beginning[1] if self._rest else 0
        batches, self._rest = self._rest or iter(self.batch_sampler), None
        for number, batch in enumerate(batches, first):
            yield [self._place(index, number, i) for i, index in enumerate(batch)]
        self._epoch += 1

    def go_to(self, epoch: int, number: int) -> None:
        """Begin in an epoch, behind a number of its batches; on in the next ones if it has fewer.

        Args:
            epoch: Counted from 0.
            number: Batches that have been trained on.
        """
        self._epoch, passed = epoch, 0
        self._rest = self._begin()
        while passed < number:
            if next(self._rest, None) is not None:
                passed += 1
            elif not passed:
                break  # there are no batches at all
            else:
                self._epoch, number, passed = self._epoch + 1, number - passed, 0
                self._rest = self._begin()
        self.beginning = self._epoch, passed

    def _begin(self):
        sampler = getattr(self.batch_sampler, 'sampler', None)
        if hasattr(sampler, 'set_epoch'):
            sampler.set_epoch(self._epoch)
        return iter(self.batch_sampler)

    def _place(self, index, number, i):
        if not isinstance(index, Integral):
            return index  # of a sampler with indices of its own kind
        place = Place(index)
        place.seed = self.seed, self._epoch, number, i, index
        return place


def make_resumable(loader: DataLoader, seed: int) -> Batches | None:
    """Let a training's loader begin at any place, with the same samples as an undisturbed run.

    The random transforms of a sample are seeded by the seed of the run and the sample's place in
    it, by :class:`mmvitx.engine.samples.Samples`. So neither the number of worker processes matters
    nor what came before, and the generators of the training itself are left as they are.

    Args:
        loader: What mmengine built; changed in place.
        seed: The seed of the run.

    Returns:
        Its batches; None where it has no batch sampler.
    """
    if loader.batch_sampler is None:
        return None
    loader.generator = torch.Generator()  # workers' seeds would be drawn from the training's
    # the loader refuses to have it set, but has read nothing of it yet
    vars(loader)['batch_sampler'] = batches = Batches(loader.batch_sampler, seed)
    return batches


def guard_workers(loader: DataLoader) -> None:
    """Let a loader's processes end with the one that made them, however it dies, and not before.

    Signals that ask a training to stop may reach all of its processes. The workers leave them to
    the main process, which still needs a batch to finish its iteration.

    Args:
        loader: Any; changed in place.
    """
    if not isinstance(loader.worker_init_fn, _Guard):
        loader.worker_init_fn = _Guard(loader.worker_init_fn)


class _Guard:
    def __init__(self, init: Callable[[int], None] | None):
        self.init, self.parent = init, os.getpid()

    def __call__(self, worker: int) -> None:
        for number in {*STOPPING} - {signal.SIGTERM}:
            signal.signal(number, signal.SIG_IGN)
        if sys.platform == 'linux':
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            # the parent of a process of a fork server is that server
            by_server = multiprocessing.get_context('forkserver').Process
            is_child = not isinstance(multiprocessing.current_process(), by_server)
            if is_child and os.getppid() != self.parent:  # it has died meanwhile
                os._exit(1)
            # the parent ends a worker by SIGTERM; that of anybody else is for the parent
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            threading.Thread(target=self._await_parent, daemon=True).start()
        if self.init is not None:
            self.init(worker)

    def _await_parent(self):
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != self.parent:
            pass
        os._exit(0)
