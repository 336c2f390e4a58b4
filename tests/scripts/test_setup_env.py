"""What the set-up says of a machine that lacks something, and how it cures a build that misfits."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import sysconfig
import threading
import time
from collections import namedtuple
from pathlib import Path

import pytest

Usage = namedtuple('Usage', 'total used free')


@pytest.fixture
def setup_env():
    path = Path(__file__).parents[2] / 'scripts/setup_env.py'
    spec = importlib.util.spec_from_file_location('setup_env', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def facts():
    include = sysconfig.get_path('include')
    return dict(version=[3, 11], include=include, site='', venv=True, names=[])


@pytest.fixture
def installs(setup_env, monkeypatch):
    """Records what pip would install."""
    calls = []
    monkeypatch.setattr(setup_env, 'pip_install', lambda _, *args, **env: calls.append((args, env)))
    return calls


def refused(function, *args) -> str:
    with pytest.raises(Exception) as error:
        function(*args)
    assert type(error.value).__name__ == 'SetupError'
    text = str(error.value)
    assert '\n' not in text and text.endswith('.')
    return text


def test_about_python(setup_env):
    facts = setup_env.about(sys.executable)
    assert tuple(facts['version']) == sys.version_info[:2]
    assert 'pytest' in facts['names'] and Path(facts['site'], 'pytest').is_dir()
    assert setup_env.about('no-such-python') == {}


def test_wrong_python(setup_env, facts):
    setup_env.check_python('python', facts)
    facts['version'] = [3, 13]
    assert 'PYTHON=' in refused(setup_env.check_python, 'python3.13', facts)


def test_environment_of_someone_else(setup_env, facts, tmp_path):
    setup_env.check_venv(tmp_path, False, facts)
    assert 'onedl_mmcv' in refused(
        setup_env.check_venv, tmp_path, True, dict(facts, names=['onedl_mmcv'])
    )
    assert 'python3.11-venv' in refused(
        setup_env.check_venv, tmp_path, False, dict(facts, venv=False)
    )
    (tmp_path / 'thesis.tex').touch()
    assert 'not empty' in refused(setup_env.check_venv, tmp_path, False, facts)
    (tmp_path / 'pyvenv.cfg').touch()  # an environment whose interpreter is gone
    setup_env.check_venv(tmp_path, False, facts)


def test_missing_compiler_and_headers(setup_env, facts, monkeypatch, tmp_path):
    setup_env.check_compiler(facts)
    facts['include'] = str(tmp_path)
    assert 'python3.11-dev' in refused(setup_env.check_compiler, facts)
    (tmp_path / 'Python.h').write_text('#error broken\n')
    assert 'cannot compile' in refused(setup_env.check_compiler, facts)
    monkeypatch.setenv('CXX', 'no-such-compiler -pipe')
    assert 'g++' in refused(setup_env.check_compiler, facts)


def test_full_disk(setup_env, monkeypatch, tmp_path):
    def free(gigabytes):
        monkeypatch.setattr(shutil, 'disk_usage', lambda path: Usage(0, 0, gigabytes * 1e9))

    free(13)
    setup_env.check_disk(tmp_path / 'not/yet/there', False)
    free(2.5)
    setup_env.check_disk(tmp_path, True)
    assert '2.5 GB are free' in refused(setup_env.check_disk, tmp_path, False)


def test_ops_are_planned_for_the_gpu_at_hand(setup_env, monkeypatch, capsys, tmp_path):
    def plan(torch, archs='9.0', cuda=('/cuda', '13.1')):
        answer = '\n'.join([*torch.split(), str(tmp_path / 'torch/__init__.py')])
        monkeypatch.setattr(setup_env, 'answer', lambda *command: answer)
        return setup_env.plan_ops('python', archs, cuda)

    headers = tmp_path / 'nvidia/cu13/include'
    headers.mkdir(parents=True)
    device, env = plan('1 13.0')
    assert device == 'cuda'
    assert env == {
        'FORCE_CUDA': '1',
        'TORCH_CUDA_ARCH_LIST': '9.0',
        'CUDA_HOME': '/cuda',
        'CPLUS_INCLUDE_PATH': str(headers),
    }
    assert plan('1 13.0', archs='')[0] == 'cpu'
    assert not capsys.readouterr().out
    for torch, cuda, why in [
        ('0 13.0', ('/cuda', '13.0'), 'driver'),
        ('1 13.0', ('', ''), 'CUDA toolkit'),
        ('1 13.0', ('/cuda', '12.4'), '12.4'),
    ]:
        assert plan(torch, cuda=cuda)[0] == 'cpu'
        assert why in capsys.readouterr().out


def test_ops_that_misfit_are_compiled_anew(setup_env, installs, monkeypatch, capsys):
    faults = ['undefined symbol', '']
    monkeypatch.setattr(setup_env, 'fault_of_ops', lambda *_: faults.pop(0))
    setup_env.install_ops('python', 'cpu', {'FORCE_CUDA': '0'})
    (first, _), (second, env) = installs
    assert '--no-cache-dir' not in first and '--no-build-isolation' in first
    assert {'--no-cache-dir', '--force-reinstall', '--no-deps', 'mmcv'} <= set(second)
    assert env['FORCE_CUDA'] == '0' and int(env['MAX_JOBS']) > 0
    assert 'undefined symbol' in capsys.readouterr().out

    installs.clear()
    faults[:] = ['']
    setup_env.install_ops('python', 'cpu', {})
    assert len(installs) == 1
    faults[:] = ['undefined symbol'] * 2
    with pytest.raises(setup_env.SetupError, match='undefined symbol'):
        setup_env.install_ops('python', 'cpu', {})


@pytest.mark.parametrize('ours', [True, False])
def test_an_interrupted_installation_is_done_again(setup_env, tmp_path, monkeypatch, ours):
    """In an environment that the set-up made; in one of the user's nothing is removed."""
    venv, site = tmp_path / 'venv', tmp_path / 'site'
    monkeypatch.setattr(setup_env, 'answer', lambda *command: 'pip 25')
    if not ours:
        (venv / 'bin').mkdir(parents=True)
        (venv / 'bin/python').touch()
    setup_env.make_venv(venv, sys.executable)
    for name, complete in (('whole-1.dist-info', True), ('half-1.dist-info', False)):
        (site / name).mkdir(parents=True)
        (site / name / 'METADATA').touch()
        if complete:
            (site / name / 'RECORD').touch()
    setup_env.forget_unfinished(venv, site)
    left = {path.name for path in site.iterdir()}
    assert left == {'whole-1.dist-info'} | ({'half-1.dist-info'} if not ours else set())


def test_a_second_call_does_nothing(setup_env, monkeypatch, tmp_path):
    calls = []

    def install(venv, *_):
        calls.append(venv)
        (venv / 'bin').mkdir(parents=True, exist_ok=True)
        (venv / 'bin/python').touch()
        return ''

    monkeypatch.setattr(setup_env, 'install', install)
    monkeypatch.setattr(setup_env, 'check_machine', lambda *_: None)
    monkeypatch.setattr(setup_env, 'gpu_archs', lambda: '')
    venv = tmp_path / 'venv'
    setup_env.main([str(venv)])
    setup_env.main([str(venv)])
    assert len(calls) == 1
    monkeypatch.setattr(setup_env, 'gpu_archs', lambda: '9.0')  # a GPU was added
    setup_env.main([str(venv)])
    assert len(calls) == 2
    (venv / 'bin/python').unlink()
    setup_env.main([str(venv)])
    assert len(calls) == 3


def test_two_calls_at_once_install_once(setup_env, monkeypatch, tmp_path, capsys):
    installed = []
    begun = threading.Event()

    def install(venv, *_):
        installed.append(venv)
        begun.set()
        time.sleep(0.3)
        (venv / 'bin').mkdir()
        (venv / 'bin/python').touch()
        return ''

    monkeypatch.setattr(setup_env, 'install', install)
    monkeypatch.setattr(setup_env, 'check_machine', lambda *_: None)
    venv = tmp_path / 'venv'
    first = threading.Thread(target=setup_env.main, args=[[str(venv)]])
    first.start()
    begun.wait(10)
    setup_env.main([str(venv)])
    first.join(10)
    assert installed == [venv]
    assert 'Waiting' in capsys.readouterr().out
