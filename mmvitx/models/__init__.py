"""Everything that a config can name as a model or a part of one."""

from .backbones import CaiT, CoaT, CrossViT
from .classifiers import build_distilled_classifier
from .necks import ConcatLevels

__all__ = ['CaiT', 'CoaT', 'ConcatLevels', 'CrossViT', 'build_distilled_classifier']
