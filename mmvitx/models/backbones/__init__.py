"""The backbones, one file a paper; ``base.py`` holds the contract that they share."""

from .cait import CaiT
from .coat import CoaT
from .crossvit import CrossViT

__all__ = ['CaiT', 'CoaT', 'CrossViT']
