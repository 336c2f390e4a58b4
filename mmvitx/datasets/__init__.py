"""The embedded demonstration data; nothing here needs an OpenMMLab package."""

from mmvitx.datasets.digits import make_digits

__all__ = ['make_digits']
