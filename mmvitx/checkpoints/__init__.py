"""Checkpoints: the published ones, reading files safely, and what fits a model.

Importing it lets mmengine and mmpretrain know of it.
"""

from mmvitx.versions import check_versions

check_versions()  # first: what follows needs them

from mmvitx.checkpoints.loading import (  # noqa: E402
    CheckpointError,
    allow_mmengine_types,
    load_file,
)
from mmvitx.checkpoints.model_index import register_model_index  # noqa: E402
from mmvitx.checkpoints.schemes import register_loader  # noqa: E402

__all__ = ['CheckpointError', 'load_file']

allow_mmengine_types()
register_loader()
register_model_index()
