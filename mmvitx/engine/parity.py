"""Compare our models with what the authors' own code answers on seeded weights.

A file (JSON) states a ``model``, a ``salt``, the ``keys`` of the published checkpoint with their
shapes, the number of ``params``, and ``runs``: each an output of the authors' code for an ``input``
size, as values at flat positions and its standard deviation. Weights and images are made from the
salt and the keys' names. The weights go through the conversion that published checkpoints take, the
classifier's head included.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mmvitx.checkpoints.official import convert_official
from mmvitx.errors import UserError
from mmvitx.registry import MODELS

# Of each family: the type; the pixels that its patches must divide for the authors' code, which
# cuts what is left over where ours pads; and the settings that are the side of the images.
TYPES = {
    'coat': ('mmvitx.CoaT', 32, ()),
    'cait': ('mmvitx.CaiT', 16, ('img_size',)),
    'crossvit': ('mmvitx.CrossViT', 24, ('img_size',)),
}
OUT_TYPES = {
    'logits': 'cls_token',
    'pyramid': 'featmap',
    'patch_tokens': 'raw',
    'branch_tokens': 'raw',
}


def random_normal(seed: str, shape: Sequence[int]) -> np.ndarray:
    """Draw float32 numbers of ``shape`` from a standard normal distribution seeded by a string."""
    state = np.random.RandomState(zlib.crc32(seed.encode()) & 0xFFFFFFFF)
    return state.standard_normal(shape).astype('float32')


def seeded_weight(name: str, shape: Sequence[int], salt: str) -> Tensor:
    """Make a parameter from its name in the authors' code; the first rule that fits holds."""
    v = random_normal(salt + name, shape)
    if name.split('.')[-1].startswith('gamma_'):  # LayerScale
        v = 0.3 + 0.1 * v
    elif len(shape) == 1 and name.endswith('weight'):  # scale of a norm
        v = 1 + 0.1 * v
    elif name.endswith('bias'):
        v = 0.05 * v
    elif 'cls_token' in name or 'pos_embed' in name:
        v = 0.5 * v
    elif 'cpe' in name or 'crpe' in name:  # convolutional position encodings
        v = 0.1 * v
    else:
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else shape[0]
        v = v * (1.0 / max(fan_in, 1)) ** 0.5
    return torch.from_numpy(np.asarray(v, dtype='float32'))


def seeded_checkpoint(record: dict) -> dict[str, Tensor]:
    """Make the weights of a file, under the keys of mmpretrain's ImageClassifier.

    Raises:
        UserError: The keys are of no known family, one is unknown, or the number of parameters is
            another.
    """
    official = {
        name: seeded_weight(name, shape, record['salt']) for name, shape in record['keys'].items()
    }
    converted = convert_official(official)
    if converted is None:
        raise UserError('its keys are those of no published checkpoint')
    if converted.unknown:
        raise UserError(f'no published {converted.family} has {", ".join(converted.unknown)}')
    count = sum(official[name].numel() for name in converted.renamed)
    if count != record['params']:
        raise UserError(
            f'the keys hold {count:,} parameters, shared once, not {record["params"]:,}'
        )
    return converted.state_dict


def build(record: dict, family: str, kind: str, weights: dict[str, Tensor]) -> nn.Module:
    """Build the model that answers a run, with the weights of the file."""
    backbone_type, _, of_size = TYPES[family]
    arch = re.sub(r'_\d{3}$', '', record['model'][len(family) + 1 :]).lower()  # 'XXS24_224'
    backbone = dict(type=backbone_type, arch=arch, out_type=OUT_TYPES[kind])
    backbone.update({setting: record['runs'][0]['input'][0] for setting in of_size})
    if kind == 'logits':
        num_classes, channels = weights['head.fc.weight'].shape
        head = dict(type='LinearClsHead', num_classes=num_classes, in_channels=channels)
        model = dict(type='mmpretrain.ImageClassifier', backbone=backbone, head=head)
    else:
        model = backbone
        weights = {
            k[len('backbone.') :]: w for k, w in weights.items() if k.startswith('backbone.')
        }
    try:
        model = MODELS.build(model)
    except ValueError as error:  # an unknown arch
        raise UserError(f'model {record["model"]!r}: {error}') from None
    missing = model.load_state_dict(weights, strict=False).missing_keys
    if missing:
        raise UserError(f'the file has no weights for {", ".join(missing)}')
    return model.eval()


def check(path: Path) -> list[tuple[str, float]]:
    """Check one file.

    Args:
        path: The JSON file.

    Returns:
        Of each run its name and the largest difference over the standard deviation.

    Raises:
        UserError: The file cannot be read or checked.
    """
    try:
        record = json.loads(path.read_text())
        return check_record(record)
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise UserError(f'no parity file ({type(error).__name__}: {error})') from None


@torch.no_grad()
def check_record(record: dict) -> list[tuple[str, float]]:
    """Check the content of a file: see :func:`check`."""
    family = record['model'].split('_')[0]
    if family not in TYPES:
        raise UserError(f'model {record["model"]!r} is of no known family: {", ".join(TYPES)}')

    weights = seeded_checkpoint(record)
    results = []
    for run in record['runs']:
        kind, (height, width) = run['kind'], run['input']
        if kind not in OUT_TYPES:
            raise UserError(f'a run of kind {kind!r}; known are {", ".join(OUT_TYPES)}')
        divisor = TYPES[family][1]
        if height % divisor or width % divisor:
            raise UserError(
                f'input {height}x{width}: the authors cut what their patches do not divide and '
                f'ours pads it; sizes must be multiples of {divisor}'
            )
        image = torch.from_numpy(random_normal('image' + record['salt'], (1, 3, height, width)))
        model = build(record, family, kind, weights)
        outputs = [model(image)] if kind == 'logits' else model(image)
        expected = [run['out']] if isinstance(run['out'], dict) else run['out']
        if len(outputs) != len(expected):
            raise UserError(
                f'{kind}: ours are {len(outputs)} tensors, the official {len(expected)}'
            )
        worst = np.max([difference(*pair) for pair in zip(outputs, expected)])
        results.append((f'{kind} {height}x{width}', worst))
    if not results:
        raise UserError('no runs in it, so nothing to check')
    return results


def difference(output: Tensor, expected: dict) -> float:
    """Give the largest difference at the sampled positions over the standard deviation.

    Raises:
        UserError: The shapes differ.
    """
    if list(output.shape) != expected['shape']:
        raise UserError(f'ours is {tuple(output.shape)}, the official {tuple(expected["shape"])}')
    ours = output.flatten()[expected['index']].double()
    worst = (ours - torch.tensor(expected['value'], dtype=torch.float64)).abs().max()
    return worst.item() / expected['std']
