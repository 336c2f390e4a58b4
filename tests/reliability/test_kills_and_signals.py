"""Whatever ends a training, it goes on to the weights of an undisturbed run.

The moments are drawn by seeded generators and stand in the names of the tests. The first cases run
by default, all of them by `make test-reliability`.
"""

from __future__ import annotations

import random
import re
import shlex
import signal
import time
from pathlib import Path

import pytest
from campaign import SAVE, TRAIN, VAL, Moment, Recipe, Training, parametrize

HOSTS = 'mmdet', 'mmseg', 'mmpretrain'
SIGNALS = {'SIGTERM': signal.SIGTERM, 'SIGUSR1': signal.SIGUSR1, 'Ctrl-C': signal.SIGINT}


def draw_kills():
    rng = random.Random(0)
    for i in range(40):
        recipe = Recipe(HOSTS[i // 2 % 3], workers=i // 6 % 2 * 2)
        if i % 2 == 0:
            delay = 0.35 * rng.random() ** 2  # most saves take less than 0.1 s
            yield 'during a save', Moment(recipe, SAVE, rng.randint(1, 3), delay)
        else:  # before the first iteration too
            count = rng.randint(0, 9)
            delay = rng.uniform(0, 0.35 if count else 4)
            yield 'at a random moment', Moment(recipe, TRAIN, count, delay)


@parametrize(list(draw_kills()), default=1)
def test_killed(case, run_case):
    run_case(kill)


def kill(campaign, case, folder):
    when, moment = case
    row = f'SIGKILL {when}'
    training = Training(campaign, moment.recipe, folder)
    with training.start() as run:
        campaign.counts[row, 'runs'] += 1
        run.wait_for(moment.line, moment.count, moment.delay)
        run.send(signal.SIGKILL)
        run.assert_no_orphans()
        training.assert_intact(saved=run.text.count(SAVE) > 1)
        campaign.counts[row, 'as promised'] += 1
    campaign.caught += any(training.work_dir.glob('*unfinished*'))
    training.resume()
    campaign.counts[row, 'equal weights'] += 1


def draw_signals():
    rng = random.Random(1)
    for i in range(20):
        name = list(SIGNALS)[i % 3]
        recipe = Recipe(HOSTS[i // 3 % 3], workers=i // 6 % 2 * 2)
        # not in the last validation: after it there is nothing to stop
        line, last = (VAL, 7) if i % 2 else (TRAIN, 10)
        yield name, Moment(recipe, line, rng.randint(1, last), rng.uniform(0, 0.05))


@parametrize(list(draw_signals()), default=3)
def test_stopped_by_a_signal(case, run_case):
    run_case(stop)


def stop(campaign, case, folder):
    name, moment = case
    training = Training(campaign, moment.recipe, folder)
    with training.start() as run:
        campaign.counts[name, 'runs'] += 1
        run.wait_for(moment.line, moment.count, moment.delay)
        run.send(SIGNALS[name])
        text = run.end(128 + SIGNALS[name])
        run.assert_no_orphans()
    assert 'Traceback' not in text
    training.assert_intact(saved=True)
    (command,) = re.findall(
        '^stopped after .* iterations, saved in .*: go on with (.*)$', text, re.M
    )
    campaign.counts[name, 'as promised'] += 1
    training.resume(shlex.split(command))
    campaign.counts[name, 'equal weights'] += 1


@pytest.mark.reliability
def test_ctrl_c_twice_stops_at_once(campaign, tmp_path):
    training = Training(campaign, Recipe('mmdet', workers=2), tmp_path)
    with training.start() as run:
        run.wait_for(TRAIN, 5)
        run.send(signal.SIGINT)
        run.wait_for('Ctrl-C: finishing the iteration')
        run.send(signal.SIGINT)
        text = run.end(130)
        run.assert_no_orphans()
    assert 'Traceback' not in text
    assert text.rstrip().endswith('stopped at once; what came after the last checkpoint is lost')
    training.assert_intact(saved=True)
    training.resume()


@pytest.mark.reliability
@pytest.mark.parametrize('delay', [0.0, 1.0])
def test_ctrl_c_while_libraries_are_imported(campaign, tmp_path, delay):
    with Training(campaign, Recipe('mmdet'), tmp_path).start() as run:
        while 'libtorch' not in Path(f'/proc/{run.process.pid}/maps').read_text():
            time.sleep(0.01)
        time.sleep(delay)
        run.send(signal.SIGINT)
        text = run.end(130)
    assert 'Traceback' not in text
    assert text.splitlines()[-1] == 'interrupted'
