"""Show what a run reached: its last metrics, its curves and some pictures, of whatever task.

It reads what mmengine logged into WORK_DIR and the pictures that `tools/test.py --show-dir` drew.
Of several runs it compares the metrics over time.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mmvitx.engine import cli
from mmvitx.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADLINES = ('mAP', 'mIoU', 'top1')  # how the names of the metrics end that are plotted
NOT_METRICS = ('step', 'time', 'data_time')


def import_pyplot():
    import matplotlib

    matplotlib.use('Agg')  # files only, so that it runs where there is no display
    import matplotlib.pyplot as plt

    return plt


def save(figure: Figure, path: Path) -> None:
    from mmvitx.engine.files import unfinished  # it imports PyTorch, so last

    with unfinished(path) as part:
        figure.savefig(part, dpi=120)
    import_pyplot().close(figure)


def read_curves(work_dir: Path) -> tuple[dict[int, float], dict[str, dict[int, float]]]:
    """Read the loss and the metrics of a training, resumed or not.

    Args:
        work_dir: Folder of the training.

    Returns:
        The loss by iteration, and for each metric its value by iteration; both empty if no training
        was logged there.
    """
    logs = sorted(work_dir.glob('*/vis_data/scalars.json'))  # the folders are named by time
    loss, metrics = {}, {}
    for log in logs:
        iteration = 0
        records = _read_records(log, 'step')
        has_losses = any('loss' in record for record in records)
        for record in records:
            if 'loss' in record:
                # where a run was resumed, the later one counts from there on
                if not iteration:
                    _drop_from(record['step'], loss, *metrics.values())
                iteration = record['step']
                loss[iteration] = record['loss']
            elif iteration or not has_losses:
                # an evaluation's own step is the epoch in a training by epochs; in one by
                # iterations it can lie behind the last loss that was logged
                at = max(iteration, record['step'])
                for name, value in _metrics(record).items():
                    metrics.setdefault(name, {})[at] = value
    return loss, metrics


def read_test(work_dir: Path) -> dict[str, float]:
    """Read the metrics of the last `tools/test.py --work-dir WORK_DIR`; empty if there was none."""
    results = sorted(path for path in work_dir.glob('*/*.json') if path.stem == path.parent.name)
    for path in reversed(results):
        for record in _read_records(path):
            return _metrics(record)
    return {}


def _read_records(path: Path, *keys: str) -> list[dict]:
    """Read the lines of a log, and warn of those that are no JSON or lack a key, as cut-off ones.

    Args:
        path: The log, with a JSON object a line.
        *keys: What each line must have; their values and the loss must be numbers.
    """
    try:
        lines = path.read_text(errors='replace').splitlines()
    except OSError as e:
        print(f'warning: {path} cannot be read ({e.strerror})', file=sys.stderr)
        return []
    records = []
    for line in lines:
        with suppress(json.JSONDecodeError, TypeError):  # the latter of what is no object
            record = json.loads(line)
            values = {'loss': 0, **record}
            if all(isinstance(values.get(key), (int, float)) for key in ('loss', *keys)):
                records.append(record)
    if len(records) < len(lines):
        bad = len(lines) - len(records)
        print(f'warning: {path} has {bad} bad lines of {len(lines)}', file=sys.stderr)
    return records


def _metrics(record: dict) -> dict[str, float]:
    return {
        name: value
        for name, value in record.items()
        if name not in NOT_METRICS and isinstance(value, (int, float))
    }


def _drop_from(iteration: int, *curves: dict[int, float]) -> None:
    for curve in curves:
        for later in [key for key in curve if key >= iteration]:
            del curve[later]


def table(metrics: dict[str, float]) -> str:
    """Write one line a metric; a dash for -1, COCO's word for nothing to measure."""
    width = max(map(len, metrics))
    return '\n'.join(
        f'{name:{width}}  {"-" if value == -1 else f"{value:.3f}":>7}'
        for name, value in metrics.items()
    )


def plot_curves(loss: dict[int, float], metrics: dict[str, dict[int, float]], path: Path) -> None:
    """Plot the loss and, beside it, the metrics in HEADLINES (all, if none of those is there)."""
    plt = import_pyplot()
    chosen = {name: curve for name, curve in metrics.items() if name.endswith(HEADLINES)} or metrics
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout='constrained')
    left.plot(list(loss), list(loss.values()))
    left.set(title='training loss', xlabel='iteration', ylim=(0, None))
    for name, curve in chosen.items():
        right.plot(list(curve), list(curve.values()), marker='o', label=name)
    right.set(title='on unseen data', xlabel='iteration', ylim=(0, None))
    if loss:
        right.set(xlim=left.get_xlim())
    if chosen:
        right.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    save(figure, path)


def join_pictures(folder: Path, path: Path, count: int = 8) -> None:
    """Put some of the pictures that the host's visualizer drew into one.

    Args:
        folder: Folder with the pictures, at any depth.
        path: File to write.
        count: How many; they are taken evenly over the sorted names.

    Raises:
        UserError: There are no pictures.
    """
    plt = import_pyplot()
    pictures = sorted(p for p in folder.rglob('*') if p.suffix in ('.png', '.jpg'))
    if not pictures:
        raise UserError(
            f'{folder} holds no pictures; draw some with tools/test.py --show-dir {folder}'
        )
    pictures = pictures[:: max(len(pictures) // count, 1)][:count]
    rows = (len(pictures) + 1) // 2
    figure, axes = plt.subplots(
        rows, 2, figsize=(12, 3.1 * rows), layout='constrained', squeeze=False
    )
    for picture in axes.flat:
        picture.axis('off')
    for picture, file in zip(axes.flat, pictures):
        picture.imshow(plt.imread(file), interpolation='nearest')
        picture.set_title(file.stem, fontsize=8)
    figure.suptitle('truth and prediction (where they are side by side: truth on the left)')
    save(figure, path)


def compare(work_dirs: list[Path]) -> None:
    """Print the metrics in HEADLINES against iterations, a row a run, and plot them."""
    plt = import_pyplot()
    runs = dict(zip(_own_names(work_dirs), (read_curves(folder)[1] for folder in work_dirs)))
    names = {name: None for curves in runs.values() for name in curves if name.endswith(HEADLINES)}
    if not names:
        raise UserError(f'no evaluation was logged in {", ".join(map(str, work_dirs))}')
    width = max(map(len, runs))
    figure, axes = plt.subplots(
        1, len(names), figsize=(5 * len(names), 4), layout='constrained', squeeze=False
    )
    for name, panel in zip(names, axes.flat):
        iterations = sorted({i for curves in runs.values() for i in curves.get(name, ())})
        print(f'{name:{width}}', *(f'{i:>7}' for i in iterations))
        for run, curves in runs.items():
            curve = curves.get(name, {})
            values = (f'{curve[i]:.3f}' if i in curve else '' for i in iterations)
            print(f'{run:{width}}', *(f'{value:>7}' for value in values))
            panel.plot(list(curve), list(curve.values()), marker='o', label=run)
        panel.set(title=name, xlabel='iteration', xlim=(0, None), ylim=(0, None))
        panel.grid(alpha=0.3)
        panel.legend()
    path = work_dirs[-1] / 'comparison.png'
    save(figure, path)
    print(f'metrics over time: {path}')


def _own_names(work_dirs):
    """Leave out of the folders' names what all begin with."""
    names = [folder.name.split('_') for folder in work_dirs]
    while min(map(len, names)) > 1 and len({first for first, *_ in names}) == 1:
        names = [rest for _, *rest in names]
    names = ['_'.join(name) for name in names]
    if len(set(names)) == len(names) and all(names):
        return names
    return [str(folder.resolve()) for folder in work_dirs]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'work_dirs', type=Path, nargs='+', metavar='WORK_DIR', help='folder of a training'
    )
    parser.add_argument('--show-dir', type=Path, help='the --show-dir of tools/test.py, of one run')
    args = parser.parse_args(argv)
    if len(args.work_dirs) > 1 and args.show_dir:
        parser.error('--show-dir is of one run')
    return args


def main(argv: list[str] | None = None) -> None:
    """Print the table and write curves.png and, with --show-dir, predictions.png."""
    args = parse_args(argv)
    if len(args.work_dirs) > 1:
        compare(args.work_dirs)
        return

    (work_dir,) = args.work_dirs
    loss, curves = read_curves(work_dir)
    metrics = read_test(work_dir) or {
        name: curve[max(curve)] for name, curve in curves.items() if curve
    }
    if not (loss or metrics):
        raise UserError(
            f'{work_dir} holds no log of a training that can be read (*/vis_data/scalars.json); '
            'give the --work-dir of tools/train.py'
        )
    if not loss:
        print(f'warning: no losses were logged in {work_dir}', file=sys.stderr)
    if metrics:
        print(table(metrics))
    plot_curves(loss, curves, work_dir / 'curves.png')
    print(f'loss and metrics over time: {work_dir / "curves.png"}')
    if args.show_dir:
        join_pictures(args.show_dir, work_dir / 'predictions.png')
        print(f'predictions beside the truth: {work_dir / "predictions.png"}')


if __name__ == '__main__':
    cli.run(main)
