"""Each host finds our types by the name in a config, and none of the hosts is needed."""

import subprocess
import sys

import pytest

BUILD = """
from mmengine.registry import init_default_scope
from {host}.registry import MODELS
init_default_scope('{host}')
model = MODELS.build(dict(type='mmvitx.CoaT', arch='lite_tiny'))
print(type(model).__module__, *model.out_channels)
"""

ALONE = """
import sys
sys.modules.update(dict.fromkeys(['mmdet', 'mmseg', 'mmpretrain']))  # their import fails
import mmvitx.registry
model = mmvitx.registry.MODELS.build(dict(type='CoaT', arch='lite_tiny'))
print(type(model).__module__, *model.out_channels)
"""


@pytest.mark.parametrize(
    'code', [*(BUILD.format(host=h) for h in ('mmdet', 'mmseg', 'mmpretrain')), ALONE]
)
def test_the_type_is_found(code):
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == 'mmvitx.models.backbones.coat 64 128 256 320'
