from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

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
    ],
)
def test_refuses_an_unsupported_version(monkeypatch, name, version):
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(__version__=version))
    with pytest.raises(RuntimeError) as error:  # an ImportError would be swallowed by mmengine
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
