"""The backbones, one file a paper; ``base.py`` holds the contract that they share."""

from .coat import CoaT

__all__ = ['CoaT']
