"""Processes of a run that die, are stopped, or get into each other's way."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from campaign import TRAIN, Recipe, Training


@pytest.mark.parametrize('tool', ['train', 'test'])
def test_no_loader_outlives_its_main_process(campaign, tmp_path, tool):
    training = Training(campaign, Recipe('mmdet', workers=2), tmp_path)
    if tool == 'train':
        run, line = training.start(), TRAIN
    else:
        campaign.train_undisturbed(training.recipe)
        (checkpoint,) = (campaign.folder / 'mmdet1' / 'work').glob('*.pth')
        words = ['tools/test.py', campaign.configs['mmdet'], str(checkpoint)]
        words += ['--work-dir', str(tmp_path / 'test'), '--cfg-options']
        words += ['test_dataloader.num_workers=2', 'default_hooks.logger.interval=1']
        run, line = training.run(['python', *words]), r'\(test\) *\['
    with run:
        run.wait_for(line)
        with run.paused():
            assert len(run.find_processes()) == 3
            os.kill(run.process.pid, signal.SIGKILL)
        run.assert_no_orphans()
    if tool == 'train':
        row = 'SIGKILL of the main process, with 2 workers'
        campaign.counts[row, 'runs'] += 1
        campaign.counts[row, 'as promised'] += 1
        training.resume()
        campaign.counts[row, 'equal weights'] += 1


def test_a_second_run_in_a_work_dir_is_refused(campaign, tmp_path):
    row = 'a second run in the same work dir'
    training = Training(campaign, Recipe('mmseg'), tmp_path)
    with training.start() as first:
        campaign.counts[row, 'runs'] += 1
        first.wait_for(TRAIN)
        with first.paused(), training.start('--resume') as second:
            text = second.end(1)
        first.end(0)
    assert 'Traceback' not in text
    assert re.findall('^error: .*', text, re.M) == re.findall(
        '^error: another process trains in .*: wait for it, or choose another folder .*', text, re.M
    )
    campaign.counts[row, 'as promised'] += 1
    training.assert_equal()
    campaign.counts[row, 'equal weights'] += 1


def find_ranks(run):
    ranks = {}
    for pid in run.find_processes():
        variables = Path(f'/proc/{pid}/environ').read_bytes().split(b'\0')
        ranks.update({int(v[5:]): pid for v in variables if v.startswith(b'RANK=')})
    return ranks


@pytest.mark.reliability
@pytest.mark.parametrize(
    'who, number',
    [
        (0, signal.SIGKILL),
        (1, signal.SIGKILL),
        (1, signal.SIGTERM),
        ('dist_train.sh', signal.SIGTERM),
        ('dist_train.sh', signal.SIGUSR1),
    ],
)
def test_two_ranks(campaign, tmp_path, who, number):
    target = who if who == 'dist_train.sh' else 'one of two ranks'
    row = f'{signal.Signals(number).name} to {target}'
    training = Training(campaign, Recipe('mmdet', ranks=2), tmp_path)
    with training.start() as run:
        campaign.counts[row, 'runs'] += 1
        run.wait_for(TRAIN, 5)
        ranks = find_ranks(run)
        assert {*ranks} == {0, 1}
        os.kill(ranks.get(who, run.process.pid), number)
        text = run.end(128 + number if who == 'dist_train.sh' else 1)
        run.assert_no_orphans()
    training.assert_intact(saved=True)
    stopped = re.findall('^stopped after .* iterations, saved in', text, re.M)
    assert len(stopped) == (number != signal.SIGKILL)
    campaign.counts[row, 'as promised'] += 1
    training.resume()
    campaign.counts[row, 'equal weights'] += 1
