"""Measure how fast and how lean a model runs, by itself or against timm's of the same weights.

python benchmarks/benchmark.py --arch coat_small --size 512 --mode train --peer timm --json out.json
python benchmarks/benchmark.py --suite     the project's table against timm, into docs/benchmarks
python benchmarks/benchmark.py --sweep     time and memory over the number of pixels, 224 to 1344
python benchmarks/benchmark.py --table     only table and plot, of the records in docs/benchmarks

docs/benchmarks.md says what is measured and how to read it.
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import measure
import torch
from records import (
    SUITES,
    TWO_IMAGES,
    Form,
    Row,
    Work,
    import_pyplot,
    list_figures,
    load,
    save,
    write_plot,
    write_table,
)
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch._subclasses import FakeTensorMode
from torch.func import functional_call
from tqdm import tqdm  # comes with huggingface_hub, which requirements/runtime.txt names

from mmvitx.checkpoints import CheckpointError, fitting
from mmvitx.checkpoints.official import convert_official
from mmvitx.engine import cli
from mmvitx.engine.files import check_folder
from mmvitx.engine.measure import difference
from mmvitx.errors import UserError, first_line
from mmvitx.models import backbones
from mmvitx.models.flops import multiply_adds
from mmvitx.models.names import FAMILIES, find_model

NUM_CLASSES = 1000
DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}
TOLERANCE = 1e-4  # of the outputs' difference over the standard deviation, as for parity
MIN_SECONDS = 0.1  # a measurement shorter than that is of several calls
MIN_PAIRS = 9
SWEEP = (224, 320, 448, 576, 768, 1024, 1344)
OUT_DIR = Path('docs/benchmarks')  # below the current folder


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


class Projected(nn.Module):
    """A backbone and a 1x1 convolution of each of its maps, as detectors have it behind theirs.

    Images (B, 3, H, W) to maps of 64 channels.
    """

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.convs = nn.ModuleList(nn.Conv2d(dim, 64, 1) for dim in backbone.out_channels)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(conv(x) for conv, x in zip(self.convs, self.backbone(images)))


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
    family, of_family, size = find_model(arch)
    settings = {} if family is backbones.CoaT else dict(img_size=img_size or size)
    torch.manual_seed(0)
    try:
        model = family(of_family, out_type=out_type, drop_path_rate=0.0, **settings)
    except ValueError as error:
        raise UserError(f'{arch} cannot be built for images of {img_size} px: {error}') from error
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
        raise UserError(f'timm cannot build {names[0]} for {size}: {first_line(error)}') from error
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
                f'{first_line(error)}'
            ) from error
    shapes = [[tuple(result.shape) for result in each] for each in results]
    if shapes[0] != shapes[1]:
        raise UserError(f'ours puts out {shapes[0]}, the peer {shapes[1]}: nothing to compare')
    worst = difference(*results)
    if worst > TOLERANCE:
        raise UserError(
            f'outputs or gradients of ours and of the peer differ by {worst:.1e} of '
            f'their standard deviation, more than {TOLERANCE}: two functions are not timed against '
            'each other'
        )
    return worst


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
        works = [work]
        if row.peer == TWO_IMAGES:
            works.append(work._replace(batch=2))
        elif row.peer is not None:
            works.append(work._replace(size=(row.peer, row.peer)))
        img_size = work.size[0] if row.peer is None and work.size[0] == work.size[1] else None
        model = _build_once(work.arch, out_type, img_size)
        if row.peer == TWO_IMAGES:
            model = Projected(model)
        subjects = [Subject(model, *each) for each in zip(works, form[1:])]
    return subjects, dict(
        row.describe(),
        output=out_type,
        compiled=form.compiled,
        peer_compiled=form.peer_compiled if row.peer else None,
        difference=difference,
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
    before = measure.matmul_rates(work.device, DTYPES[work.dtype])
    turns = []
    for seconds in measure.take_turns([subject.measure_time for subject in subjects], pairs):
        turns.append(seconds)
        if progress is not None:
            progress.update()
    after = measure.matmul_rates(work.device, DTYPES[work.dtype])
    rates = {name: max(rate, after[name]) for name, rate in before.items()}

    record.update(pairs=pairs, time_ratio=None, time_ratio_quartiles=None, memory_ratio=None)
    for prefix, subject, seconds in zip(('', 'peer_'), subjects, zip(*turns)):
        low, median, high = measure.quartiles(seconds)
        macs = subject.multiply_adds * (3 if work.mode == 'train' else 1)
        figures = dict(
            time_s=median,
            time_quartiles_s=[low, high],
            memory_bytes=subject.peak_memory(),
            images_per_s=subject.work.batch / median,
            gmacs=macs / 1e9,
            share_of_matmul_rate=macs / median / max(rates.values()),
            **subject.graphs,
        )
        record.update({prefix + name: figure for name, figure in figures.items()})
    if len(subjects) == 2:
        # of a pixel, where the two differ in size or in number of images
        pixels = work.pixels / subjects[1].work.pixels
        low, median, high = measure.quartiles([ours / peer / pixels for ours, peer in turns])
        memory = record['memory_bytes'] / record['peer_memory_bytes'] / pixels
        record.update(time_ratio=median, time_ratio_quartiles=[low, high], memory_ratio=memory)
    packages = ('mmvitx', 'timm') if row.peer == 'timm' else ('mmvitx',)
    environment = measure.describe_environment(*packages)
    record['matmul_gmacs_per_s'] = {name: rate / 1e9 for name, rate in rates.items()}
    return dict(record, environment=environment)


# The commands. -----------------------------------------------------------------------------------


def run_rows(
    rows: Sequence[Row], form: Form, pairs: int, files: Sequence[tuple[Path, bool]]
) -> tuple[list[dict], list[str]]:
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
        name = row.name
        with tqdm(total=pairs, unit='pair', desc=f'{i}/{len(rows)} {name}, {form}') as progress:
            try:
                if isinstance(row.peer, str) and True in form:
                    torch.compiler.reset()  # what was compiled for another row
                records.append(measure_row(row, form, pairs, progress))
            except Exception as error:
                if len(rows) == 1:
                    raise
                failed.append(name)
                progress.write(f'{name}: {first_line(error)}', file=sys.stderr)
                continue
        for path, merge in files:
            save(records, path, merge)
    return records, failed


def run_suite(
    args: argparse.Namespace, form: Form, files: Sequence[tuple[Path, bool]]
) -> tuple[list[dict], list[str]]:
    """Measure the rows of the table; returns as :func:`run_rows`."""
    rows = [
        row._replace(work=row.work._replace(dtype=form.dtype, device=args.device))
        for row in SUITES[args.device]
        if args.arch in (None, row.work.arch)
    ]
    if not rows:
        raise UserError(f'the suite has no row of {args.arch}')
    if any(row.peer == 'timm' for row in rows):
        import_timm()
    sweeps = [row for row in rows if isinstance(row.peer, int)]
    records, failed = run_rows([row for row in rows if row not in sweeps], form, args.pairs, files)
    for row in sweeps:  # in a process each, which has the thresholds from the start
        words = ['--sweep', '--arch', row.work.arch, '--mode', row.work.mode]
        words += ['--dtype', form.dtype, '--pairs', str(args.pairs)]
        words += ['--out-dir', str(args.out_dir)] + ['--compile'] * form.compiled
        done = subprocess.run(
            [sys.executable, __file__, *words], env={**os.environ, **measure.THRESHOLDS}
        )
        if done.returncode:
            failed.append(row.name)
        else:
            sweep = form._replace(peer_compiled=form.compiled)
            records += load(args.out_dir / _file_name(row.work, sweep, sweep=True))
            for path, merge in files[1:]:
                save(records, path, merge)
    return records, failed


def _file_name(work, form, sweep):
    form = str(form).replace(' ', '_')
    what = f'sweep_{work.arch}_{work.mode}' + '_dense' * work.dense if sweep else 'suite'
    return f'{what}_{work.device}_{form}.json'


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
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
        args.size = cli.read_size(args.size or [find_model(args.arch).size])
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
    args = parse_args(argv)
    form = Form(args.dtype, args.compile, args.compile if args.sweep else args.compile_peer)
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
        check_folder(args.out_dir, '--out-dir')
        import_pyplot()
        for path in args.out_dir.glob('*.json'):
            load(path)
    for path in paths:
        if path.is_dir():
            raise UserError(f'{path} is a folder: name a file with --json')
        check_folder(path.parent, '--json')


if __name__ == '__main__':
    cli.run(main)
