from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from mmvitx.errors import UserError
from mmvitx.versions import SUPPORTED, check_versions


def test_accepts_what_is_installed():
    check_versions()


@pytest.mark.parametrize(
    'name, version',
    [
        ('mmengine', '0.10.6'),
        ('mmengine', '1.0.0'),
        ('mmcv', '2.0.1'),
        ('mmdet', '3.2.0'),
        ('mmdet', '2.28.2'),
        ('mmseg', '1.2.1'),
        ('mmpretrain', '1.0.0rc8'),
        ('torch', '1.13.1+cu117'),
        ('torch', '2.5.1'),
    ],
)
def test_refuses_an_unsupported_version(monkeypatch, name, version):
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(__version__=version))
    with pytest.raises(UserError) as error:  # an ImportError would be swallowed by mmengine
        check_versions()
    lowest, limit = SUPPORTED[name]
    for part in (f'{name} {version}', f'>={lowest},<{limit}', 'install'):
        assert part in str(error.value)


@pytest.mark.parametrize(
    'name, version',
    [('mmdet', '3.5.1'), ('mmcv', '2.3.6'), ('mmseg', '1.4.2'), ('torch', '2.11.0')],
)
def test_accepts_the_forks_and_later_versions(monkeypatch, name, version):
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(__version__=version))
    check_versions()


def test_hosts_may_be_missing(monkeypatch):
    for name in ('mmdet', 'mmseg', 'mmpretrain'):
        monkeypatch.delitem(sys.modules, name, raising=False)
    check_versions()
    assert 'mmdet' not in sys.modules


def test_the_first_use_of_a_type_checks():
    code = (
        'import mmdet\n'
        'mmdet.__version__ = "3.2.0"\n'
        'from mmdet.registry import MODELS\n'
        'MODELS.build(dict(type="mmvitx.CoaT", arch="lite_tiny"))\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    last = done.stderr.splitlines()[-1]
    assert last.startswith('mmvitx.errors.UserError: mmvitx works with mmdet >=3.3.0,<4.0.0, but ')


def test_the_import_with_an_old_torch_says_what_to_do():
    code = (
        'import torch\n'
        'torch.__version__ = "2.5.1"\n'
        'del torch.serialization.add_safe_globals\n'
        'import mmvitx\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    last = done.stderr.splitlines()[-1]
    assert last.startswith('mmvitx.errors.UserError: mmvitx works with torch >=2.6.0,<3.0.0, but ')
    assert 'torch 2.5.1 is installed' in last and 'MMCV compiled for it' in last
    assert 'make env' in last
