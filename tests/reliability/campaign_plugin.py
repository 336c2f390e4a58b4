"""What the campaign shares: its recipes, two cases at a time, and the table at the end."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from campaign import COLUMNS, RECIPES, Campaign

CAMPAIGN = pytest.StashKey()


@pytest.fixture(scope='session')
def campaign(write_config, tmp_path_factory, request) -> Iterator[Campaign]:
    if sys.platform != 'linux':
        pytest.skip('finds processes in /proc')
    folder = tmp_path_factory.mktemp('undisturbed')
    configs = {host: write_config(folder, host, extra=extra) for host, extra in RECIPES.items()}
    request.config.stash[CAMPAIGN] = campaign = Campaign(folder, configs)
    # what a shell starts in the background ignores Ctrl-C, and so would the runs
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield campaign
    signal.signal(signal.SIGINT, handler)


@pytest.fixture(scope='session')
def outcomes(tmp_path_factory):
    """What became of the cases that were started: a future by the name of the test."""
    with ThreadPoolExecutor(2) as pool:
        futures = {}
        yield pool, futures
        pool.shutdown(cancel_futures=True)


@pytest.fixture
def run_case(campaign, outcomes, request, tmp_path_factory):
    """Run the case of a test; the first test of a function starts all of its cases, two at a time.

    The function gets the campaign, the case and an empty folder.
    """
    pool, futures = outcomes

    def run(function):
        if request.node.nodeid not in futures:
            for item in request.session.items:
                if item.function is request.function:
                    folder = tmp_path_factory.mktemp('case')
                    case = item.callspec.params['case']
                    futures[item.nodeid] = pool.submit(function, campaign, case, folder)
        return futures[request.node.nodeid].result()

    return run


def pytest_terminal_summary(terminalreporter, config):
    campaign = config.stash.get(CAMPAIGN, None)
    if campaign and campaign.counts:
        rows = [['', *COLUMNS]]
        for row in dict.fromkeys(row for row, _ in campaign.counts):
            rows.append([row, *(campaign.counts[row, column] for column in COLUMNS)])
        write_table(terminalreporter, 'reliability', rows)
        terminalreporter.line(f'{campaign.caught} of the kills left an unfinished file')
    if campaign and campaign.verdicts:
        rows = [['inputs', sum(campaign.verdicts.values())], *campaign.verdicts.items()]
        write_table(terminalreporter, 'inputs', rows)


def write_table(terminalreporter, title, rows):
    terminalreporter.section(title)
    for row in [rows[0], ['---'] * len(rows[0]), *rows[1:]]:
        terminalreporter.line(f'| {" | ".join(map(str, row))} |')
