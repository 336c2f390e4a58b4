"""The registries of mmvitx, children of mmengine's with scope ``mmvitx``.

In a config of any OpenMMLab host ``type='mmvitx.CoaT'`` makes mmengine import this module, look the
name up here and import the modules under ``locations``.
"""

from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import Registry

from mmvitx.versions import check_versions

check_versions()

MODELS = Registry('model', parent=MMENGINE_MODELS, scope='mmvitx', locations=['mmvitx.models'])
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='mmvitx', locations=['mmvitx.engine.hooks'])
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope='mmvitx',
    locations=['mmvitx.engine.optim'],
)
