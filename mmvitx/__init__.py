"""Multi-scale vision transformers as backbones for MMDetection, MMSegmentation and MMPretrain.

Importing the package makes checkpoint files load safely (see ``mmvitx.checkpoints``) and adds our
classifiers to mmpretrain's index, once that is imported; it needs torch and mmengine, and none of
the hosts. The modules register themselves when a config first names
one of them (``type='mmvitx.CoaT'``).
"""

from mmvitx.version import __version__
from mmvitx.versions import check_versions

check_versions()  # first: what follows needs them

from mmvitx.checkpoints import allow_mmengine_types, register_loader  # noqa: E402
from mmvitx.checkpoints.model_index import register_model_index  # noqa: E402

__all__ = ['__version__']

allow_mmengine_types()
register_loader()
register_model_index()
