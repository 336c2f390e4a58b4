"""CrossViT: Cross-Attention Multi-Scale Vision Transformer (arXiv 2103.14899, ICCV 2021)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmvitx.models.layers import (
    ClassAttention,
    DropPath,
    Mlp,
    PatchEmbed,
    PositionEmbeddingResizer,
    Pyramid,
    SelfAttention,
    ceil_div,
    pad_to,
    resample_tokens,
)
from mmvitx.registry import MODELS

from .base import STRIDES, VisionBackbone, check_images, init_linear, resolve_arch

NORM_EPS = 1e-6
PYRAMID_STRIDES = (8, 16)  # that the pyramid starts from
COARSE_SCALES = {240: 224 / 240, 408: 384 / 408}  # image size -> scale of the coarse branch's view

# The paper's architectures. The dagger ones embed patches by three convolutions.
ARCHS = {
    name: dict(embed_dims=dims, depths=(1, depth, 0), num_heads=(heads,) * 2, mlp_ratios=ratios)
    for name, dims, depth, heads, ratios in (
        ('tiny', (96, 192), 4, 3, (4, 4)),
        ('small', (192, 384), 4, 6, (4, 4)),
        ('base', (384, 768), 4, 12, (4, 4)),
        ('9', (128, 256), 3, 4, (3, 3)),
        ('15', (192, 384), 5, 6, (3, 3)),
        ('18', (224, 448), 6, 7, (3, 3)),
    )
}
ARCHS.update({f'{name}_dagger': dict(ARCHS[name], conv_embed=True) for name in ('9', '15', '18')})


class ConvPatchEmbed(nn.Module):
    """Embed patches by three convolutions with ReLU between them (the dagger models).

    A map whose sides ``patch_size`` does not divide gets zeros at the right and the bottom.

    Args:
        in_channels: Channels of the images.
        dim: Channels C of the tokens.
        patch_size: 12 or 16: stride 4, then 3 and 1, or 2 and 2.
    """

    kernels = {12: ((7, 4, 3), (3, 3, 0), (3, 1, 1)), 16: ((7, 4, 3), (3, 2, 1), (3, 2, 1))}

    def __init__(self, in_channels: int, dim: int, patch_size: int):
        super().__init__()
        self.patch_size = patch_size
        dims = (in_channels, dim // 4, dim // 2, dim)
        convs = [nn.Conv2d(*pair, *k) for *pair, k in zip(dims, dims[1:], self.kernels[patch_size])]
        self.proj = nn.Sequential(convs[0], nn.ReLU(), convs[1], nn.ReLU(), convs[2])

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Embed a channels-last map: see :meth:`PatchEmbed.forward`."""
        p = self.patch_size
        x = pad_to(x, [ceil_div(side, p) * p for side in x.shape[1:3]])
        x = self.proj(x.permute(0, 3, 1, 2))
        x = x.to(self.proj[0].weight.dtype)
        return x.flatten(2).transpose(1, 2), tuple(x.shape[2:])


class EncoderLayer(nn.Module):
    """A transformer encoder layer of one branch: self-attention and MLP, each after a norm.

    Args:
        dim: Channels C.
        num_heads: Heads of the attention.
        mlp_ratio: Hidden channels of the MLP over C.
        drop_path_rate: Rate of stochastic depth.
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, drop_path_rate: float):
        super().__init__()
        self.norm1 = _norm(dim)
        self.attn = SelfAttention(dim, num_heads)
        self.norm2 = _norm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, 1 + N, C) to tokens (B, 1 + N, C)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))[0]
        return x + self.drop_path(*self.mlp([x], [self.norm2]))[0]


class CrossAttentionLayer(nn.Module):
    """Cross-attention: a class token attends to itself and to the patch tokens of another branch.

    Args:
        dim: Channels C of the other branch, to which the class token was projected.
        num_heads: Heads of the attention.
        drop_path_rate: Rate of stochastic depth.
    """

    def __init__(self, dim: int, num_heads: int, drop_path_rate: float):
        super().__init__()
        self.norm1 = _norm(dim)
        self.attn = ClassAttention(dim, num_heads)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, cls_token: Tensor, tokens: Tensor) -> Tensor:
        """Update the class token (equation 5 of the paper).

        Args:
            cls_token: (B, 1, C).
            tokens: The other branch's (B, 1 + N, C); their class token is not looked at.

        Returns:
            (B, 1, C).
        """
        x = self.norm1(torch.cat((cls_token, tokens[:, 1:]), 1))
        return cls_token + self.drop_path(self.attn(x[:, :1], x))[0]


class CrossAttentionStack(nn.ModuleList):
    """Several cross-attention layers, each of which attends to the patch tokens.

    In the authors' code those behind the first see nothing but the class token.
    """

    def forward(self, cls_token: Tensor, tokens: Tensor) -> Tensor:
        """Update the class token: see :meth:`CrossAttentionLayer.forward`."""
        for layer in self:
            cls_token = layer(cls_token, tokens)
        return cls_token


class Tokens(NamedTuple):
    """The tokens of one branch, or whether they are needed; None and False where they are not."""

    cls_token: Tensor | bool | None  # (B, 1, C)
    patches: Tensor | bool | None  # (B, N, C)


class MultiScaleBlock(nn.Module):
    """A multi-scale transformer encoder: encoder layers of each branch, then a fusion.

    A fusion is a subclass. What no one reads is not built.

    Args:
        embed_dims: Channels C_b of the branches.
        depths: Encoder layers of each branch, and cross-attention layers.
        num_heads: Heads of each branch.
        mlp_ratios: Of each branch.
        drop_path_rates: Of the encoder layers at each position; the last is the fusion's too.
        strides: Pixels of the image a step of each branch's grid stands for.
        needs: What is read of each branch behind this block.
    """

    def __init__(
        self,
        embed_dims: Sequence[int],
        depths: Sequence[int],
        num_heads: Sequence[int],
        mlp_ratios: Sequence[float],
        drop_path_rates: Sequence[float],
        strides: Sequence[float],
        needs: Sequence[Tokens],
    ):
        super().__init__()
        self.strides = strides
        self.needs = needs
        self.blocks = nn.ModuleDict(
            {
                str(b): nn.ModuleList(
                    EncoderLayer(embed_dims[b], num_heads[b], mlp_ratios[b], rate)
                    for rate in drop_path_rates[: depths[b]]
                )
                for b, read in enumerate(self.reads(needs))
                if any(read)
            }
        )
        self.build_fusion(embed_dims, num_heads, depths[-1], drop_path_rates[-1])

    # To be given by a fusion. --------------------------------------------------------------------

    @staticmethod
    @abstractmethod
    def reads(needs: Sequence[Tokens]) -> list[Tokens]:
        """Tell what the fusion reads of each branch's encoder to give what is needed."""

    @abstractmethod
    def build_fusion(
        self,
        embed_dims: Sequence[int],
        num_heads: Sequence[int],
        num_layers: int,
        drop_path_rate: float,
    ) -> None:
        """Build the parts that give what ``self.needs`` says."""

    @abstractmethod
    def fuse(
        self, encoded: Mapping[int, Tensor], sizes: Mapping[int, tuple[int, int]]
    ) -> dict[int, Tokens]:
        """Fuse the branches.

        Args:
            encoded: Of each branch that is read, what its encoder puts out, (B, 1 + N_b, C_b).
            sizes: The grid (H, W) of each.

        Returns:
            Of each branch that is needed the tokens that are.
        """

    # What they have in common. -------------------------------------------------------------------

    def forward(
        self,
        tokens: Mapping[int, Tokens],
        sizes: Mapping[int, tuple[int, int]],
        run: Callable[..., Tensor],
    ) -> dict[int, Tokens]:
        """Update the tokens of all branches.

        Args:
            tokens: Of each branch.
            sizes: The grid (H, W) of each.
            run: What runs a part, with activation checkpointing or without.

        Returns:
            Of each branch that is needed the tokens that are.
        """
        encoded = {}
        for b, layers in self.blocks.items():
            x = torch.cat(tokens[int(b)], 1)
            for layer in layers:
                x = run(layer, x)
            encoded[int(b)] = x
        return run(self.fuse, encoded, sizes)

    def needed(self, part: str) -> list[int]:
        """List the branches whose ``cls_token`` or ``patches`` are needed behind this block."""
        return [b for b, need in enumerate(self.needs) if getattr(need, part)]


class CrossAttentionBlock(MultiScaleBlock):
    """Fusion by cross-attention, the paper's own (figure 3d).

    The class token of branch b, projected to the width of branch b + 1, attends to the patch tokens
    there and is projected back; the branches form a ring. Patch tokens stay as they are.
    """

    @staticmethod
    def reads(needs: Sequence[Tokens]) -> list[Tokens]:
        """Tell what the fusion reads of each branch's encoder to give what is needed."""
        return [
            Tokens(need.cls_token, need.patches or needs[b - 1].cls_token)
            for b, need in enumerate(needs)
        ]

    def build_fusion(
        self,
        embed_dims: Sequence[int],
        num_heads: Sequence[int],
        num_layers: int,
        drop_path_rate: float,
    ) -> None:
        """Build the parts that give what ``self.needs`` says."""
        self.projs = nn.ModuleDict()
        self.fusion = nn.ModuleDict()
        self.revert_projs = nn.ModuleDict()
        for b in self.needed('cls_token'):
            other = (b + 1) % len(embed_dims)
            layers = [
                CrossAttentionLayer(embed_dims[other], num_heads[other], drop_path_rate)
                for _ in range(max(num_layers, 1))
            ]
            self.projs[str(b)] = _projection(embed_dims[b], embed_dims[other])
            self.fusion[str(b)] = CrossAttentionStack(layers) if num_layers else layers[0]
            self.revert_projs[str(b)] = _projection(embed_dims[other], embed_dims[b])

    def fuse(
        self, encoded: Mapping[int, Tensor], sizes: Mapping[int, tuple[int, int]]
    ) -> dict[int, Tokens]:
        """Fuse the branches: see :meth:`MultiScaleBlock.fuse`."""
        cls_tokens = {}
        for b in self.needed('cls_token'):
            x = self.projs[str(b)](encoded[b][:, :1])
            x = self.fusion[str(b)](x, encoded[(b + 1) % len(self.needs)])
            cls_tokens[b] = self.revert_projs[str(b)](x)
        return _join(cls_tokens, {b: encoded[b][:, 1:] for b in self.needed('patches')})


class ClassTokenBlock(MultiScaleBlock):
    """Fusion by class tokens (figure 3b): to each are added those of the other branches, projected.

    Patch tokens stay as they are.
    """

    @staticmethod
    def reads(needs: Sequence[Tokens]) -> list[Tokens]:
        """Tell what the fusion reads of each branch's encoder to give what is needed."""
        any_cls = any(need.cls_token for need in needs)
        return [Tokens(any_cls, need.patches) for need in needs]

    def build_fusion(
        self,
        embed_dims: Sequence[int],
        num_heads: Sequence[int],
        num_layers: int,
        drop_path_rate: float,
    ) -> None:
        """Build the parts that give what ``self.needs`` says."""
        self.projs = nn.ModuleDict()  # to a branch: from each other branch
        for b in self.fused():
            self.projs[str(b)] = nn.ModuleDict(
                {
                    str(other): _projection(dim, embed_dims[b])
                    for other, dim in enumerate(embed_dims)
                    if other != b
                }
            )

    def fused(self) -> list[int]:
        """List the branches to which others are added."""
        return self.needed('cls_token')

    def fuse(
        self, encoded: Mapping[int, Tensor], sizes: Mapping[int, tuple[int, int]]
    ) -> dict[int, Tokens]:
        """Fuse the branches: see :meth:`MultiScaleBlock.fuse`."""
        cls_tokens = {
            b: encoded[b][:, :1]
            + sum(proj(encoded[int(i)][:, :1]) for i, proj in self.projs[str(b)].items())
            for b in self.needed('cls_token')
        }
        patches = {b: self.fuse_patches(b, encoded, sizes) for b in self.needed('patches')}
        return _join(cls_tokens, patches)

    def fuse_patches(
        self, b: int, encoded: Mapping[int, Tensor], sizes: Mapping[int, tuple[int, int]]
    ) -> Tensor:
        """Give the patch tokens (B, N_b, C_b) of branch b."""
        return encoded[b][:, 1:]


class PairwiseBlock(ClassTokenBlock):
    """Pairwise fusion (figure 3c): class tokens are added as above, and patch tokens likewise.

    The same projections serve both. Patch tokens are resampled bilinearly to the grid of the branch
    that they are added to, so that each meets those of its place in the image.
    """

    @staticmethod
    def reads(needs: Sequence[Tokens]) -> list[Tokens]:
        """Tell what the fusion reads of each branch's encoder to give what is needed."""
        return [Tokens(*map(any, zip(*needs)))] * len(needs)

    def fused(self) -> list[int]:
        """List the branches to which others are added."""
        return [b for b, need in enumerate(self.needs) if any(need)]

    def fuse_patches(
        self, b: int, encoded: Mapping[int, Tensor], sizes: Mapping[int, tuple[int, int]]
    ) -> Tensor:
        """Give the patch tokens (B, N_b, C_b) of branch b."""
        total = encoded[b][:, 1:]
        for other, proj in self.projs[str(b)].items():
            i = int(other)
            x = proj(encoded[i][:, 1:])
            scale = self.strides[i] / self.strides[b]
            total = total + resample_tokens(x, sizes[i], scale, sizes[b])
        return total


class AllAttentionBlock(MultiScaleBlock):
    """Fusion by all-attention (figure 3a): one self-attention over the tokens of all branches.

    They are projected to the width of the widest branch and back.
    """

    @staticmethod
    def reads(needs: Sequence[Tokens]) -> list[Tokens]:
        """Tell what the fusion reads of each branch's encoder to give what is needed."""
        return [Tokens(True, True)] * len(needs)

    def build_fusion(
        self,
        embed_dims: Sequence[int],
        num_heads: Sequence[int],
        num_layers: int,
        drop_path_rate: float,
    ) -> None:
        """Build the parts that give what ``self.needs`` says."""
        width, heads = max(zip(embed_dims, num_heads))
        self.projs = nn.ModuleDict(
            {str(b): _projection(dim, width) for b, dim in enumerate(embed_dims)}
        )
        self.norm1 = _norm(width)
        self.attn = SelfAttention(width, heads)
        self.drop_path = DropPath(drop_path_rate)
        self.revert_projs = nn.ModuleDict(
            {
                str(b): _projection(width, dim)
                for b, dim in enumerate(embed_dims)
                if any(self.needs[b])
            }
        )

    def fuse(
        self, encoded: Mapping[int, Tensor], sizes: Mapping[int, tuple[int, int]]
    ) -> dict[int, Tokens]:
        """Fuse the branches: see :meth:`MultiScaleBlock.fuse`."""
        x = torch.cat([self.projs[str(b)](tokens) for b, tokens in encoded.items()], 1)
        x = x + self.drop_path(self.attn(self.norm1(x)))[0]
        parts = dict(zip(encoded, x.split([tokens.shape[1] for tokens in encoded.values()], 1)))
        cls_tokens, patches = (
            {b: self.revert_projs[str(b)](parts[b][:, places]) for b in self.needed(part)}
            for part, places in (('cls_token', slice(1)), ('patches', slice(1, None)))
        )
        return _join(cls_tokens, patches)


FUSIONS = {
    'cross-attention': CrossAttentionBlock,
    'class-token': ClassTokenBlock,
    'pairwise': PairwiseBlock,
    'all-attention': AllAttentionBlock,
}


@MODELS.register_module()
class CrossViT(VisionBackbone):
    """CrossViT backbone: branches with patches of different sizes, fused after each few layers.

    Each branch has its own view of the image: by default the first the image itself, with patches
    of 12 pixels, the second the image resized bicubically to 224/240 of it, with patches of 16.

    ``featmap`` takes each level from the branch of the nearest stride: its last patch tokens are
    normed, resampled bilinearly to a stride of exactly 8 (levels 0 and 1) or 16 (levels 2 and 3),
    which is left out where the branch has one of the two by itself, and taken to the level by
    :class:`Pyramid`. The default branches have strides of 12 and 17.1: the first serves the levels
    0 and 1, the second 2 and 3. ``cls_token`` puts out the class tokens of all branches, normed and
    concatenated; ``raw`` the tokens (B, 1 + N_b, C_b) of all branches, the class token first,
    without the norm and whatever ``out_indices`` says.

    Args:
        arch: ``tiny``, ``small``, ``base``, ``9``, ``15``, ``18``, ``9_dagger``, ``15_dagger``,
            ``18_dagger``, or a dict with the keys ``embed_dims``, ``depths`` (the encoder layers of
            each branch, and the cross-attention layers: 0 means one), ``num_heads`` and
            ``mlp_ratios``, optionally ``num_blocks`` (3), ``patch_sizes`` (12, 16) and
            ``conv_embed`` (False; the daggers' embedding by three convolutions). Two branches or
            more.
        img_size: Side of the images that the position embeddings are made for: 240, or 408 for the
            weights called 384. Other images work too; the embeddings are resized bicubically.
        view_scales: Size of each branch's view over that of the image, so that the stride of a
            branch is its patch size over its scale: patches of 12 at 1.5 have a stride of 8. By
            default 1, and for the second of two branches 224/240, or 384/408 if ``img_size`` is
            408.
        fusion: ``cross-attention``, ``class-token``, ``pairwise`` or ``all-attention``, the schemes
            of the paper's figure 3.
        in_channels: Channels of the images.
        out_type: ``featmap``, ``cls_token`` or ``raw``.
        out_indices: Pyramid levels of ``featmap``.
        drop_path_rate: Rate of stochastic depth in the last layer; from 0 in the first it rises
            linearly with the position of a layer in its branch, as in the authors' code.
        frozen_stages: -1 nothing, 0 the patch embeddings with class tokens and position embeddings,
            n also the first n multi-scale blocks.
        with_cp: Activation checkpointing of encoder layers and fusions: less memory, more time.
        init_cfg: mmengine's.

    Attributes:
        level_branches: Of ``featmap``, for each level the branch that serves it and the stride that
            its tokens are resampled to.

    Raises:
        ValueError: A setting is not among its choices, or the numbers of ``arch`` do not fit each
            other; in ``forward``, the input is no batch of images.

    Source: arXiv 2103.14899; ``models/crossvit.py`` of IBM/CrossViT.
    """

    archs = ARCHS
    decays_by_layer = True
    arch_defaults = dict(num_blocks=3, patch_sizes=(12, 16), conv_embed=False)

    def __init__(
        self,
        arch: str | Mapping = 'small',
        img_size: int = 240,
        view_scales: Sequence[float] | None = None,
        fusion: str = 'cross-attention',
        in_channels: int = 3,
        out_type: str = 'featmap',
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: dict | None = None,
    ):
        numbers = resolve_arch(arch, self.archs, self.arch_defaults)
        super().__init__(
            out_type=out_type,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            num_stages=numbers['num_blocks'],
            with_cp=with_cp,
            init_cfg=init_cfg,
        )
        dims, depths, patch_sizes = (
            numbers[key] for key in ('embed_dims', 'depths', 'patch_sizes')
        )
        if isinstance(view_scales, (int, float)):
            raise ValueError(f'view_scales needs one number a branch, not {view_scales}.')
        if view_scales is None:
            coarse = COARSE_SCALES.get(img_size, COARSE_SCALES[240])
            view_scales = (1.0, coarse) if len(dims) == 2 else (1.0,) * len(dims)
        _check_numbers(numbers, img_size, view_scales, fusion)
        self.arch, self.in_channels = arch, in_channels
        self.view_scales = tuple(view_scales)
        self.view_ratios = [
            Fraction(scale).limit_denominator(10**6).as_integer_ratio() for scale in view_scales
        ]
        self.branch_strides = branch_strides = [
            patch / scale for patch, scale in zip(patch_sizes, self.view_scales)
        ]

        # What is read of each branch behind the last block.
        if out_type == 'featmap':
            self.level_branches = tuple(_choose_branch(i, branch_strides) for i in self.out_indices)
            served = sorted({b for b, _ in self.level_branches})
            needs = [Tokens(False, b in served) for b in range(len(dims))]
        else:
            needs = [Tokens(True, out_type == 'raw')] * len(dims)

        # From the last to the first, as each block tells what it reads of the one before.
        num_blocks, max_depth = numbers['num_blocks'], max(depths[:-1])
        steps = max_depth + depths[-1]
        total = num_blocks * steps
        rates = [drop_path_rate * n / max(total - 1, 1) for n in range(total)]
        blocks = []
        for k in reversed(range(num_blocks)):
            block = FUSIONS[fusion](
                dims,
                depths,
                numbers['num_heads'],
                numbers['mlp_ratios'],
                rates[k * steps : (k + 1) * steps],
                branch_strides,
                needs,
            )
            blocks.insert(0, block)
            needs = [Tokens(*[str(b) in block.blocks] * 2) for b in range(len(dims))]
        branches = [b for b, need in enumerate(needs) if any(need)]

        embed = ConvPatchEmbed if numbers['conv_embed'] else _patch_embed
        self.patch_embed = nn.ModuleDict(
            {str(b): embed(in_channels, dims[b], patch_sizes[b]) for b in branches}
        )
        grids = {
            b: (ceil_div(_scale(img_size, self.view_ratios[b]), patch_sizes[b]),) * 2
            for b in branches
        }
        self.cls_token = nn.ParameterDict({str(b): _embedding(1, dims[b]) for b in branches})
        self.pos_embed = nn.ParameterDict(
            {str(b): _embedding(1 + math.prod(grids[b]), dims[b]) for b in branches}
        )
        self.resize_pos_embed = nn.ModuleDict(
            {str(b): PositionEmbeddingResizer(1, grids[b]) for b in branches}
        )
        self.blocks = nn.ModuleList(blocks)
        self.max_depth = max_depth

        if out_type == 'featmap':
            self.norm = nn.ModuleDict({str(b): _norm(dims[b]) for b in served})
            self.out_channels = tuple(dims[b] for b, _ in self.level_branches)
            self.strides = tuple(STRIDES[i] for i in self.out_indices)
            in_strides = [stride for _, stride in self.level_branches]
            self.pyramid = Pyramid(self.out_channels, in_strides, self.strides)
        elif out_type == 'cls_token':
            self.norm = nn.ModuleDict({str(b): _norm(dims[b]) for b in branches})
            self.out_channels, self.strides = (sum(dims),), ()
        else:
            self.out_channels, self.strides = tuple(dims), tuple(branch_strides)

        self.apply(init_linear)
        self.freeze()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map images (B, in_channels, H, W) to what ``out_type`` says."""
        check_images(images, self.in_channels)
        tokens, sizes = {}, {}
        for name, embed in self.patch_embed.items():
            b = int(name)
            view = _resize_view(images, self.view_ratios[b])
            x, sizes[b] = embed(view.permute(0, 2, 3, 1))
            pos_embed = self.resize_pos_embed[name](self.pos_embed[name], sizes[b])
            cls_token = self.cls_token[name] + pos_embed[:, :1]
            tokens[b] = Tokens(cls_token.expand(x.shape[0], -1, -1), x + pos_embed[:, 1:])

        for block in self.blocks:
            tokens = block(tokens, sizes, self.run)

        if self.out_type == 'cls_token':
            cls_tokens = [self.norm[str(b)](t.cls_token) for b, t in tokens.items()]
            return (torch.cat(cls_tokens, -1).squeeze(1),)
        if self.out_type == 'raw':
            return tuple(torch.cat(t, 1) for t in tokens.values())
        maps = {
            (b, stride): self._take_to(stride, b, tokens[b].patches, sizes[b], images.shape[2:])
            for b, stride in dict.fromkeys(self.level_branches)
        }
        return self.pyramid([maps[level] for level in self.level_branches], images.shape[2:])

    def _take_to(self, stride, b, x, size, image_size):
        """Norm the patch tokens of branch b, and resample them to a stride."""
        x = self.norm[str(b)](x)
        scale = self.branch_strides[b] / stride
        if math.isclose(scale, 1):
            return x
        return resample_tokens(x, size, scale, tuple(ceil_div(n, stride) for n in image_size))

    def position_embeddings(self) -> dict[str, tuple[int, tuple[int, int]]]:
        """Tell of each position embedding its number of extra tokens in front and its grid (H, W).

        A checkpoint of another resolution is resized to that.
        """
        return {
            f'pos_embed.{name}': (resize.num_extra_tokens, resize.source_size)
            for name, resize in self.resize_pos_embed.items()
        }

    def stage_parts(self, stage: int) -> Iterable[nn.Module | nn.Parameter]:
        """Yield what ``frozen_stages >= stage`` freezes beyond ``frozen_stages = stage - 1``."""
        if stage == 0:
            yield from (self.patch_embed, self.cls_token, self.pos_embed)
        else:
            yield self.blocks[stage - 1]

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Tell how deep a parameter lies: see :class:`VisionBackbone`.

        The encoder layers at one position of a multi-scale block are a layer, in all branches; its
        fusion lies as deep as the last of them.
        """
        num_layers = len(self.blocks) * self.max_depth + 2
        name = param_name[len(prefix) :] if param_name.startswith(prefix) else ''
        part, *path = name.split('.')
        if part in ('patch_embed', 'cls_token', 'pos_embed'):
            return 0, num_layers
        if part == 'blocks':  # blocks.k.blocks.b.n. or blocks.k.fusion., say
            position = int(path[3]) + 1 if path[1] == 'blocks' else self.max_depth
            return int(path[0]) * self.max_depth + position, num_layers
        return num_layers - 1, num_layers


def _join(cls_tokens, patches):
    branches = sorted({*cls_tokens, *patches})
    return {b: Tokens(cls_tokens.get(b), patches.get(b)) for b in branches}


def _norm(dim):
    return nn.LayerNorm(dim, eps=NORM_EPS)


def _projection(dim, out_dim):
    return nn.Sequential(_norm(dim), nn.GELU(), nn.Linear(dim, out_dim))


def _embedding(num_tokens, dim):
    return nn.init.trunc_normal_(torch.empty(1, num_tokens, dim), std=0.02)


def _patch_embed(in_channels, dim, patch_size):
    return PatchEmbed(in_channels, dim, patch_size, norm_eps=None)


def _scale(side, ratio):
    """Scale a side to whole pixels upwards, in whole numbers: 240 * (224 / 240) is 224."""
    over, under = ratio
    return ceil_div(side * over, under)


def _resize_view(images, ratio):
    """Resize images bicubically by a ratio of whole numbers, to whole pixels upwards."""
    if ratio == (1, 1):
        return images
    size = tuple(_scale(side, ratio) for side in images.shape[2:])
    return F.interpolate(images, size=size, mode='bicubic', align_corners=False)


def _choose_branch(level, branch_strides):
    """Choose the branch for a pyramid level, and the stride that its tokens are resampled to."""
    distances = [abs(math.log(stride / STRIDES[level])) for stride in branch_strides]
    b = distances.index(min(distances))
    for stride in PYRAMID_STRIDES:
        if math.isclose(branch_strides[b], stride):
            return b, stride
    return b, min(max(STRIDES[level], PYRAMID_STRIDES[0]), PYRAMID_STRIDES[1])


def _check_numbers(numbers, img_size, view_scales, fusion):
    if fusion not in FUSIONS:
        raise ValueError(f'fusion must be one of {", ".join(FUSIONS)}, not {fusion!r}.')
    dims, depths, heads, ratios, patch_sizes = (
        numbers[key] for key in ('embed_dims', 'depths', 'num_heads', 'mlp_ratios', 'patch_sizes')
    )
    num_branches = len(dims)
    lengths = {len(heads), len(ratios), len(patch_sizes), len(view_scales), len(depths) - 1}
    if num_branches < 2 or lengths != {num_branches}:
        raise ValueError(
            'embed_dims, num_heads, mlp_ratios, patch_sizes and view_scales need one number a '
            'branch each, for two branches or more, and depths one more, that of the '
            f'cross-attention layers; not {dims}, {heads}, {ratios}, {patch_sizes}, {view_scales} '
            f'and {depths}.'
        )
    if any(head < 1 or dim % head for dim, head in zip(dims, heads)):
        raise ValueError(
            f'num_heads={heads} must divide the widths embed_dims={dims}, branch by branch.'
        )
    if numbers['num_blocks'] < 1 or min(depths[:-1]) < 1 or depths[-1] < 0:
        raise ValueError(
            'num_blocks and the encoder layers in depths must be at least 1 and its '
            f'cross-attention layers at least 0, not {numbers["num_blocks"]} and {depths}.'
        )
    if numbers['conv_embed'] and not set(patch_sizes) <= set(ConvPatchEmbed.kernels):
        raise ValueError(
            'conv_embed is for patch_sizes out of '
            f'{", ".join(map(str, ConvPatchEmbed.kernels))}, not {patch_sizes}.'
        )
    if min(view_scales) <= 0 or min(patch_sizes) < 1 or img_size < 1:
        raise ValueError(
            'view_scales, patch_sizes and img_size must be positive, not '
            f'{view_scales}, {patch_sizes} and {img_size}.'
        )
