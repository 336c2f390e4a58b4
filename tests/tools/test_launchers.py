"""The command lines that the launchers compose, from stubs that print their arguments."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / 'tools'
DIST = dict(nnodes=1, node_rank=0, nproc_per_node=2, master_addr='127.0.0.1', master_port=29500)
MACHINES = dict(NNODES='3', NODE_RANK='1', MASTER_ADDR='10.0.0.1', PORT='1234')
SLURM = ('GPUS', 'GPUS_PER_NODE', 'CPUS_PER_TASK', 'SRUN_ARGS')


@pytest.fixture
def launch(tmp_path):
    """Run a launcher; returns PYTHONPATH and the arguments of what it starts."""
    for name in ('srun', 'stub'):
        (tmp_path / name).write_text('#!/bin/sh\nprintf "%s\\n" "$PYTHONPATH" "$@"\n')
        (tmp_path / name).chmod(0o755)
    ours = {name: value for name, value in os.environ.items() if name not in (*MACHINES, *SLURM)}
    ours.update(PYTHON=str(tmp_path / 'stub'), PATH=f'{tmp_path}:{os.environ["PATH"]}')

    def run(name, *args, **env):
        command = ['bash', str(TOOLS / name), *args]
        env = {**ours, 'PYTHONPATH': '/mine', **env}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


def torchrun(**settings) -> list[str]:
    options = {**DIST, **settings}.items()
    names = [f'--{name.replace("_", "-")}={value}' for name, value in options]
    return [f'{TOOLS}/..:/mine', '-m', 'torch.distributed.run', *names]


@pytest.mark.parametrize('env', [{}, MACHINES], ids=['one machine', 'several'])
def test_dist_launchers(launch, env):
    there = dict(nnodes=3, node_rank=1, master_addr='10.0.0.1', master_port=1234) if env else {}
    assert launch('dist_train.sh', 'a b.py', '2', '--amp', 'x y', **env) == [
        *torchrun(**there),
        *(f'{TOOLS}/train.py', 'a b.py', '--launcher', 'pytorch', '--amp', 'x y'),
    ]
    assert launch('dist_test.sh', 'a.py', 'b.pth', '2', '--tta', **env) == [
        *torchrun(**there),
        *(f'{TOOLS}/test.py', 'a.py', 'b.pth', '--launcher', 'pytorch', '--tta'),
    ]


@pytest.mark.parametrize(
    'env, options',
    [
        ({}, '--ntasks=8 --ntasks-per-node=8 --gres=gpu:8 --cpus-per-task=5 --kill-on-bad-exit=1'),
        (
            dict(GPUS='2', CPUS_PER_TASK='3', SRUN_ARGS='--qos=low --time=1'),
            '--ntasks=2 --ntasks-per-node=2 --gres=gpu:2 --cpus-per-task=3 --kill-on-bad-exit=1 '
            '--qos=low --time=1',
        ),
        (
            dict(GPUS='16', GPUS_PER_NODE='4'),
            '--ntasks=16 --ntasks-per-node=4 --gres=gpu:4 --cpus-per-task=5 --kill-on-bad-exit=1',
        ),
    ],
    ids=['defaults', 'few GPUs', 'several machines'],
)
def test_slurm_launcher(launch, tmp_path, env, options):
    assert launch('slurm_train.sh', 'gpu', 'my job', 'a.py', '--resume', **env) == [
        *(f'{TOOLS}/..:/mine', '--partition=gpu', '--job-name=my job', *options.split()),
        *(f'{tmp_path}/stub', '-u', f'{TOOLS}/train.py', 'a.py'),
        *('--launcher', 'slurm', '--resume'),
    ]


@pytest.mark.parametrize(
    ('name', 'before', 'after'),
    [
        ('dist_train.sh', ['a.py', '2'], ['--amp', '--cfg-options', 'a.b=1', 'c=2']),
        ('dist_test.sh', ['a.py', 'b.pth', '2'], ['--tta', '--cfg-options', 'a.b=1', 'c=2']),
        ('slurm_train.sh', ['gpu', 'job', 'a.py'], ['--resume', '--cfg-options', 'a.b=1', 'c=2']),
    ],
)
def test_the_tool_understands_what_it_is_handed(launch, tool, name, before, after):
    words = launch(name, *before, *after)
    (at,) = (i for i, word in enumerate(words) if word.startswith(f'{TOOLS}/') and '.py' in word)
    args = tool(Path(words[at]).stem).parse_args(words[at + 1 :])
    assert args.config == 'a.py' and args.cfg_options == {'a.b': 1, 'c': 2}
    assert args.launcher == ('slurm' if name == 'slurm_train.sh' else 'pytorch')


@pytest.mark.parametrize('name', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh'])
def test_too_few_arguments(name):
    done = subprocess.run(
        ['bash', str(TOOLS / name), 'a.py'], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and done.stderr.startswith('usage: ')
