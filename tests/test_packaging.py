"""What pip and mim get to see of the package."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from mmvitx.version import __version__
from mmvitx.versions import SUPPORTED

ROOT = Path(__file__).parents[1]
SOURCES = ('mmvitx', 'configs', 'tools', 'requirements', 'benchmarks', 'scripts')
FILES = ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'model-index.yml', 'LICENSE')


def pip(*args: str, cwd: Path) -> None:
    command = [sys.executable, '-m', 'pip', '--disable-pip-version-check', *args]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture
def source(tmp_path) -> Path:
    """A copy of what a clone has, so that no build writes into the repository."""
    source = tmp_path / 'source'
    skip = shutil.ignore_patterns('__pycache__', '.mim', '*.egg-info')
    for name in SOURCES:
        shutil.copytree(ROOT / name, source / name, ignore=skip)
    for name in FILES:
        shutil.copy(ROOT / name, source / name)
    return source


def files(folder: Path) -> set[str]:
    paths = (path for path in folder.rglob('*') if path.is_file())
    return {str(p.relative_to(folder)) for p in paths if '__pycache__' not in p.parts}


def test_wheel(source, tmp_path):
    stale = source / 'build/lib/mmvitx/.mim/configs/gone.py'  # of an earlier build
    stale.parent.mkdir(parents=True)
    stale.touch()
    pip('wheel', '.', '--no-deps', '--no-build-isolation', '--no-index', '-w', '..', cwd=source)
    (wheel,) = tmp_path.glob(f'mmvitx-{__version__}-*.whl')
    with zipfile.ZipFile(wheel) as archive:
        info = f'mmvitx-{__version__}.dist-info/'
        names = {name for name in archive.namelist() if not name.startswith(info)}
        metadata = email.message_from_bytes(archive.read(info + 'METADATA'))
    # nothing but the package, what its command lines share, and what mim looks for
    expected = {f'mmvitx/{name}' for name in files(ROOT / 'mmvitx') if not name.startswith('.mim')}
    expected |= {
        f'mmvitx/.mim/{d}/{name}' for d in ('configs', 'tools') for name in files(ROOT / d)
    }
    assert names == expected | {'mmvitx/.mim/model-index.yml'}
    scripts = {Path(name).name for name in names}
    assert not scripts & {'demo.py', 'benchmark.py'}, 'what works in a clone only'
    assert not (source / 'mmvitx/.mim').exists()

    required = [Requirement(line) for line in metadata.get_all('Requires-Dist')]
    always = {r.name for r in required if not r.marker}
    small = {'numpy', 'filelock', 'huggingface_hub', 'safetensors'}
    assert always == small, 'what is always installed could replace what a user has'
    extras = {extra: set() for extra in metadata.get_all('Provides-Extra')}
    for extra, members in extras.items():
        members |= {r.name for r in required if r.marker and r.marker.evaluate({'extra': extra})}
    assert set(extras) == {'det', 'seg', 'pretrain', 'all', 'dev'}
    assert 'mmdet' in extras['det'] and 'mmpretrain' in extras['pretrain']
    assert extras['seg'] >= {'mmsegmentation', 'ftfy', 'regex'}
    assert extras['all'] >= extras['det'] | extras['seg'] | extras['pretrain']
    assert not {'torch', 'mmcv'} & set.union(*extras.values()), 'pip cannot build the ops for them'


def test_editable_install_finds_the_repository(source):
    build = "from setuptools.build_meta import build_editable; build_editable('..')"
    for _ in range(2):  # the second build replaces the links, and nothing of what they lead to
        subprocess.run([sys.executable, '-c', build], cwd=source, capture_output=True, check=True)
        for name in ('configs', 'tools', 'model-index.yml'):
            link = source / 'mmvitx/.mim' / name
            assert link.is_symlink() and link.samefile(source / name)
    assert files(source / 'configs') == files(ROOT / 'configs')


def test_model_index():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    listed = {}
    for path in index['Import']:
        folder = (ROOT / path).parent
        for model in yaml.safe_load((ROOT / path).read_text())['Models']:
            config = listed[model['Name']] = ROOT / model['Config']
            assert config.parent == folder and config.is_file()
            assert re.fullmatch(rf'{model["Name"]}(_8xb\d+_in1k)?', config.stem)
    configs = {*(ROOT / 'configs').glob('*.py'), *(ROOT / 'configs/pretrain').glob('*.py')}
    assert {path for path in configs if '_distilled_' not in path.name} == {*listed.values()}


def test_requirements_agree_with_the_versions_checked_at_run_time():
    modules = {'mmsegmentation': 'mmseg'}
    for path in (ROOT / 'requirements').glob('*.txt'):
        lines = [line.partition('#')[0].strip() for line in path.read_text().splitlines()]
        for requirement in map(Requirement, filter(None, lines)):
            module = modules.get(requirement.name, requirement.name)
            if module not in SUPPORTED:
                continue
            lowest, limit = SUPPORTED[module]
            bounds = {bound.operator: bound.version for bound in requirement.specifier}
            if path.name == 'lock.txt':
                allowed = Requirement(f'{module}>={lowest},<{limit}').specifier
                assert allowed.contains(bounds['==']), requirement
            elif path.name != 'build.txt':
                assert bounds['>='] == lowest, f'{path.name}: {requirement}'


@pytest.mark.skipif(os.name != 'posix', reason='a shell script')
def test_ci_runs_what_contributors_run():
    script = ROOT / '.ci/run'
    assert os.access(script, os.X_OK)
    assert {'make lint', 'make test'} <= set(script.read_text().splitlines())
