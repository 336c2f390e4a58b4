"""Real runs of the tools that are disturbed, resumed and compared, and what came of them."""

from __future__ import annotations

import itertools
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from mmvitx.checkpoints import load_file

ROOT = Path(__file__).parents[2]
MARK = 'MMVITX_RUN'  # a variable by which the processes of a run are found
TRAIN, VAL, SAVE = r'\(train\) *\[', r'\(val\) *\[', 'Saving checkpoint at'
COLUMNS = 'runs', 'as promised', 'equal weights'

COAT = """
model['backbone'] = dict(
    _delete_=True, type='mmvitx.CoaT', drop_path_rate=0.2,
    arch=dict(embed_dims=(32, 64, 96, 128), serial_depths=(1, 1, 1, 1), parallel_depth=0,
              mlp_ratios=(4, 4, 4, 4)),
)
model['neck'].update(in_channels=[32, 64, 96, 128])
train_pipeline.insert(3, dict(type='RandomFlip', prob=0.5))
"""
SGD = """
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
train_pipeline.insert(2, dict(type='RandomFlip', prob=0.5))
train_pipeline.insert(3, dict(type='PhotoMetricDistortion'))
"""
JITTER = """
train_pipeline.insert(1, dict(type='RandomFlip', prob=0.5))
train_pipeline.insert(2, dict(type='ColorJitter', brightness=0.5))
"""
BY_ITERATIONS = """
train_cfg = dict(type='IterBasedTrainLoop', max_iters=12, val_interval=4)
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=False, end=12)]
log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=3, max_keep_ckpts=1),
)
train_dataloader['sampler'] = dict(type='InfiniteSampler', shuffle=True)
"""
BY_EPOCHS = """
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=10, val_interval=2)
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1),
    checkpoint=dict(type='CheckpointHook', by_epoch=True, interval=1, max_keep_ckpts=1),
)
"""
# 12 or 20 iterations of 2 of the 4 images; validations and checkpoints interleave
RECIPES = dict(mmdet=COAT + BY_ITERATIONS, mmseg=SGD + BY_ITERATIONS, mmpretrain=JITTER + BY_EPOCHS)


class Run:
    """A command in a session of its own, as a terminal starts it; ended when the block is left.

    Args:
        words: The command.
        log: Where its output goes.
        env: More variables.
    """

    _numbers = itertools.count()

    def __init__(self, words: list[str], log: Path, **env: str):
        self.log, self.mark = log, f'{MARK}={os.getpid()}.{next(self._numbers)}'.encode()
        ours = {
            'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
            'PYTHONPATH': str(ROOT),
            'OMP_NUM_THREADS': '1',
            MARK: self.mark.decode().partition('=')[2],
        }
        with log.open('wb') as out:
            self.process = subprocess.Popen(
                words,
                env={**os.environ, **ours, **env},
                cwd=ROOT,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *error: object) -> None:
        for pid in self.find_processes():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    @property
    def text(self) -> str:
        return self.log.read_text(errors='replace')

    def wait_for(self, pattern: str, count: int = 1, delay: float = 0.0) -> None:
        """Wait until a pattern is in the output so many times, and some seconds more."""
        end = time.monotonic() + 120
        while len(re.findall(pattern, self.text)) < count:
            assert self.process.poll() is None, f'ended before {pattern}:\n{self.text[-3000:]}'
            assert time.monotonic() < end, f'no {pattern}:\n{self.text[-3000:]}'
            time.sleep(0.003)
        time.sleep(delay)
        assert self.process.poll() is None, f'ended meanwhile:\n{self.text[-3000:]}'

    def send(self, number: int) -> None:
        """Send a signal to the process group: Ctrl-C as a terminal does, SIGKILL like a crash."""
        os.killpg(self.process.pid, number)

    def end(self, expected: int) -> str:
        """Wait for the end, check the exit status, and give the output."""
        status = self.process.wait(timeout=180)
        assert status == expected, f'exit status {status}, not {expected}:\n{self.text[-5000:]}'
        return self.text

    @contextmanager
    def paused(self) -> Iterator[None]:
        self.send(signal.SIGSTOP)
        try:
            yield
        finally:
            self.send(signal.SIGCONT)

    def find_processes(self) -> list[int]:
        """Find what lives of the run, whatever became of the process that was started."""
        found = []
        for folder in Path('/proc').glob('[0-9]*'):
            try:
                alive = folder.joinpath('stat').read_text().rpartition(')')[2].split()[0] != 'Z'
                if alive and self.mark in folder.joinpath('environ').read_bytes().split(b'\0'):
                    found.append(int(folder.name))
            except OSError:
                continue  # it has ended, or is another user's
        return found

    def assert_no_orphans(self) -> None:
        self.process.wait(timeout=60)
        time.sleep(1)
        assert self.find_processes() == []


class Recipe(NamedTuple):
    """What is trained: a config, and with which processes."""

    host: str
    workers: int = 0
    ranks: int = 1


class Moment(NamedTuple):
    """When a training is disturbed: so many seconds after a line has appeared so many times."""

    recipe: Recipe
    line: str
    count: int
    delay: float = 0.0

    def __str__(self):
        kind = {TRAIN: 'train', VAL: 'val', SAVE: 'save'}.get(self.line, self.line)
        name = f'{self.recipe.host}, {self.recipe.workers} workers, {kind} {self.count}'
        return f'{name} + {self.delay:.3f} s' if self.delay else name


class Training:
    """A training in a folder, which is disturbed and resumed.

    Args:
        campaign: Where it belongs to.
        recipe: What is trained.
        folder: An empty folder for its outputs.
        work_dir: Where it runs; ``folder`` has it by default.
    """

    def __init__(
        self, campaign: Campaign, recipe: Recipe, folder: Path, work_dir: Path | None = None
    ):
        self.campaign, self.recipe, self.folder = campaign, recipe, folder
        self.work_dir = work_dir or folder / 'work'
        self._logs = itertools.count()

    def start(self, *args: str) -> Run:
        """Run the tool; with 2 workers by an option, so that the config is the same."""
        recipe = self.recipe
        words = [self.campaign.configs[recipe.host], '--work-dir', str(self.work_dir), *args]
        options = [f'train_dataloader.num_workers={recipe.workers}']
        options += [f'val_dataloader.num_workers={recipe.workers}']
        words += ['--seed', '3', '--cfg-options', *options]
        if recipe.ranks == 1:
            return self.run(['python', 'tools/train.py', *words])
        return self.run(['tools/dist_train.sh', words[0], str(recipe.ranks), *words[1:]])

    def run(self, words: list[str]) -> Run:
        port = str(20000 + os.getpid() % 10000 + next(self.campaign.numbers))
        log = self.folder / f'log{next(self._logs)}.txt'
        return Run(words, log, PYTHON=sys.executable, PORT=port)

    def resume(self, words: list[str] | None = None) -> None:
        """Go on to the end, and see that it ends as an undisturbed run does."""
        with self.run(words) if words else self.start('--resume') as run:
            run.end(0)
        self.assert_equal()

    def assert_equal(self) -> None:
        """See that it ended as an undisturbed run does."""
        assert list(self.work_dir.glob('*unfinished*')) == []
        assert len(list(self.work_dir.glob('*.pth'))) == 1
        expected = self.campaign.train_undisturbed(self.recipe)
        weights = self.load_last()['state_dict']
        assert weights.keys() == expected.keys()
        assert [name for name in weights if not torch.equal(weights[name], expected[name])] == []

    def load_last(self) -> dict:
        return load_file((self.work_dir / 'last_checkpoint').read_text())

    def assert_intact(self, saved: bool) -> None:
        """See that every file under its final name is complete, and the last one is named.

        Args:
            saved: Whether a checkpoint must be there.
        """
        paths = [p for p in self.work_dir.glob('*.pth') if 'unfinished' not in p.name]
        iterations = [load_file(path)['meta']['iter'] for path in paths]
        named = (self.work_dir / 'last_checkpoint').exists()
        assert iterations or not (saved or named)
        if named:
            self.load_last()


def parametrize(cases: list[tuple], default: int) -> pytest.MarkDecorator:
    """Run the first cases of a test by default, and the rest only in the campaign."""
    marks = [() if i < default else pytest.mark.reliability for i in range(len(cases))]
    params = [pytest.param(case, marks=mark) for case, mark in zip(cases, marks)]
    return pytest.mark.parametrize('case', params, ids=lambda case: ', '.join(map(str, case)))


class Disk:
    """A small disk of its own, mounted where that is allowed; a limit of files' sizes elsewhere.

    Args:
        folder: An empty folder, where it is mounted until the block is left.
    """

    def __init__(self, folder: Path):
        self.folder, self.filler = folder, folder / 'filler'
        mount = ['mount', '-t', 'tmpfs', '-o', 'size=64m,nr_inodes=200', 'tmpfs', str(folder)]
        self.mounted = subprocess.run(mount, capture_output=True).returncode == 0
        self.filler.mkdir()

    def __enter__(self) -> Disk:
        return self

    def __exit__(self, *error: object) -> None:
        if self.mounted:
            subprocess.run(['umount', '--lazy', str(self.folder)], check=True)

    def fill(self, run: Run, size: int) -> None:
        """Leave so many bytes to a run; without a mounted disk, to each of its files."""
        if self.mounted:
            disk = os.statvfs(self.folder)
            with self.filler.joinpath('0').open('wb') as file:
                blocks = disk.f_bavail - size // disk.f_frsize
                os.posix_fallocate(file.fileno(), 0, blocks * disk.f_frsize)
        elif size < 2**20:
            pytest.skip('only root can mount a small disk, and the log must fit')
        else:
            resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (size, size))

    def fill_files(self, number: int) -> None:
        """Leave room for so many files, of any size."""
        if not self.mounted:
            pytest.skip('only root can mount a small disk')
        for i in range(os.statvfs(self.folder).f_favail - number):
            self.filler.joinpath(str(i)).touch()

    def make_room(self) -> None:
        shutil.rmtree(self.filler)


class Campaign:
    """The recipes, the weights that undisturbed runs end with, and the counts.

    Args:
        folder: For the undisturbed runs.
        configs: The config of each host, with its recipe.
    """

    def __init__(self, folder: Path, configs: dict[str, str]):
        self.folder, self.configs = folder, configs
        self.numbers = itertools.count()
        self.counts = Counter()  # by what was done to a run and what came of it
        self.verdicts = Counter()  # on the rows of the table of inputs
        self.caught = 0  # kills that left a half-written file, under a name of its own
        self.sizes = {}  # bytes of a checkpoint, by host
        self._weights, self._lock = {}, threading.Lock()

    def train_undisturbed(self, recipe: Recipe) -> dict[str, torch.Tensor]:
        """Give the weights that an undisturbed run ends with; it trains once, without workers."""
        recipe = recipe._replace(workers=0)
        with self._lock:
            if recipe not in self._weights:
                folder = self.folder / f'{recipe.host}{recipe.ranks}'
                folder.mkdir()
                training = Training(self, recipe, folder)
                with training.start() as run:
                    run.end(0)
                self._weights[recipe] = training.load_last()['state_dict']
                (path,) = training.work_dir.glob('*.pth')
                self.sizes[recipe.host] = path.stat().st_size
            return self._weights[recipe]
