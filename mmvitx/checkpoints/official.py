"""How the keys of the authors' checkpoints become ours: names and numbers, no modules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Of each family: (pattern of an authors' key, our key). {scale} and {coarse} are the authors'
# number of a scale, counted from 0 at their scale 1 and 2. Where several of their keys name one
# parameter, as CoaT's encodings and MLPs that are shared do, all become the same key of ours.
_RULES = {
    'coat': (
        (r'cls_token(?P<scale>\d)', 'cls_tokens.{scale}'),
        (r'patch_embed(?P<scale>\d)\.(?P<rest>.+)', 'patch_embeds.{scale}.{rest}'),
        (r'cpe(?P<scale>\d)\.(?P<rest>.+)', 'cpes.{scale}.{rest}'),
        (r'serial_blocks(?P<scale>\d)\.\d+\.cpe\.(?P<rest>.+)', 'cpes.{scale}.{rest}'),
        (r'crpe(?P<scale>\d)\.conv_list\.(?P<rest>.+)', 'crpes.{scale}.convs.{rest}'),
        (
            r'serial_blocks(?P<scale>\d)\.\d+\.factoratt_crpe\.crpe\.conv_list\.(?P<rest>.+)',
            'crpes.{scale}.convs.{rest}',
        ),
        (
            r'parallel_blocks\.\d+\.factoratt_crpe(?P<scale>\d)\.crpe\.conv_list\.(?P<rest>.+)',
            'crpes.{scale}.convs.{rest}',
        ),
        (
            r'serial_blocks(?P<scale>\d)\.(?P<block>\d+)\.factoratt_crpe\.(?P<rest>.+)',
            'serial_blocks.{scale}.{block}.attn.{rest}',
        ),
        (r'serial_blocks(?P<scale>\d)\.(?P<rest>.+)', 'serial_blocks.{scale}.{rest}'),
        (
            r'parallel_blocks\.(?P<block>\d+)\.factoratt_crpe(?P<coarse>\d)\.(?P<rest>.+)',
            'parallel_blocks.{block}.attn.{coarse}.{rest}',
        ),
        (
            r'parallel_blocks\.(?P<block>\d+)\.norm(?P<norm>\d)(?P<coarse>\d)\.(?P<rest>.+)',
            'parallel_blocks.{block}.norm{norm}.{coarse}.{rest}',
        ),
        (
            r'parallel_blocks\.(?P<block>\d+)\.mlp\d\.(?P<rest>.+)',
            'parallel_blocks.{block}.mlp.{rest}',
        ),
        (r'norm(?P<scale>\d)\.(?P<rest>.+)', 'norms.{scale}.{rest}'),
        (r'(?P<rest>aggregate\..+)', '{rest}'),
    ),
}


def rename_official_key(key: str, family: str) -> str:
    """Rename one key of an authors' ImageNet checkpoint to that of mmpretrain's ImageClassifier.

    Args:
        key: The authors' key, as ``serial_blocks1.0.norm1.weight``.
        family: ``coat``.

    Returns:
        ``backbone.`` and our name of the parameter, or ``head.fc.`` and ``weight`` or ``bias``.

    Raises:
        KeyError: The family's authors have no such key.
    """
    if key in ('head.weight', 'head.bias'):
        return key.replace('head', 'head.fc')
    for pattern, ours in _RULES[family]:
        if match := re.fullmatch(pattern, key):
            groups = match.groupdict()
            for name, first in (('scale', 1), ('coarse', 2)):
                if name in groups:
                    groups[name] = int(groups[name]) - first
            return 'backbone.' + ours.format(**groups)
    raise KeyError(f'{key!r} is no key of a published {family} checkpoint.')


def convert_official(state_dict: Mapping[str, Any], family: str) -> dict[str, Any]:
    """Convert an authors' ImageNet checkpoint to the keys of mmpretrain's ImageClassifier.

    Args:
        state_dict: The authors' keys and tensors.
        family: ``coat``.

    Returns:
        Our keys and the same tensors; of a shared parameter's copies the first.

    Raises:
        KeyError: The family's authors have no such key.
    """
    converted = {}
    for key, value in state_dict.items():
        converted.setdefault(rename_official_key(key, family), value)
    return converted
