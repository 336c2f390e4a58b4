"""Measure how fast and how lean a model runs, by itself or against timm's of the same weights.

python tools/benchmark.py --arch coat_small --size 512 --mode train --peer timm --json out.json
python tools/benchmark.py --suite     the project's table, into docs/benchmarks
python tools/benchmark.py --sweep     time and memory over the number of pixels, 224 to 1344

docs/benchmarks.md says what the figures mean.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.autograd.profiler import profile
from torch.func import functional_call
from tqdm import tqdm  # comes with huggingface_hub, which requirements/runtime.txt names

import mmvitx
from mmvitx.checkpoints import CheckpointError, fitting
from mmvitx.checkpoints.official import convert_official
from mmvitx.engine import launch
from mmvitx.errors import UserError
from mmvitx.models import backbones
from mmvitx.models.flops import multiply_adds
from mmvitx.models.names import FAMILIES, find_model

NUM_CLASSES = 1000
DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}
TOLERANCE = 1e-4  # of the outputs' difference over the standard deviation, as for parity
MIN_SECONDS = 0.1  # a measurement shorter than that is of several calls
MIN_PAIRS = 9
SWEEP = (224, 320, 448, 640, 896, 1344)
GROWTH_TARGETS = 1.15, 1.1
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
OUT_DIR = Path(__file__).parents[1] / 'docs/benchmarks'


class Work(NamedTuple):
    """What is measured.

    Attributes:
        arch: Family and architecture, as ``coat_small``.
        size: Height and width of the images.
        batch: Number of images.
        mode: ``infer``, or ``train`` for forward, loss and backward.
        dtype: ``float32``, or the type of autocast.
        device: ``cpu`` or ``cuda``.
        dense: Whether maps are put out, not classes.
    """

    arch: str
    size: tuple[int, int]
    batch: int = 1
    mode: str = 'infer'
    dtype: str = 'float32'
    device: str = 'cpu'
    dense: bool = False


class Row(NamedTuple):
    """A row of the suite: the work, and the targets of ours over timm's."""

    work: Work
    time: float | None
    memory: float | None


def _row(arch, batch, size, mode, targets, dense=False):
    size = (size, size) if isinstance(size, int) else size
    return Row(Work(arch, size, batch, mode, dense=dense), *targets)


SUITES = {
    'cpu': (
        _row('coat_small', 1, 512, 'infer', (0.80, 0.7)),
        _row('coat_small', 1, 512, 'train', (0.80, 0.7)),
        _row('coat_lite_small', 8, 224, 'train', (0.85, 0.7)),
        _row('cait_s24', 1, 384, 'infer', (0.60, 0.5)),
        _row('cait_s24', 1, 384, 'train', (0.60, 0.4)),
        _row('cait_s24', 1, 576, 'train', (0.50, 0.25), dense=True),
        _row('crossvit_18', 8, 240, 'train', (0.95, 0.9)),
    ),
    'cuda': (
        _row('coat_small', 64, 224, 'infer', (None, None)),
        _row('coat_small', 64, 224, 'train', (0.5, None)),
        _row('coat_lite_small', 64, 224, 'train', (None, None)),
        _row('cait_s24', 64, 224, 'train', (None, None)),
        _row('crossvit_18', 64, 240, 'train', (None, None)),
        _row('coat_small', 2, (800, 1344), 'infer', (None, 0.6), dense=True),
        _row('coat_small', 2, (800, 1344), 'train', (None, 0.6), dense=True),
    ),
}


# The models. -------------------------------------------------------------------------------------


class Classifier(nn.Module):
    """A backbone and a linear head: images (B, 3, H, W) to logits (B, 1000).

    Its parameters have the names of MMPretrain's ImageClassifier.
    """

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Module()
        self.head.fc = nn.Linear(backbone.out_channels[0], NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        (cls_token,) = self.backbone(images)
        return self.head.fc(cls_token)


class Outputs(nn.Module):
    """timm's model up to the tensors that ours puts out: images to tensors."""

    def __init__(self, model: nn.Module, forward: Callable):
        super().__init__()
        self.model, self.outputs = model, forward

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.outputs(self.model, images))


def build_ours(work: Work, out_type: str) -> nn.Module:
    """Build our model, a classifier if ``out_type`` is ``cls_token``.

    Raises:
        UserError: There is no such model, or not of that size.
    """
    family, arch, _ = find_model(work.arch)
    height, width = work.size
    # position embeddings of the images' own size, if that is square: nothing to resize
    settings = {} if family is backbones.CoaT or height != width else dict(img_size=height)
    try:
        model = family(arch, out_type=out_type, **settings)
    except ValueError as error:
        raise UserError(f'{work.arch} cannot be built for {height}x{width}: {error}') from error
    return Classifier(model) if out_type == 'cls_token' else model


def build_pair(work: Work) -> tuple[nn.Module, nn.Module, str]:
    """Build our model and timm's with the same weights, which are random.

    Returns:
        Both models, and our ``out_type``: without a pyramid in timm's, as in CaiT and CrossViT,
        dense models are compared up to the tokens after the last block that all of it builds on.

    Raises:
        UserError: timm is not there, has no such model or not of that size, or its weights do not
            become all of ours.
    """
    family, *_ = find_model(work.arch)
    try:
        import timm
    except ImportError:
        raise UserError('--peer timm needs timm: pip install timm') from None
    name = _name_in_timm(timm, work.arch)
    coat = family is backbones.CoaT
    out_type = ('featmap' if coat else 'raw') if work.dense else 'cls_token'
    settings = {}
    if coat and work.dense:
        maps = [f'x{scale}_nocls' for scale in range(1, 5)]
        settings = dict(return_interm_layers=True, out_features=maps)
    size = work.size[0] if work.size[0] == work.size[1] else work.size
    try:
        theirs = timm.create_model(
            name, pretrained=False, num_classes=NUM_CLASSES, img_size=size, **settings
        )
    except Exception as error:  # whatever it raises at a size that it was not made for
        raise UserError(f'timm cannot build {name} for {size}: {error}') from error
    randomize(theirs)

    ours = build_ours(work, out_type)
    try:
        fit = fitting.fit(convert_official(theirs.state_dict()).state_dict, ours, f"timm's {name}")
    except CheckpointError as error:
        raise UserError(str(error)) from error
    if fit.missing:
        raise UserError(f"timm's {name} is another model: {fit.report(ours)}")
    ours.load_state_dict(fit.taken, strict=False)

    if coat and work.dense:
        theirs = Outputs(theirs, lambda model, images: model(images).values())
    elif family is backbones.CaiT and work.dense:  # patch tokens after self-attention
        theirs.blocks_token_only, theirs.norm, theirs.head = None, nn.Identity(), nn.Identity()
        theirs = Outputs(theirs, lambda model, images: (model.forward_features(images),))
    elif work.dense:  # tokens of both branches, before the norms
        theirs.norm = nn.ModuleList(nn.Identity() for _ in theirs.norm)
        theirs.head = nn.Identity()
        theirs = Outputs(theirs, lambda model, images: model.forward_features(images))
    return ours, theirs, out_type


def _name_in_timm(timm, arch):
    names = [
        name
        for name in timm.list_models(f'{arch}*')
        if name == arch or name.removeprefix(f'{arch}_').isdigit()
    ]
    if not names:
        raise UserError(f'timm has no model {arch}')
    return names[0]  # their sizes are replaced by that of the images


@torch.no_grad()
def randomize(model: nn.Module) -> None:
    """Make parameters that start as zeros, ones or almost nothing matter to the output."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.split('.')[-1].startswith('gamma'):  # LayerScale
            parameter.copy_(0.3 + 0.1 * noise)
        elif parameter.ndim == 1:
            parameter.add_(0.05 * noise)


@torch.no_grad()
def compare_outputs(ours: nn.Module, theirs: nn.Module, image: Tensor) -> float:
    """Give the largest difference of the outputs over their standard deviation, in float32.

    Raises:
        UserError: It is larger than rounding explains, or the shapes differ: these are two
            functions.
    """
    modes = [model.training for model in (ours, theirs)]
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        pairs = [_as_tuple(model.eval()(image)) for model in (ours, theirs)]
    for model, training in zip((ours, theirs), modes):
        model.train(training)
    shapes = [[tuple(output.shape) for output in outputs] for outputs in pairs]
    if shapes[0] != shapes[1]:
        raise UserError(f'ours puts out {shapes[0]}, the peer {shapes[1]}: nothing to compare')
    differences = [((a - b).abs().max() / b.std()).item() for a, b in zip(*pairs)]
    worst = max(differences)
    if not all(difference <= TOLERANCE for difference in differences):  # nan neither
        raise UserError(
            f'the outputs of ours and of the peer differ by {worst:.1e} of their standard '
            f'deviation, more than {TOLERANCE}: two functions are not timed against each other'
        )
    return worst


def _as_tuple(output):
    return (output,) if isinstance(output, Tensor) else tuple(output)


# The measurements. -------------------------------------------------------------------------------


class Subject:
    """A model with its images, ready to be run as the work says.

    Args:
        model: Maps images to a tensor or several.
        work: What is measured.
        compiled: Whether ``torch.compile`` compiles it.
    """

    def __init__(self, model: nn.Module, work: Work, compiled: bool):
        self.work = work
        self.device = torch.device(work.device)
        self.images = make_images(work)
        self.model = model.to(self.device)
        self.multiply_adds = count_model(self.model, self.images)
        self.model.train(work.mode == 'train')  # forgets what was remembered while counting
        self.forward = torch.compile(self.model) if compiled else self.model
        self.calls = 1  # of a measurement

    def run(self) -> None:
        """Run the forward pass; in training also loss and backward pass, without an optimizer."""
        train = self.work.mode == 'train'
        dtype = DTYPES[self.work.dtype]
        autocast = torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)
        with nullcontext() if train else torch.no_grad():
            with autocast:
                outputs = _as_tuple(self.forward(self.images))
                loss = sum(output.float().square().mean() for output in outputs) if train else None
            if train:
                loss.backward()
                for parameter in self.model.parameters():
                    parameter.grad = None

    def warm_up(self) -> None:
        """Run until nothing is done for the first time, and choose the calls of a measurement."""
        for _ in range(2):
            self.run()
        self.calls = max(1, math.ceil(MIN_SECONDS / self.measure_time()))

    def measure_time(self) -> float:
        """Give the seconds of a call."""
        gc.collect()
        self._synchronize()
        start = time.perf_counter()
        for _ in range(self.calls):
            self.run()
        self._synchronize()
        return (time.perf_counter() - start) / self.calls

    def measure_memory(self) -> int:
        """Give the peak of live tensor bytes of a call, over what is there before it."""
        gc.collect()
        if self.device.type == 'cpu':
            return peak_bytes(self.run)
        self._synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        self.run()
        self._synchronize()
        return torch.cuda.max_memory_allocated() - before

    def _synchronize(self):
        if self.device.type == 'cuda':
            torch.cuda.synchronize()


def make_images(work: Work) -> Tensor:
    """Draw images (B, 3, H, W), the same for all."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(work.batch, 3, *work.size, generator=generator).to(work.device)


def count_model(model: nn.Module, images: Tensor) -> int:
    """Count the multiply-adds of a forward pass, by shapes alone."""
    with FakeTensorMode(allow_non_fake_inputs=True) as fake, torch.no_grad():
        tensors = [*model.named_parameters(), *model.named_buffers()]
        state = {name: fake.from_tensor(tensor.detach()) for name, tensor in tensors}
        images = fake.from_tensor(images)
        # each tensor once: of modules with several names, as CoaT's encodings in timm, it would
        # put the fakes back in place of the parameters
        return multiply_adds(lambda: functional_call(model, state, images, tie_weights=False))


def peak_bytes(run: Callable[[], object]) -> int:
    """Give the peak of what a call allocates on the CPU, less what it frees meanwhile."""
    with profile(use_cpu=True, use_kineto=True, profile_memory=True) as profiler:
        run()
    events = [e for e in profiler.kineto_results.events() if e.name() == '[memory]']
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def matmul_rate(device: str, dtype: str) -> float:
    """Measure how many multiply-adds of a large matrix product the machine does in a second."""
    side = 1024 if device == 'cpu' else 8192
    a, b = (torch.randn(side, side, device=device, dtype=DTYPES[dtype]) for _ in range(2))
    seconds = []
    for _ in range(6):
        if device == 'cuda':
            torch.cuda.synchronize()
        start = time.perf_counter()
        torch.mm(a, b)
        if device == 'cuda':
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return side**3 / min(seconds)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Give the first quartile, the median and the third."""
    if len(values) == 1:
        return (values[0],) * 3
    return tuple(statistics.quantiles(values, n=4, method='inclusive'))


def measure_turns(
    subjects: Sequence[Subject], turns: int, progress: tqdm | None = None
) -> list[list[float]]:
    """Time subjects in turn, each turn in the other order; give the seconds of each."""
    seconds = [[] for _ in subjects]
    for turn in range(turns):
        order = range(len(subjects))
        for i in order if turn % 2 == 0 else reversed(order):
            seconds[i].append(subjects[i].measure_time())
        if progress is not None:
            progress.update()
    return seconds


def measure(
    work: Work,
    peer: bool = False,
    compiled: bool = False,
    peer_compiled: bool = False,
    pairs: int = MIN_PAIRS,
    progress: tqdm | None = None,
) -> dict:
    """Measure one work.

    Args:
        work: What to measure.
        peer: Whether to compare with timm.
        compiled: Whether ours is compiled.
        peer_compiled: Whether timm's is.
        pairs: How many times the two are timed in turn.
        progress: To be moved on by one a pair.

    Returns:
        A record: see docs/benchmarks.md.

    Raises:
        UserError: It cannot be measured, or timm's computes something else.
    """
    torch.manual_seed(0)
    difference = None
    if peer:
        *models, out_type = build_pair(work)
    else:
        out_type = 'featmap' if work.dense else 'cls_token'
        models = [build_ours(work, out_type)]
    subjects = [Subject(model, work, c) for model, c in zip(models, (compiled, peer_compiled))]
    if peer:  # the very models that are timed
        difference = compare_outputs(*(s.model for s in subjects), subjects[0].images[:1])
    for subject in subjects:
        subject.warm_up()
    rate = matmul_rate(work.device, work.dtype)
    seconds = measure_turns(subjects, pairs, progress)
    rate = max(rate, matmul_rate(work.device, work.dtype))
    memory = [subject.measure_memory() for subject in subjects]

    record = describe(work)
    record.update(
        output=out_type,
        compiled=compiled,
        peer='timm' if peer else None,
        peer_compiled=peer_compiled if peer else None,
        difference=difference,
        pairs=pairs,
        time_ratio=None,
        time_ratio_quartiles=None,
        memory_ratio=None,
        matmul_gmacs_per_s=rate / 1e9,
    )
    for prefix, subject, times, peak in zip(('', 'peer_'), subjects, seconds, memory):
        median = statistics.median(times)
        macs = subject.multiply_adds * (3 if work.mode == 'train' else 1)
        figures = dict(
            time_s=median,
            time_quartiles_s=quartiles(times)[::2],
            memory_bytes=peak,
            images_per_s=work.batch / median,
            gmacs=macs / 1e9,
            share_of_matmul_rate=macs / median / rate,
        )
        record.update({prefix + name: figure for name, figure in figures.items()})
    if peer:
        low, median, high = quartiles([a / b for a, b in zip(*seconds)])
        record.update(
            time_ratio=median,
            time_ratio_quartiles=(low, high),
            memory_ratio=memory[0] / memory[1],
        )
    record['environment'] = describe_environment(peer)
    return record


def sweep(
    work: Work,
    sizes: Sequence[int],
    turns: int,
    compiled: bool = False,
    progress: tqdm | None = None,
) -> list[dict]:
    """Measure ours at growing sizes, all in turn.

    Returns:
        A record a size; its ratios are those of the time and memory of a pixel over those at the
        first size.
    """
    works = [work._replace(size=(size, size)) for size in sizes]
    out_type = 'featmap' if work.dense else 'cls_token'
    subjects = []
    for each in works:
        torch.manual_seed(0)
        subjects.append(Subject(build_ours(each, out_type), each, compiled))
        subjects[-1].warm_up()
    seconds = measure_turns(subjects, turns, progress)
    memory = [subject.measure_memory() for subject in subjects]
    records = []
    for each, times, peak in zip(works, seconds, memory):
        pixels = math.prod(each.size) / math.prod(works[0].size)
        low, median, high = quartiles([a / b / pixels for a, b in zip(times, seconds[0])])
        records.append(
            dict(
                describe(each),
                output=out_type,
                compiled=compiled,
                peer=f'ours at {sizes[0]}, a pixel',
                pairs=turns,
                time_ratio=median,
                time_ratio_quartiles=(low, high),
                memory_ratio=peak / memory[0] / pixels,
                time_s=statistics.median(times),
                memory_bytes=peak,
                images_per_s=each.batch / statistics.median(times),
                environment=describe_environment(),
            )
        )
    return records


# What it was measured on. ------------------------------------------------------------------------


def describe(work: Work) -> dict:
    """Give the work as it stands in a record; a square's size is its side."""
    height, width = work.size
    return dict(work._asdict(), size=height if height == width else [height, width])


def describe_environment(peer: bool = False) -> dict:
    """Tell machine, versions and the settings of the allocator."""
    versions = dict(mmvitx=mmvitx.__version__, torch=torch.__version__)
    if peer:
        import timm

        versions['timm'] = timm.__version__
    return dict(
        machine=_machine(),
        threads=torch.get_num_threads(),
        versions=versions,
        allocator={name: os.environ[name] for name in ALLOCATOR_VARIABLES if name in os.environ},
        malloc=_malloc(),
    )


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


# What is written. --------------------------------------------------------------------------------


def is_met(record: dict) -> bool | None:
    """Whether the medians lie under target plus interquartile range; None without a target."""
    time_target, memory_target = record.get('time_target'), record.get('memory_target')
    if time_target is None and memory_target is None:
        return None
    low, high = record['time_ratio_quartiles']
    return (time_target is None or record['time_ratio'] <= time_target + high - low) and (
        memory_target is None or record['memory_ratio'] <= memory_target
    )


def title(record: dict) -> str:
    """Name the work of a record, as ``coat_small 1x512x512 train``."""
    size = record['size']
    height, width = (size, size) if isinstance(size, int) else size
    dense = ' dense' if record['dense'] else ''
    return f'{record["arch"]}{dense} {record["batch"]}x{height}x{width} {record["mode"]}'


def table(records: Sequence[dict]) -> str:
    """Write records as a table in Markdown; where two stand in a cell, ours comes first."""
    head = ('work', 'over', 'time, s', 'time ratio', 'memory, MiB', 'memory ratio')
    head += ('images/s', 'share of matrix-product rate', 'targets', 'met')
    lines = ['| ' + ' | '.join(head) + ' |', '|' + ' --- |' * len(head)]

    def both(record, name, form):
        figures = (record.get(prefix + name) for prefix in ('', 'peer_'))
        return ' / '.join(form(figure) for figure in figures if figure is not None)

    for r in records:
        compared = r['time_ratio'] is not None
        targets = [r.get('time_target'), r.get('memory_target')]
        cells = (
            title(r),
            r['peer'] or '',
            both(r, 'time_s', '{:.4f}'.format),
            '{:.3f} ({:.3f} to {:.3f})'.format(r['time_ratio'], *r['time_ratio_quartiles'])
            if compared
            else '',
            both(r, 'memory_bytes', lambda b: f'{b / 2**20:.1f}'),
            f'{r["memory_ratio"]:.3f}' if compared else '',
            both(r, 'images_per_s', '{:.1f}'.format),
            both(r, 'share_of_matmul_rate', '{:.0%}'.format),
            ' / '.join('-' if t is None else str(t) for t in targets) if any(targets) else '',
            {None: '', True: 'yes', False: 'no'}[is_met(r)],
        )
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def plot_suite(records: Sequence[dict], path: Path) -> None:
    """Plot the ratios of time and memory, a bar a row, with the targets as marks."""
    plt = _pyplot()
    figure, panels = plt.subplots(
        1, 2, figsize=(11, 1 + 0.45 * len(records)), sharey=True, layout='constrained'
    )
    for panel, name in zip(panels, ('time', 'memory')):
        values = [record[f'{name}_ratio'] for record in records]
        panel.barh(range(len(records)), values, color='tab:blue', alpha=0.7)
        for i, record in enumerate(records):
            if name == 'time':
                panel.hlines(i, *record['time_ratio_quartiles'], color='black')
            if (target := record.get(f'{name}_target')) is not None:
                panel.vlines(target, i - 0.4, i + 0.4, color='tab:red')
        panel.axvline(1, color='gray', linestyle=':')
        panel.set(title=f'{name}, ours over the other (red: target)', xlim=(0, None))
        panel.set_yticks(range(len(records)), [title(record) for record in records])
    panels[0].invert_yaxis()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_sweep(records: Sequence[dict], path: Path) -> None:
    """Plot time and memory over the number of pixels, with the line of proportional growth."""
    plt = _pyplot()
    figure, panels = plt.subplots(1, 2, figsize=(10, 4), layout='constrained')
    pixels = [record['batch'] * record['size'] ** 2 / 1e6 for record in records]
    names = {'time_s': ('time, s', 1), 'memory_bytes': ('peak memory, MiB', 2**20)}
    for panel, (key, (name, unit)) in zip(panels, names.items()):
        values = [record[key] / unit for record in records]
        panel.loglog(pixels, values, marker='o', label=records[0]['arch'])
        line = [values[0] * p / pixels[0] for p in pixels]
        panel.loglog(pixels, line, linestyle=':', color='gray', label='proportional to pixels')
        panel.set(title=name, xlabel='megapixels')
        panel.legend()
        panel.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _pyplot():
    try:
        import matplotlib
    except ImportError:
        raise UserError('the plot needs matplotlib: pip install matplotlib') from None
    matplotlib.use('Agg')  # files only, so that it runs where there is no display
    import matplotlib.pyplot as plt

    return plt


def write(records: Sequence[dict], out_dir: Path, name: str, plot: Callable) -> None:
    """Write records as JSON, table and plot."""
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        (out_dir / f'{name}.json').write_text(json.dumps(records, indent=1) + '\n')
        (out_dir / f'{name}.md').write_text(table(records) + '\n')
    except OSError as error:
        raise UserError(f'{out_dir} cannot be written ({error.strerror})') from error
    plot(records, out_dir / f'{name}.png')
    print(f'written: {out_dir / name}.json, .md, .png')


# The commands. -----------------------------------------------------------------------------------


def run_suite(args: argparse.Namespace) -> list[dict]:
    """Measure the rows of the table against timm, and the growth of ours with the pixels."""
    rows = SUITES[args.device]
    records = []
    with tqdm(total=len(rows) * args.pairs, unit='pair') as progress:
        for row in rows:
            work = row.work._replace(dtype=args.dtype, device=args.device)
            progress.set_description(title(describe(work)))
            record = measure(work, True, args.compile, args.compile_peer, args.pairs, progress)
            records.append(dict(record, time_target=row.time, memory_target=row.memory))
    if args.device == 'cpu':
        records.append(grow(args))
    return records


def grow(args: argparse.Namespace) -> dict:
    """Sweep in a process of its own, with the allocator's thresholds set; give the last record."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, 'growth.json')
        words = ['--sweep', '--sizes', str(SWEEP[0]), str(SWEEP[-1]), '--arch', 'coat_lite_small']
        words += ['--dtype', args.dtype, '--pairs', str(args.pairs), '--json', str(out)]
        words += ['--out-dir', folder] + ['--compile'] * args.compile
        environment = {**os.environ, **THRESHOLDS}
        subprocess.run([sys.executable, __file__, *words], env=environment, check=True)
        record = json.loads(out.read_text())[-1]
    time_target, memory_target = GROWTH_TARGETS
    return dict(record, time_target=time_target, memory_target=memory_target)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments.

    Raises:
        UserError: In one sentence, what is wrong with them.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--suite', action='store_true', help="the project's table, against timm")
    what.add_argument('--sweep', action='store_true', help='ours at growing sizes')
    names = ', '.join(f'{prefix}*' for prefix in FAMILIES)
    parser.add_argument('--arch', default='coat_lite_small', help=f'full name: {names}')
    parser.add_argument(
        '--size', type=int, nargs='+', metavar='PIXELS', help="side, or height and width; paper's"
    )
    parser.add_argument('--sizes', type=int, nargs='+', default=SWEEP, help='those of --sweep')
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--mode', choices=('infer', 'train'), default='infer')
    parser.add_argument('--dtype', choices=list(DTYPES), default='float32', help='of autocast')
    parser.add_argument('--device', choices=list(SUITES), default='cpu')
    parser.add_argument('--dense', action='store_true', help='maps or tokens instead of classes')
    parser.add_argument('--compile', action='store_true', help='torch.compile for ours')
    parser.add_argument('--compile-peer', action='store_true', help="torch.compile for the peer's")
    parser.add_argument('--peer', choices=('timm',), help='what to compare with')
    parser.add_argument('--pairs', type=int, default=MIN_PAIRS, help='measurements in turn')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the records')
    parser.add_argument('--out-dir', type=Path, default=OUT_DIR, help='of --suite and --sweep')
    args = parser.parse_args(argv)
    args.size = args.size or [find_model(args.arch).size]
    for option in ('size', 'sizes', 'batch', 'pairs'):
        value = getattr(args, option)
        if min(value if isinstance(value, Sequence) else [value]) < 1:
            raise UserError(f'--{option} must be positive, not {value}')
    if len(args.size) > 2:
        raise UserError(f'--size takes a side, or height and width, not {args.size}')
    if (args.peer or args.suite) and args.pairs < MIN_PAIRS:
        raise UserError(f'--pairs must be at least {MIN_PAIRS} for a comparison, not {args.pairs}')
    if args.sweep and args.peer:
        raise UserError('--sweep is of ours alone: leave --peer out')
    if args.compile_peer and not (args.peer or args.suite):
        raise UserError('--compile-peer needs --peer timm')
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda: torch sees no GPU here')
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table and write what was asked for."""
    args = parse(argv)
    form = 'compiled' if args.compile else 'eager'
    form += '_over_compiled' if args.compile_peer else ''
    size = tuple(args.size * 2)[:2]
    work = Work(args.arch, size, args.batch, args.mode, args.dtype, args.device, args.dense)
    if args.json:
        _check_writable(args.json)
    if args.suite:
        records = run_suite(args)
        write(records, args.out_dir, f'{args.device}_{args.dtype}_{form}', plot_suite)
    elif args.sweep:
        with tqdm(total=args.pairs, unit='round', desc=f'{args.arch}, all sizes') as progress:
            records = sweep(work, args.sizes, args.pairs, args.compile, progress)
        name = f'sweep_{args.arch}_{args.mode}_{args.device}_{args.dtype}_{form}'
        write(records, args.out_dir, name, plot_sweep)
    else:
        peer = args.peer is not None
        with tqdm(total=args.pairs, unit='pair', desc=title(describe(work))) as progress:
            records = [measure(work, peer, args.compile, args.compile_peer, args.pairs, progress)]
    if args.json:
        args.json.write_text(json.dumps(records, indent=1) + '\n')
    print(table(records))


def _check_writable(path):
    try:
        with open(path, 'a'):
            pass
    except OSError as error:
        raise UserError(f'--json {path} cannot be written ({error.strerror})') from error


if __name__ == '__main__':
    launch.run(main)
