"""Necks: between a backbone and what reads its maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from mmvitx.registry import MODELS


@MODELS.register_module()
class ConcatLevels(BaseModule):
    """Give finer maps to heads that were made for a dilated backbone.

    Such a backbone keeps a stride of 8 or 16 to its last stage. Here the coarser levels of a
    pyramid are resized to the finest of their group (bilinear) and concatenated with it, as HRNet
    does before its segmentation head (arXiv 1904.04514, figure 3b). It has no parameters.

    Args:
        groups: For each output the levels that it is made of, from fine to coarse, as indices of
            the input. ``[[0], [0, 1]]`` puts out the first level, and the first two as one map.
        init_cfg: mmengine's.

    Raises:
        ValueError: There is no group, or an empty one.
    """

    def __init__(self, groups: Sequence[Sequence[int]], init_cfg: dict | None = None):
        super().__init__(init_cfg)
        if not groups or not all(groups):
            raise ValueError(f'groups must name levels, as [[0], [0, 1]], not {groups}.')
        self.groups = [list(group) for group in groups]

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Map levels (B, C_i, H_i, W_i) to (B, sum of C_i, H_j, W_j), j the first of each group."""
        return tuple(_concat([maps[i] for i in group]) for group in self.groups)


def _concat(levels):
    size = levels[0].shape[2:]
    resized = (F.interpolate(x, size, mode='bilinear', align_corners=False) for x in levels[1:])
    return torch.cat([levels[0], *resized], dim=1)
