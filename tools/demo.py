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


def run(tool: str, *args: str) -> None:
    """Run ``tools/<tool>.py`` in the repository and show the command as one would type it."""
    python = os.path.relpath(sys.executable, ROOT)
    python = sys.executable if python.startswith('..') else python
    command = [python, f'tools/{tool}.py', *args]
    print(f'\n$ {" ".join(command)}', flush=True)
    subprocess.run(command, cwd=ROOT, check=True)


def main(argv: list[str] | None = None) -> None:
    """Run the steps; a training that was interrupted goes on from its last checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', nargs='?', default=CONFIG, help='default: %(default)s')
    config = parser.parse_args(argv).config
    work_dir = f'work_dirs/{Path(config).stem}'
    show_dir = f'{work_dir}/pictures'

    start = time.monotonic()
    last = ROOT / work_dir / 'last_checkpoint'  # mmengine's note where the newest one lies
    resume = ['--resume'] if last.exists() else []
    if resume:
        print(f'Going on with what is in {work_dir}; remove that folder to start anew.')
    run('make_digits')
    run('train', config, '--work-dir', work_dir, *resume)
    trained = time.monotonic()
    checkpoint = f'{work_dir}/{Path(last.read_text()).name}'
    run('test', config, checkpoint, '--work-dir', work_dir, '--show-dir', show_dir)
    run('report', work_dir, '--show-dir', show_dir)
    print(
        f'\nTook {time.monotonic() - start:.0f} s, '
        f'{trained - start:.0f} s of them to draw the data and to train.'
    )


if __name__ == '__main__':
    # Ctrl-C reaches the running tool as well: that one ends, and says how to go on
    signal.signal(signal.SIGINT, lambda *_: None)
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
