"""How the checkpoints of the authors, and of timm, become ours: names of parameters, no modules."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

# Of each family: a key that only its published files have, and (pattern of their key, our key).
# {scale} and {coarse} are the authors' number of a scale, counted from 0 at their scale 1 and 2.
# Where several of their keys name one parameter, as CoaT's encodings and MLPs that are shared do,
# all become the same key of ours.
_FAMILIES = {
    'coat': (
        'serial_blocks1.0.norm1.weight',
        (
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
    ),
    'crossvit': (
        'blocks.0.fusion.0.attn.wq.weight',
        (
            (r'(?P<part>pos_embed|cls_token)[._](?P<branch>\d+)', '{part}.{branch}'),  # timm: _
            (r'(?P<part>blocks\.\d+\.fusion\..+\.attn)\.w(?P<rest>[qkv]\..+)', '{part}.{rest}'),
            (r'(?P<rest>(patch_embed|blocks|norm)\..+)', '{rest}'),
        ),
    ),
    'cait': (
        'blocks_token_only.0.attn.q.weight',
        (
            (r'(?P<rest>cls_token|pos_embed)', '{rest}'),
            (r'(?P<rest>(patch_embed|blocks|blocks_token_only|norm)\..+)', '{rest}'),
        ),
    ),
}
_BACKBONE = 'backbone.'
_HEAD = 'head.fc.'  # of mmpretrain's LinearClsHead


class Converted(NamedTuple):
    """A published checkpoint under our names.

    Attributes:
        family: ``coat``, ``crossvit`` or ``cait``.
        state_dict: Our names and the tensors: the backbone's begin with ``backbone.``, as in
            every model of OpenMMLab, a classifier's with ``head.fc.``.
        renamed: The name in the file -> ours.
        copies: The names in the file of further copies of shared parameters -> ours.
        unknown: The names in the file that no published checkpoint of the family has.
    """

    family: str
    state_dict: dict[str, Tensor]
    renamed: dict[str, str]
    copies: dict[str, str]
    unknown: list[str]

    def report(self) -> str:
        """Say in a line what became of the file."""
        total = len(self.renamed) + len(self.copies) + len(self.unknown)
        text = f'published checkpoint of {self.family}: {total} tensors become '
        text += f'{len(self.state_dict)}, {count_parts(self.state_dict)}'
        if self.copies:
            text += f'; {len(self.copies)} are copies of shared parameters'
        if self.unknown:
            text += f'; dropped, as no published {self.family} has them: {", ".join(self.unknown)}'
        return text


def count_parts(names: Iterable[str]) -> str:
    """Count names by the part of a model that they begin with, as ``backbone (326), head (2)``."""
    counts = Counter(name.split('.')[0] for name in names)
    return ', '.join(f'{part} ({number})' for part, number in counts.items())


def _recognize(names):
    """Tell the family, and the prefix of the backbone, by the names; None if it is none of theirs.

    The prefix is empty in an ImageNet checkpoint of the authors or of timm, and ``backbone.`` in a
    detector.
    """
    for family, (signature, _) in _FAMILIES.items():
        for prefix in ('', _BACKBONE):
            if prefix + signature in names:
                return family, prefix
    return None


def _rename(key, family):
    """Give our name of a key of an ImageNet checkpoint, None if the family has no such key."""
    if match := re.fullmatch(r'head\.(?:\d+\.)?(weight|bias)', key):
        return _HEAD + match[1]
    for pattern, ours in _FAMILIES[family][1]:
        if match := re.fullmatch(pattern, key):
            groups = match.groupdict()
            for name, first in (('scale', 1), ('coarse', 2)):
                if name in groups:
                    groups[name] = int(groups[name]) - first
            return _BACKBONE + ours.format(**groups)
    return None


def convert_official(weights: Mapping[str, Tensor]) -> Converted | None:
    """Convert a published checkpoint to our names.

    It can be the ImageNet checkpoint of the authors (CaiT's with its ``module.``) or of timm, or a
    detector of the authors in MMDetection 2.x, whose other parts have the names of MMDetection 3.x.
    CrossViT's logits are the mean of a head a branch, which is one head on the concatenated tokens.

    Args:
        weights: The names and tensors of the file.

    Returns:
        The same tensors under our names, of a shared parameter's copies the first; None if the file
        is none of theirs.
    """
    module = 'module.' if all(name.startswith('module.') for name in weights) else ''
    recognized = _recognize({name[len(module) :] for name in weights})
    if recognized is None:
        return None
    family, prefix = recognized
    renamed, copies, unknown = {}, {}, []
    sources = {}  # our name -> those in the file
    for name in weights:
        key = name[len(module) :]
        ours = _rename(key[len(prefix) :], family) if key.startswith(prefix) else key
        if ours is None:
            unknown.append(name)
        elif ours in sources and not ours.startswith(_HEAD):
            copies[name] = ours
        else:
            renamed[name] = ours
            sources.setdefault(ours, []).append(name)
    state_dict = {
        ours: _join_heads([weights[name] for name in names])
        if len(names) > 1
        else weights[names[0]]
        for ours, names in sources.items()
    }
    return Converted(family, state_dict, renamed, copies, unknown)


def _join_heads(heads: list[Tensor]) -> Tensor:
    """Make one linear head of several whose logits are averaged: weights (K, C_i), biases (K)."""
    if heads[0].ndim == 2:
        return torch.cat(heads, dim=1) / len(heads)
    return torch.stack(heads).mean(dim=0)
