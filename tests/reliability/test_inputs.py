"""Whatever a user gives, it runs, or it ends with one sentence that names the setting.

The rows are in inputs.py. Every tenth runs by default, all of them by `make test-reliability`.
"""

from __future__ import annotations

from collections import Counter

import pytest
from attempts import OK, VERDICTS, attempt, judge
from inputs import ROWS, RUNS, prepare

CASES = [
    pytest.param(row, marks=() if i % 10 == 0 else pytest.mark.reliability, id=row.what)
    for i, row in enumerate(ROWS.values())
]


@pytest.fixture(scope='session')
def base(campaign, tmp_path_factory):
    campaign.verdicts.update(dict.fromkeys(VERDICTS, 0))  # so that all are printed
    folder = tmp_path_factory.mktemp('base')
    prepare(folder)
    return folder


@pytest.mark.parametrize('case', CASES)
def test_input(case, run_case, base):
    verdict, outcome = run_case(lambda campaign, row, folder: run(campaign, row, folder, base))
    end = '\n'.join(outcome.output.splitlines()[-20:])
    assert verdict == OK, f'{verdict}: {outcome.kind} {outcome.text}\n{end}'


def run(campaign, row, folder, base):
    outcome = attempt(row, folder, base)
    verdict = judge(row, outcome)
    campaign.verdicts[verdict] += 1
    return verdict, outcome


def test_the_table_is_broad():
    settings = Counter(row.setting for row in ROWS.values() if row.setting)
    assert len(ROWS) >= 300 and max(settings.values()) <= 3
    assert 0.25 < sum(row.expect is RUNS for row in ROWS.values()) / len(ROWS) < 0.5
