"""CaiT: Going deeper with Image Transformers (arXiv 2103.17239, ICCV 2021)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmvitx.models.layers import (
    ClassAttention,
    DropPath,
    Mlp,
    PatchEmbed,
    PositionEmbeddingResizer,
    Pyramid,
    TalkingHeadsAttention,
)
from mmvitx.registry import MODELS

from .base import STRIDES, VisionBackbone, check_images, init_linear, resolve_arch

NORM_EPS = 1e-6
PATCH_SIZE = 16

# The paper's table 1, and xxs36's LayerScale of the authors' code.
ARCHS = {
    'xxs24': dict(embed_dim=192, depth=24, num_heads=4),
    'xxs36': dict(embed_dim=192, depth=36, num_heads=4, layer_scale_init=1e-5),
    'xs24': dict(embed_dim=288, depth=24, num_heads=6),
    's24': dict(embed_dim=384, depth=24, num_heads=8),
    's36': dict(embed_dim=384, depth=36, num_heads=8),
    'm36': dict(embed_dim=768, depth=36, num_heads=16),
    'm48': dict(embed_dim=768, depth=48, num_heads=16),
}


class SelfAttentionBlock(nn.Module):
    r"""A block of the patch tokens, LayerScale on both branches (equation 4).

    .. math::
        x' = x + \gamma_1 \circ \mathrm{SA}(\mathrm{norm}(x)), \quad
        x'' = x' + \gamma_2 \circ \mathrm{MLP}(\mathrm{norm}(x'))

    Args:
        dim: Channels C.
        num_heads: Heads of the attention.
        mlp_ratio: Hidden channels of the MLP over C.
        layer_scale_init: What :math:`\gamma_1` and :math:`\gamma_2` start from.
        drop_path_rate: Rate of stochastic depth.
        window_size: Side, in tokens, of the windows of the attention; None for global attention.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        layer_scale_init: float,
        drop_path_rate: float,
        window_size: int | None = None,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = TalkingHeadsAttention(dim, num_heads, window_size)
        self.gamma_1 = nn.Parameter(torch.full((dim,), float(layer_scale_init)))
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.gamma_2 = nn.Parameter(torch.full((dim,), float(layer_scale_init)))
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Update the patch tokens (B, H * W, C) of the grid ``size`` (H, W)."""
        (update,) = self.drop_path(self.gamma_1 * self.attn(self.norm1(x), size))
        x = x + update
        (update,) = self.mlp([x], [self.norm2])
        (update,) = self.drop_path(self.gamma_2 * update)
        return x + update


class ClassAttentionBlock(nn.Module):
    """A block of the class token, which attends to itself and the patch tokens (section 3).

    Args:
        dim: Channels C.
        num_heads: Heads of the attention.
        mlp_ratio: Hidden channels of the MLP over C.
        layer_scale_init: What the LayerScale of both branches starts from.
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, layer_scale_init: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = ClassAttention(dim, num_heads)
        self.gamma_1 = nn.Parameter(torch.full((dim,), float(layer_scale_init)))
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.gamma_2 = nn.Parameter(torch.full((dim,), float(layer_scale_init)))

    def forward(self, cls_token: Tensor, x: Tensor) -> Tensor:
        """Update the class token (B, 1, C), reading the patch tokens (B, N, C)."""
        tokens = self.norm1(torch.cat((cls_token, x), 1))
        cls_token = cls_token + self.gamma_1 * self.attn(tokens[:, :1], tokens)
        (update,) = self.mlp([cls_token], [self.norm2])
        return cls_token + self.gamma_2 * update


@MODELS.register_module()
class CaiT(VisionBackbone):
    """CaiT backbone: a deep transformer of stride 16, and class attention behind it.

    ``featmap`` taps the patch tokens after some of the blocks, norms them and takes them to the
    strides of the pyramid. ``cls_token`` is the normed class token after class attention. ``raw``
    puts out the patch tokens (B, N, C) after the last block of self-attention, without norm.

    Args:
        arch: ``xxs24``, ``xxs36``, ``xs24``, ``s24``, ``s36``, ``m36``, ``m48``, or a dict with the
            keys ``embed_dim``, ``depth`` and ``num_heads``, optionally ``mlp_ratio`` (4),
            ``depth_token_only`` (2: blocks of class attention) and ``layer_scale_init`` (by the
            authors' rule: 0.1 up to depth 18, 1e-5 up to 24, 1e-6 beyond).
        in_channels: Channels of the images.
        img_size: Side of the images that the position embedding is for, and that of a checkpoint
            gets resized to; images themselves can have any size.
        out_type: ``featmap``, ``cls_token`` or ``raw``.
        out_indices: Pyramid levels of ``featmap``.
        taps: After how many blocks each level of ``out_indices`` is taken; by default after a
            quarter, half, three quarters and all of them for the levels 0..3, whichever of them are
            asked for. Blocks behind the last one are not built.
        window_size: For large images: side, in tokens, of windows that attend to themselves only,
            in all but ``num_global_blocks`` blocks. None, as in the paper, for global attention in
            all. The weights are the same.
        num_global_blocks: Of windowed attention: how many of the ``depth`` blocks, at even
            distances up to the last, attend globally (4 in ViTDet, arXiv 2203.16527).
        drop_path_rate: Rate of stochastic depth, the same in all blocks of self-attention; those of
            class attention have none.
        frozen_stages: -1 nothing, 0 the patch and position embedding, n also the first n blocks.
        with_cp: Activation checkpointing of the blocks: less memory, more time.
        init_cfg: mmengine's.

    Raises:
        ValueError: A setting is not among its choices, or numbers do not fit each other.
    """

    archs = ARCHS
    decays_by_layer = True
    arch_defaults = dict(mlp_ratio=4, depth_token_only=2, layer_scale_init=None)

    def __init__(
        self,
        arch: str | Mapping = 'xxs24',
        in_channels: int = 3,
        img_size: int = 224,
        out_type: str = 'featmap',
        out_indices: Sequence[int] = (0, 1, 2, 3),
        taps: Sequence[int] | None = None,
        window_size: int | None = None,
        num_global_blocks: int = 4,
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: dict | None = None,
    ):
        numbers = resolve_arch(arch, self.archs, self.arch_defaults)
        _check_numbers(numbers)
        dim, depth, num_heads = (numbers[key] for key in ('embed_dim', 'depth', 'num_heads'))
        super().__init__(
            out_type=out_type,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            num_stages=depth,
            with_cp=with_cp,
            init_cfg=init_cfg,
        )
        if img_size < PATCH_SIZE or img_size % PATCH_SIZE:
            raise ValueError(
                f'img_size must be a multiple of the patch size {PATCH_SIZE}, not {img_size}; '
                'the images themselves can have any size.'
            )
        if taps is None:
            taps = [-(-depth * (i + 1) // len(STRIDES)) for i in self.out_indices]
        if (
            isinstance(taps, int)
            or len(taps) != len(self.out_indices)
            or not all(isinstance(tap, int) and 0 < tap <= depth for tap in taps)
        ):
            raise ValueError(
                f'taps must say after how many of the {depth} blocks each of the levels '
                f'{self.out_indices} is taken, as {len(self.out_indices)} numbers out of '
                f'1..{depth}, not {taps}.'
            )
        if window_size is not None and not (isinstance(window_size, int) and window_size > 0):
            raise ValueError(
                f'window_size must be a number of tokens, at least 1, or None, not {window_size}.'
            )
        if num_global_blocks < 0:
            raise ValueError(f'num_global_blocks must be at least 0, not {num_global_blocks}.')
        self.arch, self.in_channels = arch, in_channels
        self.grid = (img_size // PATCH_SIZE,) * 2  # of the position embedding
        self.taps = tuple(taps) if out_type == 'featmap' else ()
        layer_scale_init = numbers['layer_scale_init']
        if layer_scale_init is None:
            layer_scale_init = 0.1 if depth <= 18 else 1e-5 if depth <= 24 else 1e-6

        self.patch_embed = PatchEmbed(in_channels, dim, PATCH_SIZE, norm_eps=None)
        self.pos_embed = nn.Parameter(torch.empty(1, self.grid[0] * self.grid[1], dim))
        self.resize_pos_embed = PositionEmbeddingResizer(source_size=self.grid)
        self.blocks = nn.ModuleList(
            SelfAttentionBlock(
                dim,
                num_heads,
                numbers['mlp_ratio'],
                layer_scale_init,
                drop_path_rate,
                None if _is_global(i, depth, num_global_blocks) else window_size,
            )
            for i in range(max(self.taps, default=depth))
        )
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.out_channels, self.strides = (dim,), (PATCH_SIZE,)
        if out_type == 'featmap':
            # By level, so that fewer levels have the same names.
            self.tap_norms = nn.ModuleDict(
                {str(i): nn.LayerNorm(dim, eps=NORM_EPS) for i in self.out_indices}
            )
            self.out_channels *= len(taps)
            self.strides = tuple(STRIDES[i] for i in self.out_indices)
            self.pyramid = Pyramid(self.out_channels, [PATCH_SIZE] * len(taps), self.strides)
        elif out_type == 'cls_token':
            self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
            self.blocks_token_only = nn.ModuleList(
                ClassAttentionBlock(dim, num_heads, numbers['mlp_ratio'], layer_scale_init)
                for _ in range(numbers['depth_token_only'])
            )
            self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
            self.strides = ()
            nn.init.trunc_normal_(self.cls_token, std=0.02)

        self.apply(init_linear)
        self.freeze()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map images (B, in_channels, H, W) to what ``out_type`` says."""
        check_images(images, self.in_channels)
        x, size = self.patch_embed(images.permute(0, 2, 3, 1))  # (B, N, C), (H / 16, W / 16)
        x = x + self.resize_pos_embed(self.pos_embed, size)
        tapped = {}
        for i, block in enumerate(self.blocks, start=1):
            x = self.run(block, x, size)
            if i in self.taps:
                tapped[i] = x

        if self.out_type == 'raw':
            return (x,)
        if self.out_type == 'cls_token':
            cls_token = self.cls_token.expand(x.shape[0], -1, -1)
            for block in self.blocks_token_only:
                cls_token = self.run(block, cls_token, x)
            return (self.norm(cls_token).squeeze(1),)
        levels = [norm(tapped[tap]) for norm, tap in zip(self.tap_norms.values(), self.taps)]
        return self.pyramid(levels, images.shape[2:])

    def position_embeddings(self) -> Mapping[str, tuple[int, tuple[int, int]]]:
        """Name the position embedding, with its number of extra tokens and its grid (H, W)."""
        return {'pos_embed': (0, self.grid)}

    def stage_parts(self, stage: int) -> Iterable[nn.Module | nn.Parameter]:
        """Yield what ``frozen_stages >= stage`` freezes beyond ``frozen_stages = stage - 1``."""
        if stage == 0:
            yield from (self.patch_embed, self.pos_embed)
        else:
            yield from self.blocks[stage - 1 : stage]

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Tell how deep a parameter lies: see :class:`VisionBackbone`.

        Each block is a layer, of class attention too; the class token lies as deep as the first of
        those, the embeddings under all.
        """
        num_class_blocks = len(self.blocks_token_only) if self.out_type == 'cls_token' else 0
        num_layers = len(self.blocks) + num_class_blocks + 2
        name = param_name[len(prefix) :] if param_name.startswith(prefix) else ''
        part, *indices = name.split('.')[:2]
        if part in ('patch_embed', 'pos_embed'):
            return 0, num_layers
        if part == 'blocks':
            return int(indices[0]) + 1, num_layers
        if part in ('cls_token', 'blocks_token_only'):
            index = int(indices[0]) if indices else 0
            return len(self.blocks) + index + 1, num_layers
        return num_layers - 1, num_layers


def _is_global(index, depth, num_global_blocks):
    """Tell the last of each of as many equal parts of the depth."""
    return (index + 1) * num_global_blocks // depth > index * num_global_blocks // depth


def _check_numbers(numbers):
    dim, depth, num_heads = (numbers[key] for key in ('embed_dim', 'depth', 'num_heads'))
    if num_heads < 1 or dim % num_heads:
        raise ValueError(f'num_heads={num_heads} must divide embed_dim={dim}.')
    if depth < 1 or numbers['depth_token_only'] < 1:
        raise ValueError(
            'depth and depth_token_only must be at least 1, '
            f'not {depth} and {numbers["depth_token_only"]}.'
        )
