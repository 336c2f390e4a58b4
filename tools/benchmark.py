"""Measure how fast and how lean a model runs, by itself or against timm's of the same weights.

python tools/benchmark.py --arch coat_small --size 512 --mode train --peer timm --json out.json
python tools/benchmark.py --suite     the project's table against timm, into docs/benchmarks
python tools/benchmark.py --sweep     time and memory over the number of pixels, 224 to 1344
python tools/benchmark.py --table     only table and plot, of the records that lie in docs/benchmarks

docs/benchmarks.md says what is measured and how to read it.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch._subclasses import FakeTensorMode
from torch.func import functional_call
from tqdm import tqdm  # comes with huggingface_hub, which requirements/runtime.txt names

from mmvitx.checkpoints import CheckpointError, fitting
from mmvitx.checkpoints.official import convert_official
from mmvitx.engine import launch, measure
from mmvitx.errors import UserError
from mmvitx.models import backbones
from mmvitx.models.flops import multiply_adds
from mmvitx.models.names import FAMILIES, find_model

NUM_CLASSES = 1000
DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}
TOLERANCE = 1e-4  # of the outputs' difference over the standard deviation, as for parity
MIN_SECONDS = 0.1  # a measurement shorter than that is of several calls
MIN_PAIRS = 9
SWEEP = (224, 320, 448, 576, 768, 1024, 1344)
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
    """A work, what it is compared with, and the targets of the ratios.

    Attributes:
        work: The work.
        peer: ``timm``, the side of smaller images for the same model, or None.
        time: Target of the ratio of times.
        memory: Target of the ratio of memory.
    """

    work: Work
    peer: str | int | None = None
    time: float | None = None
    memory: float | None = None


class Form(NamedTuple):
    """How models are run: a column of the table."""

    dtype: str = 'float32'
    compiled: bool = False
    peer_compiled: bool = False

    def __str__(self) -> str:
        forms = ['compiled' if compiled else 'eager' for compiled in self[1:]]
        return f'{self.dtype} ' + (forms[0] if len({*forms}) == 1 else ' over '.join(forms))


def _row(arch, batch, size, mode, time=None, memory=None, dense=False, peer='timm'):
    size = (size, size) if isinstance(size, int) else size
    return Row(Work(arch, size, batch, mode, dense=dense), peer, time, memory)


SUITES = {
    'cpu': (
        _row('coat_small', 1, 512, 'infer', 0.80, 0.7),
        _row('coat_small', 1, 512, 'train', 0.80, 0.7),
        _row('coat_lite_small', 8, 224, 'train', 0.85, 0.7),
        _row('cait_s24', 1, 384, 'infer', 0.60, 0.5),
        _row('cait_s24', 1, 384, 'train', 0.60, 0.4),
        _row('cait_s24', 1, 576, 'train', 0.50, 0.25, dense=True),
        _row('crossvit_18', 8, 240, 'train', 0.95, 0.9),
        # the last of a sweep each, which runs with the allocator's thresholds
        _row('coat_lite_small', 1, 1344, 'infer', 1.15, 1.1, peer=224),
        _row('coat_lite_small', 1, 1344, 'train', 1.15, 1.1, peer=224),
    ),
    'cuda': (
        _row('coat_small', 64, 224, 'infer'),
        _row('coat_small', 64, 224, 'train', 0.5),
        _row('coat_lite_small', 64, 224, 'train'),
        _row('cait_s24', 64, 224, 'train'),
        _row('crossvit_18', 64, 240, 'train'),
        _row('coat_small', 2, (800, 1344), 'infer', None, 0.6, dense=True),
        _row('coat_small', 2, (800, 1344), 'train', None, 0.6, dense=True),
    ),
}
# The columns that a table has even where nothing is measured; the first has the targets.
FORMS = {
    'cpu': (Form(), Form(compiled=True, peer_compiled=True), Form('bfloat16')),
    'cuda': (Form('bfloat16'), Form('bfloat16', True), Form('bfloat16', True, True)),
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


def build_ours(arch: str, out_type: str, img_size: int | None = None) -> nn.Module:
    """Build our model, a classifier if ``out_type`` is ``cls_token``.

    Args:
        arch: Family and architecture, as ``coat_small``.
        out_type: The backbone's.
        img_size: Side of the images that position embeddings, if any, are made for.

    Raises:
        UserError: There is no such model, or not of that size.
    """
    family, arch, size = find_model(arch)
    settings = {} if family is backbones.CoaT else dict(img_size=img_size or size)
    torch.manual_seed(0)
    try:
        model = family(arch, out_type=out_type, drop_path_rate=0.0, **settings)
    except ValueError as error:
        raise UserError(f'{arch} cannot be built for {img_size} px: {error}') from error
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
    family, arch, _ = find_model(work.arch)
    timm = import_timm()
    names = [
        name
        for name in timm.list_models(f'{work.arch}*')
        if name == work.arch or name.removeprefix(f'{work.arch}_').isdigit()
    ]
    if not names:
        raise UserError(f'timm has no model {work.arch}')
    coat = family is backbones.CoaT
    out_type = ('featmap' if coat else 'raw') if work.dense else 'cls_token'
    settings = {}
    if coat and work.dense:
        maps = [f'x{scale}_nocls' for scale in range(1, 5)]
        settings = dict(return_interm_layers=True, out_features=maps)
    height, width = work.size
    size = height if height == width else work.size
    torch.manual_seed(0)
    try:
        theirs = timm.create_model(  # of names that differ in their size the first does
            names[0], pretrained=False, num_classes=NUM_CLASSES, img_size=size, **settings
        )
    except Exception as error:  # whatever it raises at a size that it was not made for
        raise UserError(f'timm cannot build {names[0]} for {size}: {_first_line(error)}') from error
    randomize(theirs)

    # position embeddings of the images' own size, as timm's: nothing to resize
    ours = build_ours(work.arch, out_type, size if height == width else None)
    try:
        fit = fitting.fit(convert_official(theirs.state_dict()).state_dict, ours, f"timm's {arch}")
    except (CheckpointError, ValueError) as error:
        raise UserError(f"timm's {names[0]} for {size} is another model: {error}") from error
    if fit.missing:
        raise UserError(f"timm's {names[0]} for {size} is another model: {fit.report(ours)}")
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


def import_timm():
    """Import timm.

    Raises:
        UserError: It is not installed.
    """
    try:
        import timm
    except ImportError:
        raise UserError('to compare with timm it has to be installed: pip install timm') from None
    return timm


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


def compare(ours: nn.Module, theirs: nn.Module, image: Tensor) -> float:
    """Compare outputs in float32; of models in training also the gradients of the image.

    Args:
        ours: Our model.
        theirs: The other.
        image: Image (1, 3, H, W).

    Returns:
        The largest difference over the standard deviation.

    Raises:
        UserError: It is larger than rounding explains, or the shapes differ: these are two
            functions.
    """
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        results = [_answer(ours, image)]
        try:
            results.append(_answer(theirs, image))
        except Exception as error:  # a size that it can be built for and not run with
            raise UserError(
                f'the peer does not run with images of {tuple(image.shape[2:])}: '
                f'{_first_line(error)}'
            ) from error
    shapes = [[tuple(result.shape) for result in each] for each in results]
    if shapes[0] != shapes[1]:
        raise UserError(f'ours puts out {shapes[0]}, the peer {shapes[1]}: nothing to compare')
    differences = [((a - b).abs().max() / b.std()).item() for a, b in zip(*results)]
    if not all(difference <= TOLERANCE for difference in differences):  # nan neither
        raise UserError(
            f'outputs or gradients of ours and of the peer differ by {max(differences):.1e} of '
            f'their standard deviation, more than {TOLERANCE}: two functions are not timed against '
            'each other'
        )
    return max(differences)


def _answer(model, image):
    image = image.clone().requires_grad_(model.training)
    with torch.set_grad_enabled(model.training):
        outputs = _as_tuple(model(image))
    if not model.training:
        return outputs
    _loss(outputs).backward()
    model.zero_grad()
    return *(output.detach() for output in outputs), image.grad


def _loss(outputs):
    return sum(output.float().square().mean() for output in outputs)


def _as_tuple(output):
    return (output,) if isinstance(output, Tensor) else tuple(output)


def _first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


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
        self.model = model.to(work.device).train(work.mode == 'train')
        generator = torch.Generator().manual_seed(1)
        images = torch.randn(work.batch, 3, *work.size, generator=generator)
        self.images = images.to(work.device)
        self.multiply_adds = count(self.model, self.images)
        self.compiled = compiled
        self.forward = torch.compile(self.model) if compiled else self.model
        self.calls = 1  # of a measurement of the time
        self.graphs = {}  # what compilation made

    def run(self) -> tuple[Tensor, ...]:
        """Run the forward pass; in training also loss and backward pass, without an optimizer."""
        train = self.work.mode == 'train'
        dtype = DTYPES[self.work.dtype]
        autocast = torch.autocast(self.work.device, dtype, enabled=dtype != torch.float32)
        with nullcontext() if train else torch.no_grad():
            with autocast:
                outputs = _as_tuple(self.forward(self.images))
            if train:
                _loss(outputs).backward()
                for parameter in self.model.parameters():
                    parameter.grad = None
        return tuple(output.detach() for output in outputs)

    def warm_up(self) -> None:
        """Run until nothing is done for the first time, and choose the calls of a measurement.

        Raises:
            UserError: What it puts out is not finite.
        """
        before = _compilations()
        for _ in range(2):
            outputs = self.run()
        if self.compiled:
            self.graphs = {name: n - before[name] for name, n in _compilations().items()}
        if not all(output.isfinite().all() for output in outputs):
            raise UserError(
                f'{self.work.arch} puts out what is not finite in {self.work.dtype}: '
                'nothing to be measured'
            )
        del outputs
        self.calls = max(1, math.ceil(MIN_SECONDS / self.measure_time()))

    def measure_time(self) -> float:
        """Give the seconds of a call."""
        return measure.measure_time(self.run, self.work.device, self.calls)

    def peak_memory(self) -> int:
        """Give the peak of live tensors in bytes over what lives since the model was built."""
        self.model.train(self.model.training)  # forgets what was kept since, to be counted too
        return measure.peak_memory(self.run, self.work.device)


def _compilations():
    return dict(
        graphs=counters['stats']['unique_graphs'],
        graph_breaks=sum(counters['graph_break'].values()),
    )


def count(model: nn.Module, images: Tensor) -> int:
    """Count the multiply-adds of a forward pass, by shapes alone."""
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        tensors = [*model.named_parameters(), *model.named_buffers()]
        state = {name: fake.from_tensor(tensor) for name, tensor in tensors}
        images = fake.from_tensor(images)
        # each tensor once: of modules with several names, as CoaT's encodings in timm, it would
        # put the fakes back in place of the parameters
        return multiply_adds(lambda: functional_call(model, state, images, tie_weights=False))


def prepare(row: Row, form: Form) -> tuple[list[Subject], dict]:
    """Build what a row compares.

    Returns:
        Ours, and the peer if there is one; and what the record says of them.

    Raises:
        UserError: A model cannot be built, or timm's computes something else.
    """
    work = row.work
    out_type = 'featmap' if work.dense else 'cls_token'
    difference = None
    if row.peer == 'timm':
        ours, theirs, out_type = build_pair(work)
        subjects = [Subject(ours, work, form.compiled), Subject(theirs, work, form.peer_compiled)]
        difference = compare(ours, theirs, subjects[0].images[:1])  # the very ones that are timed
    else:
        sides = [work.size] + [(row.peer, row.peer)] * (row.peer is not None)
        img_size = work.size[0] if row.peer is None and work.size[0] == work.size[1] else None
        model = _build_once(work.arch, out_type, img_size)
        subjects = [Subject(model, work._replace(size=size), form.compiled) for size in sides]
    return subjects, dict(
        output=out_type,
        compiled=form.compiled,
        peer=f'itself at {row.peer}' if isinstance(row.peer, int) else row.peer,
        peer_compiled=form.peer_compiled if row.peer else None,
        difference=difference,
        time_target=row.time,
        memory_target=row.memory,
    )


# the sizes of a sweep are of one model, which is compiled for them as a detector's would be
_build_once = functools.lru_cache(maxsize=1)(build_ours)


def measure_row(row: Row, form: Form, pairs: int, progress: tqdm | None = None) -> dict:
    """Measure a row.

    Args:
        row: What to measure.
        form: How the models are run.
        pairs: How many times the two are timed in turn.
        progress: To be moved on by one a pair.

    Returns:
        A record: see docs/benchmarks.md.

    Raises:
        UserError: See :func:`prepare`.
    """
    work = row.work
    subjects, record = prepare(row, form)
    for subject in subjects:
        subject.warm_up()
    rate = measure.matmul_rate(work.device, DTYPES[work.dtype])
    turns = []
    for seconds in measure.take_turns([subject.measure_time for subject in subjects], pairs):
        turns.append(seconds)
        if progress is not None:
            progress.update()
    rate = max(rate, measure.matmul_rate(work.device, DTYPES[work.dtype]))

    height, width = work.size
    record = dict(work._asdict(), size=height if height == width else [height, width], **record)
    record.update(pairs=pairs, time_ratio=None, time_ratio_quartiles=None, memory_ratio=None)
    for prefix, subject, seconds in zip(('', 'peer_'), subjects, zip(*turns)):
        low, median, high = measure.quartiles(seconds)
        macs = subject.multiply_adds * (3 if work.mode == 'train' else 1)
        figures = dict(
            time_s=median,
            time_quartiles_s=[low, high],
            memory_bytes=subject.peak_memory(),
            images_per_s=work.batch / median,
            gmacs=macs / 1e9,
            share_of_matmul_rate=macs / median / rate,
            **subject.graphs,
        )
        record.update({prefix + name: figure for name, figure in figures.items()})
    if len(subjects) == 2:
        # of a pixel, where the two differ in size
        pixels = math.prod(work.size) / math.prod(subjects[1].work.size)
        low, median, high = measure.quartiles([ours / peer / pixels for ours, peer in turns])
        memory = record['memory_bytes'] / record['peer_memory_bytes'] / pixels
        record.update(time_ratio=median, time_ratio_quartiles=[low, high], memory_ratio=memory)
    packages = ('mmvitx', 'timm') if row.peer == 'timm' else ('mmvitx',)
    environment = measure.describe_environment(*packages)
    return dict(record, matmul_gmacs_per_s=rate / 1e9, environment=environment)


# What is written. --------------------------------------------------------------------------------


def name_work(record: dict) -> str:
    """Name the work of a record, as ``coat_small 1x512x512 train``."""
    size = record['size']
    height, width = (size, size) if isinstance(size, int) else size
    dense = ' dense' if record['dense'] else ''
    over = f', {record["peer"]}' if record['peer'] not in (None, 'timm') else ''
    return f'{record["arch"]}{dense} {record["batch"]}x{height}x{width} {record["mode"]}{over}'


def name_row(row: Row) -> str:
    """Name the work of a row as :func:`name_work` does."""
    peer = f'itself at {row.peer}' if isinstance(row.peer, int) else row.peer
    return name_work(dict(row.work._asdict(), peer=peer))


def is_met(record: dict) -> bool | None:
    """Whether the medians lie under target plus interquartile range; None without a target."""
    time_target, memory_target = record['time_target'], record['memory_target']
    if time_target is None and memory_target is None:
        return None
    low, high = record['time_ratio_quartiles']
    return (time_target is None or record['time_ratio'] <= time_target + high - low) and (
        memory_target is None or record['memory_ratio'] <= memory_target
    )


def save(records: Sequence[dict], path: Path, merge: bool) -> None:
    """Write records as JSON.

    Args:
        records: The records.
        path: The file.
        merge: Whether records of other works that lie there are kept.

    Raises:
        UserError: The file cannot be read or written.
    """
    if merge and path.exists():
        names = {name_work(record) for record in records}
        records = [r for r in load(path) if name_work(r) not in names] + list(records)
    unfinished = path.with_name(path.name + '.part')
    try:
        unfinished.write_text(json.dumps(records, indent=1) + '\n')
        unfinished.replace(path)
    except OSError as error:
        raise UserError(f'{path} cannot be written ({error.strerror})') from error


def load(path: Path) -> list[dict]:
    """Read what :func:`save` wrote.

    Raises:
        UserError: These are no records.
    """
    try:
        records = json.loads(path.read_text())
        for record in records:
            name_work(record), Form(*map(record.get, Form._fields)), record['time_target']
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f'{path} does not hold records of tools/benchmark.py ({_first_line(error)}): '
            'mend or remove it'
        ) from error
    return records


def load_columns(folder: Path, device: str) -> dict[Form, dict[str, dict]]:
    """Read all records of a device that lie in a folder, by form and work.

    A growth counts only if it was measured with the allocator's thresholds set.
    """
    columns = {form: {} for form in FORMS[device]}
    for path in sorted(folder.glob('*.json')):
        for record in load(path):
            allocator = record['environment']['allocator'].items()
            grown = str(record['peer']).startswith('itself')
            if record['device'] != device or (
                grown and not measure.THRESHOLDS.items() <= allocator
            ):
                continue
            form = Form(record['dtype'], record['compiled'], bool(record['peer_compiled']))
            columns.setdefault(form, {})[name_work(record)] = record
    return columns


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def list_figures(records: Sequence[dict]) -> str:
    """Write a table of the absolute figures; where two stand in a cell, ours comes first."""
    head = ['work', 'over', 'time, s', 'ratio', 'memory, MiB', 'ratio', 'images/s']
    head += ['share of the matrix-product rate', 'met']

    def both(record, name, form):
        figures = [record.get(prefix + name) for prefix in ('', 'peer_')]
        return ' / '.join(form.format(figure) for figure in figures if figure is not None)

    rows = []
    for r in records:
        r = {**r, **{f'{p}mib': r[f'{p}memory_bytes'] / 2**20 for p in _prefixes(r)}}
        time, memory = _ratios(r)
        rows.append(
            [
                name_work(r),
                r['peer'] or '',
                both(r, 'time_s', '{:.4f}'),
                time,
                both(r, 'mib', '{:.1f}'),
                memory,
                both(r, 'images_per_s', '{:.1f}'),
                both(r, 'share_of_matmul_rate', '{:.0%}'),
                {None: '', True: 'yes', False: 'no'}[is_met(r)],
            ]
        )
    return markdown(head, rows)


def _prefixes(record):
    return ('', 'peer_') if record['peer'] else ('',)


def _ratios(record):
    """Write the ratios, that of times with its quartiles."""
    if not record or record['time_ratio'] is None:
        return '', ''
    low, high = record['time_ratio_quartiles']
    return f'{record["time_ratio"]:.3f} ({low:.3f} to {high:.3f})', f'{record["memory_ratio"]:.3f}'


def write_table(folder: Path) -> None:
    """Write ``table.md`` of all records that lie in a folder: a row a work, a column a form."""
    text = ['# Time and memory, ours over the peer', '', __doc__.split('\n')[0], '']
    text += ['Written by `tools/benchmark.py` from the records beside it; lower is better.', '']
    figures = []
    for device, suite in SUITES.items():
        columns = load_columns(folder, device)
        head = ['work']
        for i, form in enumerate(columns):
            head += [f'{form}: time', *['target'] * (not i), 'memory', *['target', 'met'] * (not i)]
        rows = []
        for row in suite:
            cells = [name_row(row)]
            for i, records in enumerate(columns.values()):
                record = records.get(name_row(row))
                time, memory = _ratios(record)
                if i:
                    cells += [time, memory]
                else:
                    met = is_met({**record, **_targets(row)}) if record else None
                    cells += [time, str(row.time or ''), memory, str(row.memory or '')]
                    cells += [{None: '', True: 'yes', False: 'no'}[met]]
            rows.append(cells)
        text += [f'## {"CPU" if device == "cpu" else "GPU"}', '']
        if not any(columns.values()):
            text += ['Nothing was measured.', '']
        text += [markdown(head, rows), '']
        for form, records in columns.items():
            if records:
                figures += [f'### {device}, {form}', '', list_figures([*records.values()]), '']
                figures += sorted({_describe(record) for record in records.values()}) + ['']
    if (folder / 'plot.png').exists():
        text += ['![Ratios, and growth with the pixels](plot.png)', '']
    text += ['## The figures behind it', '', *figures]
    (folder / 'table.md').write_text('\n'.join(text).rstrip() + '\n')


def _targets(row):
    return dict(time_target=row.time, memory_target=row.memory)


def _describe(record):
    e = record['environment']
    versions = ', '.join(f'{name} {version}' for name, version in e['versions'].items())
    settings = ' '.join(f'{name}={value}' for name, value in e['allocator'].items())
    return (
        f'- {e["machine"]}; threads: {e["threads"]}; {versions}; {e["malloc"]} {settings}'.strip()
    )


def import_pyplot():
    """Import matplotlib.

    Raises:
        UserError: It is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise UserError('the plot needs matplotlib: pip install matplotlib') from None
    matplotlib.use('Agg')  # files only, so that it runs where there is no display
    import matplotlib.pyplot as plt

    return plt


def write_plot(folder: Path) -> None:
    """Draw ``plot.png`` of all records that lie in a folder.

    Above the ratios of the suites' works to timm, a bar a form, with the targets; below time and
    memory of the sweeps.
    """
    plt = import_pyplot()
    bars = {}  # work -> its row, and records by form
    for device, suite in SUITES.items():
        columns = load_columns(folder, device)
        for row in suite:
            found = {form: records.get(name_row(row)) for form, records in columns.items()}
            if any(found.values()):
                bars[f'{device}: {name_row(row)}'] = row, {f: r for f, r in found.items() if r}
    forms = [*dict.fromkeys(form for _, records in bars.values() for form in records)]
    sweeps = {}  # name -> records
    for path in sorted(folder.glob('sweep_*.json')):
        for record in load(path):
            if record['peer']:
                sweeps.setdefault(path.stem.removeprefix('sweep_'), []).append(record)

    figure, panels = plt.subplots(2, 2, figsize=(13, 6 + 0.5 * len(bars)), layout='constrained')
    for panel, name in zip(panels[0], ('time', 'memory')):
        for i, (row, records) in enumerate(bars.values()):
            for form, record in records.items():
                place = forms.index(form)
                at = i + (place - (len(forms) - 1) / 2) * 0.8 / len(forms)
                panel.barh(at, record[f'{name}_ratio'], 0.7 / len(forms), color=f'C{place}')
                if name == 'time':
                    panel.hlines(at, *record['time_ratio_quartiles'], color='black')
            if (target := getattr(row, name)) is not None:
                panel.vlines(target, i - 0.45, i + 0.45, color='red')
        for place, form in enumerate(forms):
            panel.barh([], [], color=f'C{place}', label=str(form))
        panel.axvline(1, color='gray', linestyle=':')
        panel.set_title(f'{name}, ours over the peer (red: target of the first form)')
        panel.set_yticks(range(len(bars)), bars if name == 'time' else [''] * len(bars))
        panel.invert_yaxis()
    if forms:
        panels[0][1].legend()
    units = {'time_s': ('time, s', 1), 'memory_bytes': ('peak memory, MiB', 2**20)}
    for panel, (key, (name, unit)) in zip(panels[1], units.items()):
        for i, (label, records) in enumerate(sweeps.items()):
            records = sorted(records, key=lambda record: record['size'])
            pixels = [record['batch'] * record['size'] ** 2 / 1e6 for record in records]
            values = [record[key] / unit for record in records]
            panel.loglog(pixels, values, marker='o', color=f'C{i}', label=label)
            line = [values[0] * p / pixels[0] for p in pixels]
            panel.loglog(pixels, line, linestyle=':', color=f'C{i}')
        panel.set(title=f'{name} (dotted: proportional to pixels)', xlabel='megapixels')
        panel.grid(alpha=0.3)
        if sweeps:
            panel.legend()
    figure.savefig(folder / 'plot.png', dpi=120)
    plt.close(figure)


# The commands. -----------------------------------------------------------------------------------


def run_rows(rows: Sequence[Row], form: Form, pairs: int, files: Sequence[tuple[Path, bool]]):
    """Measure rows and write what is measured after each, so that nothing is lost by a later one.

    Args:
        rows: What to measure.
        form: How the models are run.
        pairs: How many times the two of a row are timed in turn.
        files: Where to write, and whether to keep what else lies there.

    Returns:
        The records, and the names of the rows that failed; a single row raises instead.
    """
    records, failed = [], []
    for i, row in enumerate(rows, 1):
        name = name_row(row)
        with tqdm(total=pairs, unit='pair', desc=f'{i}/{len(rows)} {name}, {form}') as progress:
            try:
                if row.peer == 'timm' and form.compiled:
                    torch.compiler.reset()  # what was compiled for another row
                records.append(measure_row(row, form, pairs, progress))
            except Exception as error:
                if len(rows) == 1:
                    raise
                failed.append(name)
                progress.write(f'{name}: {_first_line(error)}', file=sys.stderr)
                continue
        for path, merge in files:
            save(records, path, merge)
    return records, failed


def run_suite(args: argparse.Namespace, form: Form, files: Sequence[tuple[Path, bool]]):
    """Measure the rows of the table; returns as :func:`run_rows`."""
    rows = [
        row._replace(work=row.work._replace(dtype=form.dtype, device=args.device))
        for row in SUITES[args.device]
        if args.arch in (None, row.work.arch)
    ]
    if not rows:
        raise UserError(f'the suite has no row of {args.arch}')
    records, failed = [], []
    timm_rows = [row for row in rows if row.peer == 'timm']
    if timm_rows:
        import_timm()
        records, failed = run_rows(timm_rows, form, args.pairs, files)
    for row in rows:
        if row.peer != 'timm':  # in a process of its own, which has the thresholds from the start
            words = ['--sweep', '--arch', row.work.arch, '--mode', row.work.mode]
            words += ['--dtype', form.dtype, '--pairs', str(args.pairs)]
            words += ['--out-dir', str(args.out_dir)] + ['--compile'] * form.compiled
            done = subprocess.run(
                [sys.executable, __file__, *words], env={**os.environ, **measure.THRESHOLDS}
            )
            if done.returncode:
                failed.append(name_row(row))
            else:
                records += load(args.out_dir / _file_name(row.work, form, sweep=True))
                for path, merge in files[1:]:
                    save(records, path, merge)
    return records, failed


def _file_name(work, form, sweep):
    form = str(form).replace(' ', '_')
    what = f'sweep_{work.arch}_{work.mode}' + '_dense' * work.dense if sweep else 'suite'
    return f'{what}_{work.device}_{form}.json'


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments.

    Raises:
        UserError: In one sentence, what is wrong with them.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--suite', action='store_true', help='the rows of the table, or of --arch')
    what.add_argument('--sweep', action='store_true', help='ours at growing sizes')
    what.add_argument('--table', action='store_true', help='table and plot of what was measured')
    names = ', '.join(f'{prefix}*' for prefix in FAMILIES)
    parser.add_argument('--arch', help=f'full name: {names}')
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
    parser.add_argument('--out-dir', type=Path, default=OUT_DIR, help='of suite, sweep and table')
    args = parser.parse_args(argv)
    many = args.suite or args.table
    if args.arch is None and not many:
        if not args.sweep:
            raise UserError('name a model with --arch, or ask for --suite, --sweep or --table')
        args.arch = 'coat_lite_small'
    if not many:
        args.size = launch.read_size(args.size or [find_model(args.arch).size])
    for option in ('sizes', 'batch', 'pairs'):
        value = getattr(args, option)
        if min(value if isinstance(value, Sequence) else [value]) < 1:
            raise UserError(f'--{option} must be positive, not {value}')
    if (args.peer or args.suite or args.sweep) and args.pairs < MIN_PAIRS:
        raise UserError(f'--pairs must be at least {MIN_PAIRS} for a comparison, not {args.pairs}')
    if args.sweep and (args.peer or args.compile_peer):
        raise UserError('--sweep is of ours alone: leave --peer and --compile-peer out')
    if args.compile_peer and not (args.peer or args.suite):
        raise UserError('--compile-peer needs --peer timm')
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda: torch sees no GPU here')
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table and write what was asked for."""
    args = parse(argv)
    form = Form(args.dtype, args.compile, args.compile or args.compile_peer)
    if not args.sweep:
        form = form._replace(peer_compiled=args.compile_peer)
    work = Work(args.arch, args.size, args.batch, args.mode, args.dtype, args.device, args.dense)
    files = []
    if args.suite or args.sweep:
        files.append((args.out_dir / _file_name(work, form, args.sweep), True))
    if args.json:
        files.append((args.json, False))
    _check_files([path for path, _ in files], args)
    if args.table:
        draw(args.out_dir)
        return

    failed = []
    try:
        if args.suite:
            records, failed = run_suite(args, form, files)
        elif args.sweep:
            rows = [Row(work._replace(size=(s, s)), args.sizes[0]) for s in args.sizes]
            records, failed = run_rows(rows, form, args.pairs, files)
        else:
            records, failed = run_rows([Row(work, args.peer)], form, args.pairs, files)
    finally:
        if args.suite or args.sweep:
            draw(args.out_dir)
    print(list_figures(records))
    if failed:
        raise UserError(f'not measured: {"; ".join(failed)}; the others are written')


def draw(folder: Path) -> None:
    """Write table and plot of the records that lie in a folder."""
    write_plot(folder)
    write_table(folder)
    print(f'{folder}: table.md and plot.png of {len([*folder.glob("*.json")])} files of records')


def _check_files(paths, args):
    """See before the work that what is to be written can be."""
    if args.suite or args.sweep or args.table:
        launch.check_writable(args.out_dir, '--out-dir')
        import_pyplot()
    for path in paths:
        if path.is_dir():
            raise UserError(f'{path} is a folder: name a file with --json')
        launch.check_writable(path.parent, '--json')


if __name__ == '__main__':
    launch.run(main)
