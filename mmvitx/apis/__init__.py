"""What a user calls from Python; the command lines in ``tools`` are thin over it."""

from .backbone import use_backbone

__all__ = ['use_backbone']
