"""Finding a backbone by the full name of its architecture, as ``coat_small``."""

from __future__ import annotations

from typing import NamedTuple

from mmvitx.checkpoints.published import PUBLISHED
from mmvitx.errors import UserError
from mmvitx.models import backbones
from mmvitx.models.backbones.base import VisionBackbone

FAMILIES = {
    f'{f.__name__.lower()}_': f for f in (backbones.CoaT, backbones.CrossViT, backbones.CaiT)
}
SIZES = {'coat_': 224, 'crossvit_': 240, 'cait_': 224}  # of the papers' tables


class Named(NamedTuple):
    """What a name means.

    Attributes:
        family: The class of the backbone.
        arch: Its ``arch``.
        size: Side of the images in pixels.
    """

    family: type[VisionBackbone]
    arch: str
    size: int


def find_model(name: str) -> Named:
    """Find family, architecture and the size of the images.

    Args:
        name: As ``coat_small``, or a published name with a size in it, as ``coat_lite_medium_384``.

    Raises:
        UserError: There is no model of that name.
    """
    published = PUBLISHED.get(name)
    full = published.arch if published and published.size else name
    for prefix, family in FAMILIES.items():
        arch = full.removeprefix(prefix)
        if full.startswith(prefix) and arch in family.archs:
            return Named(family, arch, published.size if published else SIZES[prefix])
    known = [prefix + arch for prefix, family in FAMILIES.items() for arch in family.archs]
    raise UserError(f'no model is called {name!r}: expected one of {", ".join(known)}')
