"""Classifiers on top of mmpretrain's, which is imported when one of them is built."""

from __future__ import annotations

from typing import Any

from torch import nn

from mmvitx.registry import MODELS


@MODELS.register_module(name='DistilledImageClassifier')
def build_distilled_classifier(**settings: Any) -> nn.Module:
    """Build a :class:`mmvitx.models.classifiers.distilled.DistilledImageClassifier`."""
    from .distilled import DistilledImageClassifier

    return DistilledImageClassifier(**settings)


__all__ = ['build_distilled_classifier']
