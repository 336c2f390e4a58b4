"""How fast a training gets its data, and how fast its model takes them."""

from __future__ import annotations

import copy
import importlib.util
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import Runner

from mmvitx.apis import trial
from mmvitx.engine import preflight
from mmvitx.engine.configs import walk
from mmvitx.errors import UserError

ON_CPU = 8  # images a step at most, where a whole batch would take minutes


def measure_speed(cfg: Config, samples: int = 64) -> list[str]:
    """Measure the training data and the model of a config in images per second.

    The pipeline runs in one process with one thread, as in a worker of the dataloader, on images in
    random order. The model runs forward and backward on the device that a training would use, with
    random weights and without the optimizer.

    Args:
        cfg: A config of one of the hosts.
        samples: How many images the pipeline is timed on, after a batch to warm up.

    Returns:
        What was measured and what to set, a line each.

    Raises:
        UserError: The config has no training data, or they are missing.
    """
    if not cfg.get('train_dataloader'):
        raise UserError(f'the config {cfg.filename} has no train_dataloader to measure')
    preflight.check_paths(cfg, ('train',))
    device = get_device()
    size = cfg.train_dataloader.batch_size
    size = min(size, ON_CPU) if device == 'cpu' else size
    with trial.isolated(cfg):
        data, busy, batch = _measure_data(cfg, samples, size)
        model = _measure_model(cfg, batch, size, device)
        return [
            f'data: {data:.3g} images/s in one process, {samples} images in random order; it had a '
            f'core for {busy:.0%} of the time (else it waited for the disk or other programs)',
            f'model: {model:.3g} images/s forward and backward, batches of {size} in '
            f'{"float16" if _is_mixed(cfg, device) else "float32"} on {_name(device)}',
            advise(data, model, cfg.train_dataloader.num_workers, os.cpu_count() or 1),
            *_measure_turbojpeg(cfg, samples, size),
        ]


def advise(data: float, model: float, workers: int, cores: int) -> str:
    """Say how many workers keep a model fed.

    Args:
        data: Images per second of one worker.
        model: Images per second of one process that trains.
        workers: Those that the config has.
        cores: Those of the machine.
    """
    needed = math.ceil(model / data)
    text = (
        f'each training process needs {needed} worker{"s" * (needed > 1)} to keep its model busy '
        f'(train_dataloader.num_workers is {workers}); this machine has {cores} cores'
    )
    if needed > cores:
        text += f', which keep one such process at {cores * data / model:.0%} of its speed'
    return text


def _measure_data(cfg: Config, samples: int, size: int) -> tuple[float, float, Any]:
    """Time the pipeline on some images.

    Returns:
        Images per second, the share of the time in which it had a core, and the batch before them.
    """
    loader = Runner.build_dataloader(
        {**cfg.train_dataloader, 'num_workers': 0, 'persistent_workers': False}, seed=0
    )
    dataset = loader.dataset
    order = np.random.permutation(np.resize(np.arange(len(dataset)), size + samples)).tolist()
    with _one_thread():
        batch = [dataset[i] for i in order[:size]]
        start, computed = time.perf_counter(), time.process_time()
        for i in order[size:]:
            dataset[i]
        seconds, computed = time.perf_counter() - start, time.process_time() - computed
    return samples / seconds, computed / seconds, loader.collate_fn(batch)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads[0])
        torch.set_num_threads(threads[1])


def _measure_model(cfg: Config, batch: Any, size: int, device: str) -> float:
    preprocessor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    # that of a segmentor crops or pads to a size
    model = trial.build_model(cfg, preprocessor.get('size') or trial.SIZE).to(device)

    def step():
        with torch.autocast(device, torch.float16, enabled=_is_mixed(cfg, device)):
            loss = trial.training_loss(model, batch)
        model.zero_grad()
        loss.backward()
        if device == 'cuda':
            torch.cuda.synchronize()

    return size / _time(step)


def _time(step: Callable, least: int = 2, seconds: float = 3) -> float:
    """Give the mean seconds of a step, over some steps and seconds after one to warm up."""
    step()
    done, start = 0, time.perf_counter()
    while done < least or time.perf_counter() - start < seconds:
        step()
        done += 1
    return (time.perf_counter() - start) / done


def _is_mixed(cfg, device):
    return device == 'cuda' and cfg.optim_wrapper.get('type') == 'AmpOptimWrapper'


def _name(device):
    if device == 'cpu':
        return f'the CPU (threads: {torch.get_num_threads()})'
    return torch.cuda.get_device_name() if device == 'cuda' else device


def _measure_turbojpeg(cfg: Config, samples: int, size: int) -> list[str]:
    """Measure the pipeline with the other JPEG decoder of mmcv, where that is installed."""
    steps = [
        where.removesuffix('.type')
        for where, value in walk(cfg.train_dataloader, 'train_dataloader')
        if where.endswith('.type') and str(value).split('.')[-1] == 'LoadImageFromFile'
    ]
    if not steps or importlib.util.find_spec('turbojpeg') is None:
        return []
    before = mmcv.image.io.imread_backend
    mmcv.use_backend('turbojpeg')  # mmcv opens the library in this call only
    mmcv.use_backend(before)
    other = copy.deepcopy(cfg)
    other.merge_from_dict({f'{step}.imdecode_backend': 'turbojpeg' for step in steps})
    speed, *_ = _measure_data(other, samples, size)
    return [
        f'data decoded by PyTurboJPEG: {speed:.3g} images/s in one process; to use it call '
        "mmcv.use_backend('turbojpeg') in a module of custom_imports, and set "
        + ' '.join(f'{step}.imdecode_backend=turbojpeg' for step in steps)
    ]
