from mmvitx.checkpoints.loading import CheckpointError, allow_mmengine_types, load_file
from mmvitx.checkpoints.schemes import register_loader

__all__ = ['CheckpointError', 'allow_mmengine_types', 'load_file', 'register_loader']
