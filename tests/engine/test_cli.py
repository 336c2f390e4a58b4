"""Tools answer before libraries are imported, and end in a line when they are interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mmvitx.engine import cli
from mmvitx.errors import UserError

ROOT = Path(__file__).parents[2]
TOOLS = sorted((ROOT / 'tools').rglob('*.py'))
HEAVY = ('torch', 'mmengine', 'mmcv', 'numpy', 'matplotlib')
HELP = f"""
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
finally:
    print('imported:', *sorted({{*{HEAVY}}} & {{*sys.modules}}))
"""


def run(*words, path=ROOT, **variables):
    command = [sys.executable, *map(str, words)]
    return subprocess.run(
        command,
        env={**os.environ, 'PYTHONPATH': f'{path}{os.pathsep}{ROOT}', **variables},
        capture_output=True,
        text=True,
        timeout=60,
        # what a shell starts in the background ignores Ctrl-C, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize('tool', TOOLS, ids=lambda path: path.stem)
def test_help_imports_no_library(tool):
    done = run('-c', HELP, tool, '--help')
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('usage: ')
    assert done.stdout.splitlines()[-1] == 'imported:'


@pytest.mark.parametrize(
    ('library', 'words'),
    [
        ('torch', ['train.py', 'config.py']),
        ('torch', ['train.py', 'config.py', '--cfg-options', 'a=1']),
        ('torch', ['test.py', 'config.py', 'epoch_1.pth']),
        ('torch', ['export.py', 'coat_tiny', '--out', 'coat.onnx']),
        ('numpy', ['make_digits.py']),
    ],
)
def test_ctrl_c_while_a_library_is_imported(library, words, tmp_path):
    interrupt = 'import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n'
    (tmp_path / f'{library}.py').write_text(interrupt)
    done = run(ROOT / 'tools' / words[0], *words[1:], path=tmp_path)
    assert done.returncode == 130
    assert done.stderr.split() == ['interrupted']


def test_a_library_that_is_missing_is_no_error_of_the_user(tmp_path):
    (tmp_path / 'torch.py').write_text("raise ImportError('libcudart.so: cannot open')")
    done = run(ROOT / 'tools/train.py', 'config.py', path=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == 'ImportError: libcudart.so: cannot open'


@pytest.mark.parametrize('given', [{}, {'LRU_CACHE_CAPACITY': '7'}])
def test_the_caches_of_kernels_are_bounded_before_torch_is_imported(given, tmp_path, monkeypatch):
    for name in cli.KERNEL_CACHES:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / 'torch.py').write_text(
        f'import os, sys\nsys.exit(str([*map(os.environ.get, {[*cli.KERNEL_CACHES]})]))\n'
    )
    done = run(ROOT / 'tools/train.py', 'config.py', path=tmp_path, **given)
    assert done.stderr.strip() == str([*{**cli.KERNEL_CACHES, **given}.values()])


def test_an_error_that_only_another_process_has_is_said(monkeypatch, capsys):
    monkeypatch.setenv('LOCAL_RANK', '1')
    waited = []
    monkeypatch.setattr(cli.time, 'sleep', waited.append)

    def main():
        raise UserError('loss not finite')

    with pytest.raises(SystemExit) as ended:
        cli.run(main)
    assert ended.value.code == 1 and waited == [3]
    assert capsys.readouterr().err == 'error: loss not finite\n'
