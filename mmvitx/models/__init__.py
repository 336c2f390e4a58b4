"""Everything that a config can name as a model or a part of one."""

from .backbones import CaiT, CoaT, CrossViT
from .classifiers import build_distilled_classifier

__all__ = ['CaiT', 'CoaT', 'CrossViT', 'build_distilled_classifier']
