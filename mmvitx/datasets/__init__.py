"""Data: the embedded demonstration, label maps out of COCO, checks; nothing here needs a host."""

from mmvitx.datasets.digits import make_digits

__all__ = ['make_digits']
