"""Everything that a config can name as a model or a part of one."""

from .backbones import CaiT, CoaT, CrossViT

__all__ = ['CaiT', 'CoaT', 'CrossViT']
