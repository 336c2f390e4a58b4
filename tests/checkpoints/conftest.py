"""Checkpoints with the names, shapes and layout of the published ones, of seeded weights."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

PARITY = Path(__file__).parents[1] / 'data/parity'


def official_weights(model: str) -> dict[str, Tensor]:
    """Make the tensors of an authors' ImageNet checkpoint: shared parameters under each name."""
    from mmvitx.checkpoints.official import convert_official

    keys = json.loads((PARITY / f'{model}.json').read_text())['keys']
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(shape, generator=generator) for name, shape in keys.items()}
    converted = convert_official(weights)
    for name, ours in converted.copies.items():
        weights[name] = converted.state_dict[ours]
    return weights


@pytest.fixture(scope='session')
def coat_weights() -> dict[str, Tensor]:
    """Give those of CoaT Tiny, which has all parts of a CoaT."""
    return official_weights('coat_tiny')


@pytest.fixture(scope='session')
def as_published():
    """Lay weights out as somebody's file does."""

    def lay_out(weights: dict[str, Tensor], author: str) -> dict:
        if author == 'coat':
            args = argparse.Namespace(lr=5e-4, model='coat_tiny', data_path=Path('imagenet').name)
            return dict(model=weights, optimizer=dict(state={}), epoch=299, args=args)
        if author == 'cait':
            return dict(model={f'module.{name}': value for name, value in weights.items()})
        if author == 'timm':  # keeps no second copies, and no norms that are not used
            norm = ('norm1.',)
            return {
                name: value.clone()
                for name, value in weights.items()
                if not name.startswith(norm) and '.mlp3.' not in name and '.mlp4.' not in name
            }
        raise ValueError(author)

    return lay_out
