"""Run a row of the table of inputs as a user would, and say what came of it.

Each row runs in a process of its own, forked from one that has imported all libraries: nothing
leaks from one row into the next, and a row that hangs or eats memory is ended.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import resource
import runpy
import shlex
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from conftest import CLASSES, CONFIGS, LOOPS, write_data

ROOT = Path(__file__).parents[2]
SECONDS = 60  # a row that takes longer hangs
MEMORY = 6 * 2**30  # bytes that a row may take beyond what is imported
PARTS = 'models', 'datasets', 'evaluation', 'engine', 'visualization'
OK = 'as expected'
REFUSED = 'valid inputs refused'
WRONG = 'silently wrong'
TRACEBACK = 'tracebacks without a sentence'
UNNAMED = 'sentences that do not name the setting'
HANG = 'hangs'
VERDICTS = OK, TRACEBACK, UNNAMED, WRONG, HANG, REFUSED

servers = multiprocessing.get_context('forkserver')
servers.set_forkserver_preload(
    ['attempts', 'matplotlib.pyplot', 'mmvitx.apis.configs', 'mmvitx.apis.speed']
    + ['mmvitx.engine.launch', 'mmvitx.engine.evaluation', 'mmvitx.models', 'mmvitx.datasets']
    + [f'{host}.{part}' for host in CONFIGS for part in PARTS]
)


class Outcome(NamedTuple):
    """What came of a row.

    Attributes:
        kind: ``runs``, ``sentence``, ``traceback`` or ``hang``.
        text: The sentence, or the last line of the traceback.
        output: All that was printed.
        passed: Whether what ran did what it should.
    """

    kind: str
    text: str = ''
    output: str = ''
    passed: bool = True


class Run(NamedTuple):
    """What a check of a row looks at."""

    result: Any  # of the tool's main: of a training the runner
    folder: Path
    output: str


def attempt(row: Any, folder: Path, base: Path, plain: bool = False) -> Outcome:
    """Run a row.

    Args:
        row: A row of the table; the process finds it by its name.
        folder: An empty folder, for its config, data and outputs.
        base: Folder with the tiny data and the work dir of a training of each host.
        plain: Whether the host itself runs the config, instead of our tool.
    """
    ours, theirs = servers.Pipe(duplex=False)
    process = servers.Process(target=_work, args=(row.what, folder, base, plain, theirs))
    process.start()
    theirs.close()
    try:
        if not ours.poll(SECONDS):
            return Outcome('hang', output=_read(folder))
        kind, text, passed = ours.recv()
    except EOFError:  # a signal ended it, as for want of memory
        process.join()
        kind, text, passed = 'traceback', f'ended with status {process.exitcode}', False
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()
    return Outcome(kind, text, _read(folder), passed)


def _read(folder):
    path = folder / 'output.txt'
    return path.read_text(errors='replace') if path.exists() else ''


def judge(row: Any, outcome: Outcome) -> str:
    """Say whether an outcome is the expected one; one of VERDICTS."""
    runs = row.says is not None or row.expect is None
    if outcome.kind == 'hang':
        return HANG
    if outcome.kind == 'traceback':
        return TRACEBACK
    if outcome.kind == 'sentence':
        if runs:
            return REFUSED
        named = all(re.search(part, outcome.text) for part in row.expect.split(' & '))
        return OK if named else UNNAMED
    said = row.says is None or re.search(row.says, outcome.output)
    return OK if runs and said and outcome.passed else WRONG


def _work(name: str, folder: Path, base: Path, plain: bool, pipe: Connection) -> None:
    """Run a row in this process, and send kind, text and whether the check passed."""
    from inputs import ROWS

    os.setsid()  # what it leaves running is ended with it
    row = ROWS[name]
    with (folder / 'output.txt').open('wb') as output:
        for stream in sys.stdout, sys.stderr:
            os.dup2(output.fileno(), stream.fileno())
    sys.stdout.reconfigure(line_buffering=True)
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    torch.set_num_threads(1)
    os.chdir(folder)
    results = []
    try:
        words = _prepare(row, folder, base)
        if plain:
            _run_plain(row.tool, words)
        else:
            _run_tool(row.tool, words, results)
        kind, text = 'runs', ''
    except SystemExit as e:
        last = (_read(folder).strip().splitlines() or [''])[-1]
        text = e.code if isinstance(e.code, str) else last
        kind = 'sentence' if re.match(r'[\w.]*(: )?error: ', text) else 'traceback'
        if e.code in (0, None):
            kind, text = 'runs', ''
    except BaseException as e:
        traceback.print_exc()
        kind, text = 'traceback', traceback.format_exception_only(type(e), e)[-1].strip()
    passed = True
    if kind == 'runs' and not plain:
        try:
            passed = bool(row.check(Run(results[0] if results else None, folder, _read(folder))))
        except Exception:
            traceback.print_exc()
            passed = False
    sys.stdout.flush()
    pipe.send((kind, text, passed))
    os._exit(0)


def _prepare(row, folder, base):
    """Write data and config, and give the words of the command."""
    from inputs import SNIPPETS

    data = base / 'data'
    if row.spoil:
        data = folder / 'data'
        write_data(data)
        row.spoil(data)
    names = dict(SNIPPETS, data=data, folder=folder, work=folder / 'work', root=ROOT, base=base)
    names['config'] = folder / f'tiny_{row.host}.py'
    names['checkpoint'] = base / row.host / 'work/epoch_1.pth'

    def fill(text):
        return re.sub(r'\{(\w+)\}', lambda name: str(names.get(name[1], name[0])), text)

    text = CONFIGS[row.host].replace('{classes}', repr(CLASSES)).replace('{root}', str(data))
    names['config'].write_text(text + LOOPS + fill(row.lines))
    return [fill(word) for word in shlex.split(row.words)]


def _run_tool(tool, words, results):
    from mmvitx.engine import cli

    run = cli.run
    cli.run = lambda main: run(lambda: results.append(main()))  # what it returns is checked
    sys.argv = [f'tools/{tool}.py', *words]
    runpy.run_path(str(ROOT / sys.argv[0]), run_name='__main__')


def _run_plain(tool, words):
    """Run a config as the hosts' tools/train.py and tools/test.py do."""
    import argparse

    from mmengine.config import Config, DictAction
    from mmengine.registry import RUNNERS
    from mmengine.runner import Runner

    import mmvitx  # noqa: F401, for the types of the configs

    parser = argparse.ArgumentParser()
    parser.add_argument('config')
    parser.add_argument('checkpoint', nargs='?')
    parser.add_argument('--work-dir')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={})
    args = parser.parse_args(words)
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    cfg.work_dir = args.work_dir
    if tool == 'test':
        cfg.load_from = args.checkpoint
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    runner.train() if tool == 'train' else runner.test()
