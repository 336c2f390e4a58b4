from mmvitx.engine.hooks.checkpoint import CheckpointHook
from mmvitx.engine.hooks.finite import FiniteHook
from mmvitx.engine.hooks.sanity import SanityHook
from mmvitx.engine.hooks.stop import StopHook

__all__ = ['CheckpointHook', 'FiniteHook', 'SanityHook', 'StopHook']
