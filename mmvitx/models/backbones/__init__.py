"""The backbones, one file a paper; ``base.py`` holds the contract that they share."""

from .coat import CoaT
from .crossvit import CrossViT

__all__ = ['CoaT', 'CrossViT']
