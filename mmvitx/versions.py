"""Which versions of its neighbours this package works with."""

from __future__ import annotations

import sys

from mmengine.utils import digit_version

from mmvitx.errors import UserError

# module: (lowest supported version, first version that is not). Modules instead of distributions,
# because the maintained forks install the same modules under other distribution names.
SUPPORTED = {
    'torch': ('2.6.0', '3.0.0'),  # its allow-list for checkpoints goes by names since then
    'mmengine': ('0.10.7', '1.0.0'),
    'mmcv': ('2.1.0', '3.0.0'),
    'mmdet': ('3.3.0', '4.0.0'),
    'mmseg': ('1.2.2', '2.0.0'),
    'mmpretrain': ('1.2.0', '2.0.0'),
}


def check_versions() -> None:
    """Check the supported packages that are imported already.

    Raises:
        UserError: If one of them has an unsupported version. It is no ImportError, because mmengine
            swallows those when it looks for a registry and then reports that the type does not
            exist.
    """
    for name, (lowest, limit) in SUPPORTED.items():
        version = getattr(sys.modules.get(name), '__version__', None)
        if version is None:
            continue
        if not digit_version(lowest) <= digit_version(version) < digit_version(limit):
            also = ', and MMCV compiled for it (`make env` in a clone does both)'
            raise UserError(
                f'mmvitx works with {name} >={lowest},<{limit}, but {name} {version} is installed: '
                f'install a version in that range{also if name == "torch" else ""}, in an '
                'environment of its own if something else needs this one'
            )
