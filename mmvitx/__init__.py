"""Multi-scale vision transformers as backbones for MMDetection, MMSegmentation and MMPretrain.

Importing the package makes checkpoint files load safely (see ``mmvitx.checkpoints``) and adds our
classifiers to mmpretrain's index; it needs none of the hosts. Where neither torch nor mmengine is
imported yet, that waits until they are: the command lines in ``tools`` answer before. The modules
register themselves when a config first names one of them (``type='mmvitx.CoaT'``).
"""

import importlib
import sys
from functools import partial

from mmvitx.on_import import when_imported
from mmvitx.version import __version__

__all__ = ['__version__']

when_imported(
    'torch' if 'torch' in sys.modules else 'mmengine.runner',
    partial(importlib.import_module, 'mmvitx.checkpoints'),
)
