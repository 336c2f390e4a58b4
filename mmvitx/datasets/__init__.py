"""The embedded demonstration data; nothing here needs a host."""

from mmvitx.datasets.digits import make_digits

__all__ = ['make_digits']
