from __future__ import annotations

from types import SimpleNamespace

from mmengine.runner import ValLoop
from torch import nn

from mmvitx.engine.hooks import SanityHook


class OtherLoop(ValLoop):
    """Prepares its model before it validates, as MMPretrain's for retrieval."""

    def __init__(self):
        """Needs no data."""


def test_only_mmengines_own_validation_is_tried():
    model = nn.Linear(1, 1).train()
    for loop in (None, OtherLoop()):
        SanityHook().before_train(SimpleNamespace(val_loop=loop, model=model))
    assert model.training
