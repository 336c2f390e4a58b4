"""Measuring time and memory of a call, and on what that was."""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch.autograd.profiler import profile

from mmvitx.models.layers.linear import available_libraries, choose_library, compute

# Blocks up to 1 GiB from the heap, which is never given back: no page faults once it is warm.
THRESHOLDS = {'MALLOC_MMAP_THRESHOLD_': str(2**30), 'MALLOC_TRIM_THRESHOLD_': str(2**40)}
ALLOCATOR_VARIABLES = (
    *THRESHOLDS,
    'MALLOC_TOP_PAD_',
    'MALLOC_ARENA_MAX',
    'GLIBC_TUNABLES',
    'LD_PRELOAD',
    'PYTORCH_ALLOC_CONF',
    'PYTORCH_CUDA_ALLOC_CONF',
)


def measure_time(run: Callable[[], object], device: str, calls: int = 1) -> float:
    """Give the seconds of a call, the mean of several.

    Args:
        run: What to call.
        device: ``cpu`` or ``cuda``, which is waited for.
        calls: How many are measured together.
    """
    _synchronize(device)
    collects = gc.isenabled()
    gc.disable()  # it would strike some calls and not others
    try:
        start = time.perf_counter()
        for _ in range(calls):
            run()
        _synchronize(device)
        return (time.perf_counter() - start) / calls
    finally:
        if collects:
            gc.enable()


def take_turns(timers: Sequence[Callable[[], float]], turns: int) -> Iterator[list[float]]:
    """Time several things in turn, every other time from the last to the first.

    Yields:
        After each turn the seconds of each.
    """
    gc.collect()
    for turn in range(turns):
        seconds = [0.0] * len(timers)
        order = range(len(timers))
        for i in order if turn % 2 == 0 else reversed(order):
            seconds[i] = timers[i]()
        yield seconds


def peak_memory(run: Callable[[], object], device: str) -> int:
    """Give the peak of a call's live tensors in bytes, over what is there before it.

    On the CPU it is summed from the allocator's events, so what is only reserved does not count,
    nor does what a library allocates past PyTorch's allocator. The call should free nothing that
    was there before it: that would not be seen.
    """
    gc.collect()
    if device == 'cpu':
        return _peak_on_cpu(run)
    _synchronize(device)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    _synchronize(device)
    return torch.cuda.max_memory_allocated() - before


def matmul_rates(device: str, dtype: torch.dtype) -> dict[str, float]:
    """Measure the multiply-adds in a second of a large matrix product, the best of a few.

    Returns:
        The rate of ``torch.mm``; on a CPU in float32 those of ``mkl``, which is that, and
        ``onednn``.
    """
    side = 1024 if device == 'cpu' else 8192
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    products = {'torch.mm': partial(torch.mm, a, b)}
    if device == 'cpu' and dtype == torch.float32:
        products = {name: partial(compute, name, a, b) for name in available_libraries()}
    seconds = {name: [] for name in products}
    for _ in range(6):
        for name, product in products.items():
            seconds[name].append(measure_time(product, device))
        if sum(map(sum, seconds.values())) > 2:  # seconds each where a CPU has no such product
            break
    return {name: side**3 / min(each) for name, each in seconds.items()}


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Give the first quartile, the median and the third."""
    if len(values) == 1:
        return (values[0],) * 3
    return tuple(statistics.quantiles(values, n=4, method='inclusive'))


def describe_environment(*packages: str) -> dict:
    """Tell machine, threads, library of linear layers, versions and the allocator's settings."""
    modules = {name: __import__(name) for name in ('torch', *packages)}
    return dict(
        machine=_machine(),
        threads=torch.get_num_threads(),
        linear=choose_library(),
        versions={name: module.__version__ for name, module in modules.items()},
        malloc=_malloc(),
        allocator={name: os.environ[name] for name in ALLOCATOR_VARIABLES if name in os.environ},
    )


def _synchronize(device):
    if device == 'cuda':
        torch.cuda.synchronize()


def _peak_on_cpu(run):
    # kineto reports as an error that a CUDA build of PyTorch finds no GPU
    os.environ.setdefault('KINETO_LOG_LEVEL', '99')
    with profile(use_cpu=True, use_kineto=True, profile_memory=True) as profiler:
        run()
    events = [e for e in profiler.kineto_results.events() if e.name() == '[memory]']
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def _machine():
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    machine = f'{names[0] if names else platform.machine()}, {os.cpu_count()} CPUs'
    return machine + (f', {torch.cuda.get_device_name()}' if torch.cuda.is_available() else '')


def _malloc():
    """Name the library that allocates."""
    try:
        maps = Path('/proc/self/maps').read_text()
    except OSError:
        return platform.system()
    loaded = [name for name in ('tcmalloc', 'jemalloc', 'mimalloc') if f'lib{name}' in maps]
    return loaded[0] if loaded else ' '.join(platform.libc_ver()).strip() or 'unknown'
