"""CoaT: Co-Scale Conv-Attentional Image Transformers (arXiv 2104.06399, ICCV 2021)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmvitx.models.layers import (
    ConvAttention,
    DepthwiseConv,
    DropPath,
    Mlp,
    PatchEmbed,
    WindowedDepthwiseConv,
    resample_tokens,
)
from mmvitx.registry import MODELS

from .base import STRIDES, VisionBackbone, check_images, init_linear, resolve_arch, to_featmap

NORM_EPS = 1e-6
PATCH_SIZES = (4, 2, 2, 2)  # of the four scales, so that their strides are STRIDES

# The paper's architectures, and lite_medium and small of the authors' repository.
ARCHS = {
    name: dict(embed_dims=dims, serial_depths=depths, parallel_depth=parallel, mlp_ratios=ratios)
    for name, dims, depths, parallel, ratios in (
        ('lite_tiny', (64, 128, 256, 320), (2, 2, 2, 2), 0, (8, 8, 4, 4)),
        ('lite_mini', (64, 128, 320, 512), (2, 2, 2, 2), 0, (8, 8, 4, 4)),
        ('lite_small', (64, 128, 320, 512), (3, 4, 6, 3), 0, (8, 8, 4, 4)),
        ('lite_medium', (128, 256, 320, 512), (3, 6, 10, 8), 0, (4, 4, 4, 4)),
        ('tiny', (152, 152, 152, 152), (2, 2, 2, 2), 6, (4, 4, 4, 4)),
        ('mini', (152, 216, 216, 216), (2, 2, 2, 2), 6, (4, 4, 4, 4)),
        ('small', (152, 320, 320, 320), (2, 2, 2, 2), 6, (4, 4, 4, 4)),
    )
}


class SerialBlock(nn.Module):
    """A block of one scale: position encoding, conv-attention, MLP.

    Args:
        dim: Channels C.
        num_heads: Heads of the attention.
        mlp_ratio: Hidden channels of the MLP over C.
        drop_path_rate: Rate of stochastic depth.
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, drop_path_rate: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = ConvAttention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path_rate)

    def forward(
        self,
        tokens: Sequence[Tensor],
        size: tuple[int, int],
        cpe: DepthwiseConv,
        crpe: WindowedDepthwiseConv | None,
    ) -> list[Tensor]:
        """Update the class token and the image tokens.

        Args:
            tokens: The class token (B, 1, C) and the image tokens (B, H * W, C).
            size: Their grid (H, W).
            cpe: The position encoding that all blocks of the scale share.
            crpe: Their shared relative position encoding; None if only the class token is asked
                for.

        Returns:
            The tokens asked for, updated.
        """
        cls_token, x = tokens
        tokens = cls_token, x + cpe(x, size)
        updates = self.attn(tokens, self.norm1, size, crpe)
        tokens = _add(tokens, self.drop_path(*updates))
        updates = self.mlp(tokens, [self.norm2] * len(tokens))
        return _add(tokens, self.drop_path(*updates))


class ParallelBlock(nn.Module):
    """A block of several scales that exchange what their attention finds.

    The attention outputs of all scales, taken to the grid of each, are added up; the class tokens'
    are added as they are. One MLP serves all scales, with a norm for each.

    Args:
        dim: Channels C, the same at all scales.
        num_scales: Scales, each of half the resolution of the one before.
        num_heads: Heads of the attention.
        mlp_ratio: Hidden channels of the MLP over C.
        drop_path_rate: Rate of stochastic depth.
        out_scales: The scales whose tokens are asked for; those of the others are not to be used.
            All by default.
    """

    def __init__(
        self,
        dim: int,
        num_scales: int,
        num_heads: int,
        mlp_ratio: float,
        drop_path_rate: float,
        out_scales: Sequence[int] | None = None,
    ):
        super().__init__()
        scales = range(num_scales)
        self.out_scales = tuple(scales if out_scales is None else out_scales)
        self.norm1 = nn.ModuleList(nn.LayerNorm(dim, eps=NORM_EPS) for _ in scales)
        self.attn = nn.ModuleList(ConvAttention(dim, num_heads) for _ in scales)
        self.norm2 = nn.ModuleDict(
            {str(i): nn.LayerNorm(dim, eps=NORM_EPS) for i in self.out_scales}
        )
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path_rate)

    def forward(
        self,
        scales: Sequence[Sequence[Tensor]],
        sizes: Sequence[tuple[int, int]],
        cpes: Sequence[DepthwiseConv],
        crpes: Sequence[WindowedDepthwiseConv | None],
    ) -> list[list[Tensor]]:
        """Update the tokens of all scales.

        Args:
            scales: Of each scale, fine to coarse, the class token (B, 1, C) and the image tokens
                (B, H * W, C).
            sizes: The grid (H, W) of each.
            cpes: The position encoding of each, shared with its serial blocks.
            crpes: The relative position encoding of each, likewise; Nones if only the class tokens
                are asked for.

        Returns:
            The tokens asked for, updated.
        """
        scales = [(cls, x + cpe(x, size)) for (cls, x), size, cpe in zip(scales, sizes, cpes)]
        outs = [
            attn(tokens, norm, size, crpe)
            for attn, norm, tokens, size, crpe in zip(self.attn, self.norm1, scales, sizes, crpes)
        ]
        for i in self.out_scales:
            scales[i] = _add(scales[i], self.drop_path(*self._exchange(outs, sizes, i)))

        # The MLP, once over the tokens of all scales.
        groups = [(t, self.norm2[str(i)]) for i in self.out_scales for t in scales[i]]
        updates = iter(self.mlp(*zip(*groups)))
        for i in self.out_scales:
            scales[i] = _add(scales[i], self.drop_path(*(next(updates) for _ in scales[i])))
        return scales

    @staticmethod
    def _exchange(outs, sizes, target):
        """Add up the attention outputs of all scales on the grid of one."""
        cls_out, *image_outs = zip(*outs)
        total = [sum(cls_out)]
        for xs in image_outs:  # none if only the class tokens are asked for
            x = xs[target]
            for source, other in enumerate(xs):
                if source != target:
                    scale = 2.0 ** (source - target)
                    x = x + resample_tokens(other, sizes[source], scale, sizes[target])
            total.append(x)
        return total


@MODELS.register_module()
class CoaT(VisionBackbone):
    """CoaT backbone: four scales by serial blocks, joined by parallel blocks in all but the lite.

    ``raw`` puts out the tokens (B, 1 + H * W, C) of each level in ``out_indices``, the class token
    first. ``cls_token`` is the normed class token of the coarsest scale (lite), or the learned
    weighted sum of those of the three coarser scales. The maps of ``featmap`` have no norm.

    Args:
        arch: ``lite_tiny``, ``lite_mini``, ``lite_small``, ``lite_medium``, ``tiny``, ``mini``,
            ``small``, or a dict with the keys ``embed_dims``, ``serial_depths``,
            ``parallel_depth`` and ``mlp_ratios``, optionally ``num_heads`` (8) and ``crpe_window``
            ({3: 2, 5: 3, 7: 3}: kernel size -> heads).
        in_channels: Channels of the images.
        out_type: ``featmap``, ``cls_token`` or ``raw``.
        out_indices: Pyramid levels of ``featmap`` and ``raw``.
        drop_path_rate: Rate of stochastic depth, the same in all blocks as in the authors' code.
        frozen_stages: -1 nothing, 0 the first patch embedding, n <= 4 everything of the first n
            scales but the parallel blocks; an encoding shared with those stays frozen.
        with_cp: Activation checkpointing of the blocks: less memory, more time.
        init_cfg: mmengine's.

    Raises:
        ValueError: A setting is not among its choices, or the numbers of ``arch`` do not fit each
            other; in ``forward``, the input is no batch of images.

    Source: arXiv 2104.06399; ``src/models/coat.py`` of mlpc-ucsd/CoaT.
    """

    archs = ARCHS
    arch_defaults = dict(num_heads=8, crpe_window={3: 2, 5: 3, 7: 3})

    def __init__(
        self,
        arch: str | Mapping = 'small',
        in_channels: int = 3,
        out_type: str = 'featmap',
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(
            out_type=out_type,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            num_stages=len(STRIDES),
            with_cp=with_cp,
            init_cfg=init_cfg,
        )
        numbers = resolve_arch(arch, self.archs, self.arch_defaults)
        _check_numbers(numbers)
        self.arch, self.in_channels = arch, in_channels

        # What the output needs: all scales if parallel blocks join them, else those up to the last.
        cls_only = out_type == 'cls_token'
        last = len(STRIDES) - 1 if cls_only else self.out_indices[-1]
        parallel_depth = numbers['parallel_depth'] if last > 0 else 0
        num_scales = len(STRIDES) if parallel_depth else last + 1
        dims, depths, ratios = (
            numbers[key][:num_scales] for key in ('embed_dims', 'serial_depths', 'mlp_ratios')
        )
        num_heads = numbers['num_heads']

        self.patch_embeds = nn.ModuleList(
            PatchEmbed(*shape) for shape in zip((in_channels, *dims), dims, PATCH_SIZES)
        )
        self.cls_tokens = nn.ParameterList(
            nn.init.trunc_normal_(torch.empty(1, 1, dim), std=0.02) for dim in dims
        )
        # The encodings are held here, once; the blocks of a scale are handed them.
        self.cpes = nn.ModuleList(DepthwiseConv(dim, 3) for dim in dims)
        self.crpes = nn.ModuleList(
            WindowedDepthwiseConv(dim, num_heads, numbers['crpe_window']) for dim in dims
        )
        self.serial_blocks = nn.ModuleList(
            nn.ModuleList(SerialBlock(dim, num_heads, ratio, drop_path_rate) for _ in range(depth))
            for dim, depth, ratio in zip(dims, depths, ratios)
        )
        # Behind the last parallel block nothing reads a scale that is not asked for.
        asked = range(num_scales - 1) if cls_only else [i - 1 for i in self.out_indices if i > 0]
        self.parallel_blocks = nn.ModuleList(
            ParallelBlock(
                dims[-1],
                num_scales - 1,
                num_heads,
                ratios[-1],
                drop_path_rate,
                out_scales=asked if j == parallel_depth - 1 else None,
            )
            for j in range(parallel_depth)
        )
        if cls_only:
            read = range(1, num_scales) if parallel_depth else [num_scales - 1]
            self.norms = nn.ModuleDict({str(i): nn.LayerNorm(dims[i], eps=NORM_EPS) for i in read})
            if parallel_depth:
                self.aggregate = nn.Conv1d(len(read), 1, kernel_size=1)
            elif depths[-1] == 1:
                del self.crpes[-1]  # its one block puts out the class token alone, without it
            self.out_channels, self.strides = (dims[-1],), ()
        else:
            self.out_channels = tuple(dims[i] for i in self.out_indices)
            self.strides = tuple(STRIDES[i] for i in self.out_indices)

        self.apply(init_linear)
        self.freeze()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map images (B, in_channels, H, W) to what ``out_type`` says."""
        check_images(images, self.in_channels)
        scales, sizes = [], []
        for i, blocks in enumerate(self.serial_blocks):
            x = scales[-1][1].unflatten(1, sizes[-1]) if i else images.permute(0, 2, 3, 1)
            x, size = self.patch_embeds[i](x)
            tokens = self.cls_tokens[i].expand(x.shape[0], -1, -1), x
            del x  # not to hold it while the blocks run
            for block in blocks:
                crpe = None if self._puts_out_cls_only(block) else self.crpes[i]
                tokens = self.run(block, tokens, size, self.cpes[i], crpe)
            scales.append(tokens)
            sizes.append(size)

        for block in self.parallel_blocks:  # they leave the finest scale alone
            crpes = [None if self._puts_out_cls_only(block) else crpe for crpe in self.crpes]
            scales[1:] = self.run(block, scales[1:], sizes[1:], list(self.cpes)[1:], crpes[1:])

        if self.out_type == 'cls_token':
            cls_token = torch.cat([norm(scales[int(i)][0]) for i, norm in self.norms.items()], 1)
            if self.parallel_blocks:
                cls_token = self.aggregate(cls_token)
            return (cls_token.squeeze(1),)
        if self.out_type == 'raw':
            return tuple(torch.cat(scales[i], 1) for i in self.out_indices)
        return tuple(to_featmap(scales[i][1], sizes[i]) for i in self.out_indices)

    def _puts_out_cls_only(self, block):
        last_block = (self.parallel_blocks or self.serial_blocks[-1])[-1]
        return self.out_type == 'cls_token' and block is last_block

    def stage_parts(self, stage: int) -> Iterable[nn.Module | nn.Parameter]:
        """Yield what ``frozen_stages >= stage`` freezes beyond ``frozen_stages = stage - 1``."""
        if stage == 0:
            yield self.patch_embeds[0]
        else:
            parts = self.patch_embeds, self.cls_tokens, self.cpes, self.crpes, self.serial_blocks
            for part in parts:
                yield from list(part)[stage - 1 : stage]

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Tell how deep a parameter lies: see :class:`VisionBackbone`.

        A serial and a parallel block are a layer each; what a scale shares lies as deep as the
        first of its blocks, the patch embedding of the image under all.
        """
        num_layers = sum(map(len, self.serial_blocks)) + len(self.parallel_blocks) + 2
        name = param_name[len(prefix) :] if param_name.startswith(prefix) else ''
        part, *indices = name.split('.')[:3]
        before = [sum(map(len, self.serial_blocks[:i])) for i in range(len(self.serial_blocks) + 1)]
        if part == 'serial_blocks':
            return before[int(indices[0])] + int(indices[1]) + 1, num_layers
        if part == 'parallel_blocks':
            return before[-1] + int(indices[0]) + 1, num_layers
        if part in ('patch_embeds', 'cls_tokens', 'cpes', 'crpes'):
            scale = int(indices[0])
            is_first = part == 'patch_embeds' and scale == 0
            return 0 if is_first else before[scale] + 1, num_layers
        return num_layers - 1, num_layers


def _add(tokens, updates):
    return [t + update for t, update in zip(tokens, updates)]


def _check_numbers(numbers):
    dims, depths, ratios = (numbers[key] for key in ('embed_dims', 'serial_depths', 'mlp_ratios'))
    num_heads = numbers['num_heads']
    if not len(dims) == len(depths) == len(ratios) == len(STRIDES):
        raise ValueError(
            f'embed_dims, serial_depths and mlp_ratios need {len(STRIDES)} numbers each, one a '
            f'scale, not {dims}, {depths} and {ratios}.'
        )
    if any(dim % num_heads for dim in dims):
        raise ValueError(f'num_heads={num_heads} must divide every width in embed_dims={dims}.')
    if min(depths) < 1 or numbers['parallel_depth'] < 0:
        raise ValueError(
            'serial_depths must be at least 1 and parallel_depth at least 0, '
            f'not {depths} and {numbers["parallel_depth"]}.'
        )
    if numbers['parallel_depth'] and not (len(set(dims[1:])) == len(set(ratios[1:])) == 1):
        raise ValueError(
            'Parallel blocks need equal widths and MLP ratios at the scales 2 to 4, which share '
            f'one MLP; not embed_dims={dims} with mlp_ratios={ratios}.'
        )
