"""The demonstration: draw digits, train, test and show, by the tools that anyone uses."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIG = 'configs/demo/mask_rcnn_coat_lite_tiny_digits.py'
CLASSIFIER = 'configs/demo/coat_lite_tiny_digits.py'
SHORT = (  # schedule of the comparison
    'train_cfg.max_iters=300',
    'train_cfg.val_interval=50',
    'param_scheduler.1.end=300',
    'default_hooks.checkpoint.interval=50',
)


def run(tool: str, *args: str) -> None:
    """Run ``tools/<tool>.py`` in the repository and show the command as one would type it."""
    python = os.path.relpath(sys.executable, ROOT)
    python = sys.executable if python.startswith('..') else python
    command = [python, f'tools/{tool}.py', *args]
    print(f'\n$ {" ".join(command)}', flush=True)
    subprocess.run(command, cwd=ROOT, check=True)


def train(config: str, work_dir: str, *options: str) -> str:
    """Train, or go on where a training was interrupted.

    Returns:
        The last checkpoint.
    """
    last = ROOT / work_dir / 'last_checkpoint'  # mmengine's note where the newest one lies
    resume = ['--resume'] if last.exists() else []
    if resume:
        print(f'Going on with what is in {work_dir}; remove that folder to start anew.')
    options = ['--cfg-options', *options] if options else []
    run('train', config, '--work-dir', work_dir, *resume, *options)
    return f'{work_dir}/{Path(last.read_text()).name}'


def show(config: str) -> None:
    """Train, test and show what came out."""
    work_dir = f'work_dirs/{Path(config).stem}'
    show_dir = f'{work_dir}/pictures'
    start = time.monotonic()
    run('make_digits')
    checkpoint = train(config, work_dir)
    trained = time.monotonic()
    run('test', config, checkpoint, '--work-dir', work_dir, '--show-dir', show_dir)
    run('report', work_dir, '--show-dir', show_dir)
    print(
        f'\nTook {time.monotonic() - start:.0f} s, '
        f'{trained - start:.0f} s of them to draw the data and to train.'
    )


def compare(classifier: str, detector: str) -> None:
    """Pretrain a classifier; train a detector from it and from scratch, seed and schedule equal."""
    work_dir = f'work_dirs/{Path(classifier).stem}'
    start = time.monotonic()
    run('make_digits', 'classification')
    checkpoint = train(classifier, work_dir)
    pretrained = time.monotonic()
    run('test', classifier, checkpoint, '--work-dir', work_dir)
    run('make_digits')
    starts = {
        'scratch': [],
        'pretrained': [f'model.backbone.init_cfg.checkpoint={checkpoint}'],
    }
    folders = []
    for name, options in starts.items():
        folders.append(f'work_dirs/{Path(detector).stem}_{name}')
        train(detector, folders[-1], *SHORT, *options)
    run('report', *folders)
    print(
        f'\nTook {time.monotonic() - start:.0f} s, {pretrained - start:.0f} s of them to pretrain.'
    )


def main(argv: list[str] | None = None) -> None:
    """Run the steps; a training that was interrupted goes on from its last checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', nargs='?', default=CONFIG, help='default: %(default)s')
    parser.add_argument(
        '--pretrain',
        nargs='?',
        const=CLASSIFIER,
        metavar='CLASSIFIER',
        help='train this classifier first, and compare a short training of the detector from it '
        'with one from scratch (default: %(const)s)',
    )
    args = parser.parse_args(argv)
    if args.pretrain:
        compare(args.pretrain, args.config)
    else:
        show(args.config)


if __name__ == '__main__':
    # Ctrl-C reaches the running tool as well: that one ends, and says how to go on
    signal.signal(signal.SIGINT, lambda *_: None)
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
