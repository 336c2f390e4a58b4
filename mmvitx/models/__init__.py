"""Everything that a config can name as a model or a part of one."""

from .backbones import CoaT, CrossViT

__all__ = ['CoaT', 'CrossViT']
