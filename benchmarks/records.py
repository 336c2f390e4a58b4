"""The rows of the benchmark, and its records: JSON, a table and a plot of what was measured."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from measure import THRESHOLDS

from mmvitx.engine.files import unfinished
from mmvitx.errors import UserError

PLOT = 'plot.png'
TWO_IMAGES = 'itself at batch 2'
YES = {None: '', True: 'yes', False: 'no'}


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

    @property
    def pixels(self) -> int:
        """The pixels of all images."""
        return self.batch * math.prod(self.size)


class Row(NamedTuple):
    """A work, what it is compared with, and the targets of the ratios.

    Attributes:
        work: The work.
        peer: ``timm``, or of the same model the side of smaller images or ``TWO_IMAGES``, or None.
        time: Target of the ratio of times.
        memory: Target of the ratio of memory.
    """

    work: Work
    peer: str | int | None = None
    time: float | None = None
    memory: float | None = None

    def describe(self) -> dict:
        """Give what a record says of the row; the size of a square is its side."""
        height, width = self.work.size
        return dict(
            self.work._asdict(),
            size=height if height == width else [height, width],
            peer=f'itself at {self.peer}' if isinstance(self.peer, int) else self.peer,
            time_target=self.time,
            memory_target=self.memory,
        )

    @property
    def name(self) -> str:
        """The name of the work, as ``coat_small 1x512x512 train``."""
        return name_work(self.describe())


class Form(NamedTuple):
    """How models are run: a column of the table."""

    dtype: str = 'float32'
    compiled: bool = False
    peer_compiled: bool = False

    @classmethod
    def of(cls, record: dict) -> Form:
        """Give the form of what was measured."""
        return cls(record['dtype'], record['compiled'], bool(record['peer_compiled']))

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
        # an image, over one of two: a map's gradient has another layout in a batch of one
        _row('coat_lite_small', 1, 512, 'train', 1.25, dense=True, peer=TWO_IMAGES),
        _row('coat_small', 1, 384, 'train', 1.25, dense=True, peer=TWO_IMAGES),
        _row('cait_xxs24', 1, 512, 'train', 1.25, dense=True, peer=TWO_IMAGES),
        _row('crossvit_9', 1, 480, 'train', 1.25, dense=True, peer=TWO_IMAGES),
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


# Records. ----------------------------------------------------------------------------------------


def name_work(record: dict) -> str:
    """Name the work of a record: see :attr:`Row.name`."""
    size = record['size']
    height, width = (size, size) if isinstance(size, int) else size
    dense = ' dense' if record['dense'] else ''
    over = f', {record["peer"]}' if record['peer'] not in (None, 'timm') else ''
    return f'{record["arch"]}{dense} {record["batch"]}x{height}x{width} {record["mode"]}{over}'


def is_met(record: dict) -> bool | None:
    """Whether the medians lie under target plus interquartile range; None without a target.

    Memory has no spread: it is the same each time. Targets are for the first form of a device.
    """
    time_target, memory_target = record['time_target'], record['memory_target']
    if not _has_targets(record) or (time_target is None and memory_target is None):
        return None
    low, high = record['time_ratio_quartiles']
    return (time_target is None or record['time_ratio'] <= time_target + high - low) and (
        memory_target is None or record['memory_ratio'] <= memory_target
    )


def _has_targets(record):
    return Form.of(record) == FORMS[record['device']][0]


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
    with unfinished(path) as part:
        part.write_text(json.dumps(records, indent=1) + '\n')


def load(path: Path) -> list[dict]:
    """Read what :func:`save` wrote.

    Raises:
        UserError: These are no records.
    """
    try:
        records = json.loads(path.read_text())
        for record in records:
            name_work(record), Form.of(record), is_met(record), record['environment']['allocator']
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f'{path} holds no records of benchmarks/benchmark.py ({type(error).__name__}: '
            f'{error}): mend or remove it'
        ) from error
    return records


def load_columns(folder: Path, device: str) -> dict[Form, dict[str, dict]]:
    """Read all records of a device that lie in a folder, by form and name of the work.

    A growth counts only if it was measured with the allocator's thresholds set.
    """
    columns = {form: {} for form in FORMS[device]}
    for path in sorted(folder.glob('*.json')):
        for record in load(path):
            allocator = record['environment']['allocator']
            growth = record['peer'] not in (None, 'timm', TWO_IMAGES)
            if record['device'] == device and (
                not growth or allocator.items() >= THRESHOLDS.items()
            ):
                columns.setdefault(Form.of(record), {})[name_work(record)] = record
    return columns


# The table. --------------------------------------------------------------------------------------


def list_figures(records: Sequence[dict]) -> str:
    """Write a table of the absolute figures; where two stand in a cell, ours comes first."""
    head = ['work', 'over', 'time, s', 'ratio', 'memory, MiB', 'ratio', 'images/s']
    head += ['share of the matrix-product rate', 'met']

    def both(record, name, form, unit=1):
        figures = [record.get(prefix + name) for prefix in ('', 'peer_')]
        return ' / '.join(form.format(figure / unit) for figure in figures if figure is not None)

    rows = []
    for record in records:
        time_ratio, memory_ratio = _ratios(record)
        rows.append(
            [
                name_work(record),
                record['peer'] or '',
                both(record, 'time_s', '{:.4f}'),
                time_ratio,
                both(record, 'memory_bytes', '{:.1f}', 2**20),
                memory_ratio,
                both(record, 'images_per_s', '{:.1f}'),
                both(record, 'share_of_matmul_rate', '{:.0%}'),
                YES[is_met(record)],
            ]
        )
    return _markdown(head, rows)


def write_table(folder: Path) -> None:
    """Write ``table.md`` of all records that lie in a folder: a row a work, a column a form."""
    text = ['# Time and memory, ours over the peer', '']
    text += ['Medians with quartiles; lower is better. Written by `benchmarks/benchmark.py`.', '']
    figures = []
    for device, suite in SUITES.items():
        columns = load_columns(folder, device)
        head = ['work']
        for i, form in enumerate(columns):
            names = [f'{form}: time', 'target', 'memory', 'target', 'met']
            head += names if i == 0 else names[:3:2]
        rows = []
        for row in suite:
            cells = [row.name]
            for i, records in enumerate(columns.values()):
                record = records.get(row.name)
                time, memory = _ratios(record)
                targets = dict(time_target=row.time, memory_target=row.memory)
                met = record and is_met({**record, **targets})
                time_target, memory_target = (
                    '' if target is None else str(target) for target in targets.values()
                )
                full = [time, time_target, memory, memory_target, YES[met]]
                cells += full if i == 0 else full[:3:2]
            rows.append(cells)
        text += [f'## {device.upper()}', '', *['Not measured.', ''] * (not any(columns.values()))]
        text += [_markdown(head, rows), '']
        for form, records in columns.items():
            if records:
                figures += [f'### {device.upper()}, {form}', '', list_figures([*records.values()])]
                figures += ['', *sorted({_machine(record) for record in records.values()}), '']
    if (folder / PLOT).exists():
        text += [f'![Ratios, and growth with the pixels]({PLOT})', '']
    text += ['## The figures behind it', '', 'Ours / the peer.', '', *figures] if figures else []
    (folder / 'table.md').write_text('\n'.join(text).rstrip() + '\n')


def _markdown(head, rows):
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _ratios(record):
    """Write the ratios, that of times with its quartiles."""
    if not record or record['time_ratio'] is None:
        return '', ''
    low, high = record['time_ratio_quartiles']
    return f'{record["time_ratio"]:.3f} ({low:.3f} to {high:.3f})', f'{record["memory_ratio"]:.3f}'


def _machine(record):
    environment = record['environment']
    versions = (f'{name} {version}' for name, version in environment['versions'].items())
    settings = (f'{name}={value}' for name, value in environment['allocator'].items())
    threads = f'threads: {environment["threads"]}'
    machine, malloc = environment['machine'], environment['malloc']
    return '- ' + ', '.join((machine, threads, *versions, malloc, *settings))


# The plot. ---------------------------------------------------------------------------------------


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
    """Draw the plot of all records that lie in a folder.

    Above the ratios of the suites' works to timm, a bar a form, with the targets; below time and
    memory of the sweeps.
    """
    plt = import_pyplot()
    bars = {}  # work -> its row, and records by form
    for device, suite in SUITES.items():
        columns = load_columns(folder, device)
        for row in suite:
            found = {form: records.get(row.name) for form, records in columns.items()}
            if any(found.values()):
                bars[f'{device}: {row.name}'] = row, {f: r for f, r in found.items() if r}
    forms = [*dict.fromkeys(form for _, records in bars.values() for form in records)]
    sweeps = {p.stem.removeprefix('sweep_'): load(p) for p in sorted(folder.glob('sweep_*.json'))}

    figure, panels = plt.subplots(2, 2, figsize=(13, 6 + 0.5 * len(bars)), layout='constrained')
    for panel, name in zip(panels[0], ('time', 'memory')):
        for i, (row, records) in enumerate(bars.values()):
            for form, record in records.items():
                place = forms.index(form)
                at = i + (place - (len(forms) - 1) / 2) * 0.8 / len(forms)
                panel.barh(at, record[f'{name}_ratio'], 0.7 / len(forms), color=f'C{place}')
                if name == 'time':
                    panel.hlines(at, *record['time_ratio_quartiles'], color='black')
                target = getattr(row, name)
                if target is not None and _has_targets(record):
                    panel.vlines(target, at - 0.4 / len(forms), at + 0.4 / len(forms), color='red')
        for place, form in enumerate(forms):
            panel.plot([], [], color=f'C{place}', linewidth=8, label=str(form))
        panel.axvline(1, color='gray', linestyle=':')
        panel.set_title(f'{name}, ours over the peer (red: target)')
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
            panel.legend(fontsize='small', loc='lower right')
    figure.savefig(folder / PLOT, dpi=120)
    plt.close(figure)
