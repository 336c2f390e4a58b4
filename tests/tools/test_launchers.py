"""The command lines that the launchers compose, and the signals that they hand on, by stubs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / 'tools'
DIST = dict(nnodes=1, node_rank=0, nproc_per_node=2, master_addr='127.0.0.1', master_port=29500)
MACHINES = dict(NNODES='3', NODE_RANK='1', MASTER_ADDR='10.0.0.1', PORT='1234')
SLURM = ('GPUS', 'GPUS_PER_NODE', 'CPUS_PER_TASK', 'GRES', 'SRUN_ARGS', 'SBATCH_ARGS')
IN_JOB = '--in-job', str(TOOLS), 'gpu', 'my job'
PRINT = '#!/bin/sh\nprintf "%s\\n" "$PYTHONPATH" "$@"\n'
# Stands for torchrun with one process, which prints the signal that it gets.
TORCHRUN = f"""#!{sys.executable}
import signal, subprocess, sys
rank = '''
import signal, sys
signals = {{signal.SIGINT, signal.SIGTERM, signal.SIGUSR1}}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
print('up', flush=True)
print(signal.Signals(signal.sigwait(signals)).name, flush=True)
sys.exit(1)
'''
sys.exit(subprocess.run([sys.executable, '-c', rank]).returncode)
"""
# Stands for srun: prints its last words, and ends with a status or waits for a signal.
SRUN = """#!/bin/bash
echo "${@:(-3)}"
trap 'echo USR1; exit 138' USR1
echo up
while [ -z "$STATUS" ]; do sleep 0.1; done
exit "$STATUS"
"""
SCONTROL = '#!/bin/sh\nif [ "$2" = show ]; then echo "$STATE"; else echo "$@"; fi\n'


@pytest.fixture
def start(tmp_path):
    """Start a launcher with stubs in place of what it calls."""

    def start(name, *args, stubs=(), **env):
        texts = dict.fromkeys(('srun', 'sbatch', 'stub'), PRINT)
        for stub, text in {**texts, **dict(stubs)}.items():
            (tmp_path / stub).write_text(text)
            (tmp_path / stub).chmod(0o755)
        ours = {key: value for key, value in os.environ.items() if key not in (*MACHINES, *SLURM)}
        ours.update(PYTHON=str(tmp_path / 'stub'), PATH=f'{tmp_path}:{os.environ["PATH"]}')
        return subprocess.Popen(
            ['bash', str(TOOLS / name), *args],
            env={**ours, 'PYTHONPATH': '/mine', **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def launch(start):
    """Run a launcher; returns PYTHONPATH and the arguments of what it starts."""

    def launch(*args, **env):
        process = start(*args, **env)
        out, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        return out.splitlines()

    return launch


def ask_to_stop(process: subprocess.Popen, number: int) -> list[str]:
    """Send a signal when a stub says that it is up; returns the lines printed after that."""
    while process.stdout.readline() != 'up\n':
        assert process.poll() is None, process.stderr.read()
    process.send_signal(number)
    return process.communicate(timeout=60)[0].splitlines()


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
        (
            dict(GPUS='2', GRES='none'),
            '--ntasks=2 --ntasks-per-node=2 --gres=none --cpus-per-task=5 --kill-on-bad-exit=1',
        ),
    ],
    ids=['defaults', 'few GPUs', 'several machines', 'no GPUs'],
)
def test_slurm_launcher(launch, tmp_path, env, options):
    assert launch('slurm_train.sh', 'gpu', 'my job', 'a.py', '--resume', **env) == [
        *(f'{TOOLS}/..:/mine', '--partition=gpu', '--job-name=my job', *options.split()),
        *(f'{tmp_path}/stub', '-u', f'{TOOLS}/train.py', 'a.py'),
        *('--launcher', 'slurm', '--resume'),
    ]


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_dist_train_hands_on_signals(start, number):
    process = start('dist_train.sh', 'a.py', '2', stubs=dict(stub=TORCHRUN))
    assert ask_to_stop(process, number) == [number.name]
    assert process.returncode == 128 + number


def test_dist_train_ends_before_there_are_processes(start):
    torchrun = '#!/bin/sh\necho up\nexec tail -f /dev/null\n'
    process = start('dist_train.sh', 'a.py', '2', stubs=dict(stub=torchrun))
    assert ask_to_stop(process, signal.SIGUSR1) == []
    assert process.returncode == 128 + signal.SIGUSR1


def test_dist_train_ends_with_the_status_of_torchrun(start):
    process = start('dist_train.sh', 'a.py', '2', stubs=dict(stub='#!/bin/sh\nexit 3\n'))
    process.communicate(timeout=60)
    assert process.returncode == 3


def test_slurm_batch_submits(launch):
    env = dict(GPUS='16', GPUS_PER_NODE='4', SBATCH_ARGS='--time=1 --signal=B:USR1@300')
    assert launch('slurm_batch.sh', 'gpu', 'my job', 'a b.py', '--amp', **env) == [
        *('/mine', '--partition=gpu', '--job-name=my job'),
        *('--ntasks=16', '--ntasks-per-node=4', '--gres=gpu:4', '--cpus-per-task=5'),
        *('--signal=B:USR1@120', '--requeue', '--open-mode=append'),
        *('--time=1', '--signal=B:USR1@300'),
        *(f'{TOOLS}/slurm_batch.sh', *IN_JOB[:2], 'gpu', 'my job', 'a b.py', '--amp'),
    ]


RUNNING = 'JobState=RUNNING PreemptTime=None'
PREEMPTED = 'JobState=RUNNING PreemptTime=2025-01-01T00:00:00'
CANCELLED = 'JobState=COMPLETING PreemptTime=None'


@pytest.mark.parametrize(
    'number, status, state, requeued',
    [
        (signal.SIGUSR1, 138, RUNNING, True),
        (signal.SIGTERM, 138, RUNNING, True),
        (signal.SIGTERM, 138, CANCELLED, False),
        (None, 143, PREEMPTED, True),
        (None, 143, RUNNING, False),  # one process has failed, and srun has ended the others
        (None, 1, PREEMPTED, False),
        (None, 0, RUNNING, False),
    ],
)
def test_slurm_batch_requeues_what_was_asked_to_stop(start, number, status, state, requeued):
    process = start(
        *('slurm_batch.sh', *IN_JOB, 'a.py', '--amp'),
        stubs=dict(srun=SRUN, scontrol=SCONTROL),
        STATUS='' if number else str(status),
        STATE=state,
        SLURM_JOB_ID='7',
    )
    if number:
        said = ask_to_stop(process, number)
        assert said.pop(0) == 'USR1'
    else:
        words, _, *said = process.communicate(timeout=60)[0].splitlines()
        assert words == 'slurm --resume --amp'
    assert said == ['requeue 7'] * requeued
    assert process.returncode == status


def test_slurm_batch_goes_on_from_its_own_checkpoint_when_it_is_back(launch):
    words = launch(
        *('slurm_batch.sh', *IN_JOB, 'a.py', '--resume', 'b.pth'), SLURM_RESTART_COUNT='1'
    )
    assert words[-4:] == ['--resume', '--resume', 'b.pth', '--resume']


@pytest.mark.parametrize(
    ('name', 'before', 'after'),
    [
        ('dist_train.sh', ['a.py', '2'], ['--amp', '--cfg-options', 'a.b=1', 'c=2']),
        ('dist_test.sh', ['a.py', 'b.pth', '2'], ['--tta', '--cfg-options', 'a.b=1', 'c=2']),
        ('slurm_train.sh', ['gpu', 'job', 'a.py'], ['--resume', '--cfg-options', 'a.b=1', 'c=2']),
        ('slurm_batch.sh', [*IN_JOB, 'a.py'], ['--cfg-options', 'a.b=1', 'c=2']),
    ],
)
def test_the_tool_understands_what_it_is_handed(launch, tool, name, before, after):
    words = launch(name, *before, *after, SLURM_RESTART_COUNT='1')
    (at,) = (i for i, word in enumerate(words) if word.startswith(f'{TOOLS}/') and '.py' in word)
    args = tool(Path(words[at]).stem).parse_args(words[at + 1 :])
    assert args.config == 'a.py' and args.cfg_options == {'a.b': 1, 'c': 2}
    assert args.launcher == ('slurm' if 'slurm' in name else 'pytorch')


@pytest.mark.parametrize(
    'name', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_batch.sh']
)
def test_too_few_arguments(name):
    done = subprocess.run(
        ['bash', str(TOOLS / name), 'a.py'], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and done.stderr.startswith('usage: ')
