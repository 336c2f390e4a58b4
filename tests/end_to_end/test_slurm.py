"""Trainings in two processes on a Slurm that the tests start on this machine."""

from __future__ import annotations

import getpass
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mmvitx.checkpoints import load_file

TOOLS = Path(__file__).parents[2] / 'tools'
PATH = f'{os.environ["PATH"]}:/usr/sbin:/usr/local/sbin'
MISSING = [
    name
    for name in ('munged', 'slurmctld', 'slurmd', 'sbatch')
    if not shutil.which(name, path=PATH)
]
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(MISSING), reason=f'Slurm is not installed: no {", ".join(MISSING)}'),
]

# A requeued job waits until its old credential is not valid any more, by default for 2 minutes.
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=2,bf_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2
PartitionName=low Nodes=ALL PriorityTier=1 GraceTime=60 PreemptMode=CANCEL
PartitionName=high Nodes=ALL PriorityTier=2 PreemptMode=OFF
"""
# Slows down the first start of a job, so that a test can disturb it, or makes a process fail.
HOOK = """
import os
import time

from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class DisturbingHook(Hook):
    def __init__(self, seconds=0, failing=False):
        self.seconds, self.failing = seconds, failing

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if 'SLURM_RESTART_COUNT' not in os.environ:
            time.sleep(self.seconds)
        if self.failing and os.environ['RANK'] == '1' and runner.iter == 3:
            os._exit(1)
"""
SETTINGS = """
train_pipeline.insert(2, dict(type='RandomFlip', prob=0.5))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=60, val_interval=40)
train_dataloader.update(
    batch_size=1, num_workers=1, sampler=dict(type='InfiniteSampler', shuffle=True)
)
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=False, end=60)]
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=25, max_keep_ckpts=1),
    logger=dict(type='LoggerHook', interval=1),
)
custom_imports = dict(imports=['mmvitx', 'disturbing'])
"""


class Cluster:
    """A Slurm of this machine, and the trainings on it.

    Args:
        folder: For the configuration, the state and the logs of the daemons.
        config: Of the trainings.
    """

    def __init__(self, folder: Path, config: str):
        self.folder, self.config, self.daemons = folder, config, []
        self.env = {key: text for key, text in os.environ.items() if key[:5] != 'SLURM'}
        ports = [free_port() for _ in range(3)]
        self.env.update(
            PATH=PATH,
            PYTHON=sys.executable,
            PYTHONPATH=str(folder),
            OMP_NUM_THREADS='1',
            SLURM_CONF=str(folder / 'slurm.conf'),
            MASTER_PORT=str(ports[2]),
            GPUS='2',
            GRES='none',
            CPUS_PER_TASK='1',
        )
        host, user = socket.gethostname().partition('.')[0], getpass.getuser()
        text = CONF.format(host=host, user=user, folder=folder, ports=ports)
        (folder / 'slurm.conf').write_text(text)
        (folder / 'disturbing.py').write_text(HOOK)
        (folder / 'munge.key').write_bytes(secrets.token_bytes(1024))
        (folder / 'munge.key').chmod(0o400)
        for name in ('state', 'spool'):
            (folder / name).mkdir()

    def start(self) -> None:
        files = dict(key='key-file', socket='socket', pid='pid-file', seed='seed-file')
        options = [f'--{option}={self.folder}/munge.{name}' for name, option in files.items()]
        log = f'--log-file={self.folder}/munge.log'
        self._start('munged', '--foreground', '--force', *options, log)
        wait_for(lambda: (self.folder / 'munge.socket').exists())
        self._start('slurmctld', '-D')
        self._start('slurmd', '-D')
        wait_for(lambda: 'idle' in self.ask('sinfo', '--noheader', '--format=%T'))

    def _start(self, name, *args):
        with (self.folder / f'{name}.log').open('w') as log:
            self.daemons.append(
                subprocess.Popen(
                    [name, *args], env=self.env, stdout=log, stderr=log, start_new_session=True
                )
            )

    def stop(self) -> None:
        subprocess.run(['scancel', '--me'], env=self.env, timeout=60)
        wait_for(lambda: not self.ask('squeue', '--noheader'))
        for daemon in reversed(self.daemons):
            daemon.terminate()
            daemon.wait(60)

    def ask(self, *command: str) -> str:
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60)
        return done.stdout

    def train(self, name: str, work_dir: Path, *options: str, **env: str) -> str:
        """Start a training; returns what is printed."""
        done = subprocess.run(
            [str(TOOLS / name), 'low', 'my job', self.config, '--work-dir', str(work_dir)]
            + ['--seed', '3', '--cfg-options', *options],
            cwd=work_dir.parent,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def submit(self, work_dir: Path, seconds: float, *options: str, args: str = '') -> str:
        """Submit a training whose iterations take longer by `seconds`; returns its job's number."""
        hook = f'custom_hooks.0.seconds={seconds}'
        return self.train('slurm_batch.sh', work_dir, hook, *options, SBATCH_ARGS=args).split()[-1]

    def wait_for_training(self, job: str, folder: Path) -> None:
        """Wait until a training has begun."""
        log = folder / f'slurm-{job}.out'
        wait_for(lambda: log.exists() and 'Iter(train) [ 2/60]' in log.read_text(), log)

    def wait_for_end(self, job: str, folder: Path) -> tuple[str, int]:
        """Wait until a job has ended; returns its state, and how often it has been requeued."""
        wait_for(
            lambda: not self.ask('squeue', '--noheader', f'--job={job}', '--states=PD,R,CG'),
            folder / f'slurm-{job}.out',
        )
        shown = self.ask('scontrol', '--oneliner', 'show', 'job', job)
        state, restarts = re.search(r'JobState=(\w+) .* Restarts=(\d+)', shown).groups()
        return state, int(restarts)


def wait_for(condition, log: Path | None = None) -> None:
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end, log and log.read_text()
        time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return free.getsockname()[1]


@pytest.fixture(scope='module')
def cluster(tmp_path_factory, write_config):
    folder = tmp_path_factory.mktemp('slurm')
    hooks = "custom_hooks = [dict(type='DisturbingHook')]\n"
    cluster = Cluster(folder, write_config(folder, 'mmseg', extra=SETTINGS + hooks))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def weights_of(work_dir: Path) -> dict[str, torch.Tensor]:
    return load_file((work_dir / 'last_checkpoint').read_text())['state_dict']


@pytest.fixture(scope='module')
def undisturbed(cluster):
    """The weights with which a training ends that nothing disturbs."""
    work_dir = cluster.folder / 'undisturbed'
    cluster.train('slurm_train.sh', work_dir, 'custom_hooks.0.seconds=0')
    return weights_of(work_dir)


def assert_complete(work_dir: Path, expected: dict[str, torch.Tensor]) -> None:
    found = weights_of(work_dir)
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


def test_a_job_that_is_signalled_ends_with_the_same_weights(cluster, undisturbed, tmp_path):
    job = cluster.submit(tmp_path / 'a b', 0.2)
    cluster.wait_for_training(job, tmp_path)
    cluster.ask('scancel', '--batch', '--signal=USR1', job)
    assert cluster.wait_for_end(job, tmp_path) == ('COMPLETED', 1)
    assert_complete(tmp_path / 'a b', undisturbed)
    assert (tmp_path / f'slurm-{job}.out').read_text().count('stopped after') == 1


def test_a_job_at_its_time_limit_ends_with_the_same_weights(cluster, undisturbed, tmp_path):
    # Slurm looks at the limits every 30 s: the signal comes after 80 to 110 s
    job = cluster.submit(tmp_path / 'work', 2, args='--time=2 --signal=B:USR1@10')
    assert cluster.wait_for_end(job, tmp_path) == ('COMPLETED', 1)
    assert_complete(tmp_path / 'work', undisturbed)
    assert 'stopped after' in (tmp_path / f'slurm-{job}.out').read_text()


def test_a_job_that_is_preempted_ends_with_the_same_weights(cluster, undisturbed, tmp_path):
    job = cluster.submit(tmp_path / 'work', 0.2)
    cluster.wait_for_training(job, tmp_path)
    cluster.ask('srun', '--partition=high', '--ntasks=2', 'true')
    assert cluster.wait_for_end(job, tmp_path) == ('COMPLETED', 1)
    assert_complete(tmp_path / 'work', undisturbed)


def test_a_job_that_is_cancelled_is_saved_and_does_not_come_back(cluster, tmp_path):
    job = cluster.submit(tmp_path / 'work', 0.2)
    cluster.wait_for_training(job, tmp_path)
    cluster.ask('scancel', job)
    assert cluster.wait_for_end(job, tmp_path) == ('CANCELLED', 0)
    assert Path((tmp_path / 'work/last_checkpoint').read_text()).name == 'stopped.pth'


def test_a_job_that_fails_does_not_come_back(cluster, tmp_path):
    job = cluster.submit(tmp_path / 'work', 0.2, 'custom_hooks.0.failing=True')
    assert cluster.wait_for_end(job, tmp_path) == ('FAILED', 0)
