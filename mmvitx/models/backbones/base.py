"""The contract of every backbone: what its neighbours see, and what each setting means."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmvitx.checkpoints import CheckpointError
from mmvitx.models.layers import resize_position_embedding

OUT_TYPES = ('featmap', 'cls_token', 'raw')
STRIDES = (4, 8, 16, 32)


class VisionBackbone(BaseModule):
    """What all backbones of this project share.

    It takes images (B, 3, H, W) of any size and puts out a tuple:

    ============= ==========================================================================
    ``out_type``  output
    ============= ==========================================================================
    ``featmap``   maps (B, C_i, ceil(H / s_i), ceil(W / s_i)), NCHW-contiguous, fine to
                  coarse, for the levels in ``out_indices``
    ``cls_token`` one (B, C), the class representation
    ``raw``       the tokens as the authors' code has them at that point
    ============= ==========================================================================

    A part that the asked-for output does not use is not built, so every parameter gets a gradient.

    Args:
        out_type: One of the above.
        out_indices: Pyramid levels of ``featmap`` and ``raw``, ascending, out of 0..3 with the
            strides 4, 8, 16, 32.
        frozen_stages: -1 freezes nothing, 0 the patch embedding, n also the first n stages.
        num_stages: How many stages can be frozen.
        with_cp: Activation checkpointing: compute the blocks again in the backward pass instead of
            storing what they computed.
        init_cfg: mmengine's; ``dict(type='Pretrained', checkpoint=...)`` to start from weights, of
            which the type may be left out: a published name (``mmvitx://coat_small``), a file of
            the authors, of timm or of mmpretrain, or an address.

    Attributes:
        archs: The published architectures, name -> numbers; of the class.
        decays_by_layer: Whether its recipes for dense tasks lower the learning rates with depth; of
            the class.
        arch: The ``arch`` that it was made with.
        out_channels: Channels of what is put out, one a tensor of the tuple.
        strides: Pixels of the image a step of each tensor stands for; empty for ``cls_token``.

    Raises:
        ValueError: A setting is not among its choices.
    """

    def __init__(
        self,
        *,
        out_type: str,
        out_indices: Sequence[int],
        frozen_stages: int,
        num_stages: int,
        with_cp: bool,
        init_cfg: dict | None,
    ):
        super().__init__(_complete(init_cfg))
        if out_type not in OUT_TYPES:
            raise ValueError(f'out_type must be one of {", ".join(OUT_TYPES)}, not {out_type!r}.')
        if (
            isinstance(out_indices, int)
            or not out_indices
            or list(out_indices) != sorted(set(out_indices) & set(range(len(STRIDES))))
        ):
            raise ValueError(
                'out_indices must name pyramid levels in ascending order, as (0, 1, 2, 3) or '
                f'(2, 3), not {out_indices}.'
            )
        if frozen_stages not in range(-1, num_stages + 1):
            raise ValueError(
                'frozen_stages must be -1 (nothing), 0 (the patch embedding) or up to '
                f'{num_stages}, not {frozen_stages}.'
            )
        self.out_type = out_type
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.with_cp = with_cp
        self.register_load_state_dict_pre_hook(_adapt)

    archs: Mapping[str, Mapping]
    decays_by_layer = False
    arch: str | Mapping

    # To be given by a backbone. ------------------------------------------------------------------

    @abstractmethod
    def stage_parts(self, stage: int) -> Iterable[nn.Module | nn.Parameter]:
        """Yield what ``frozen_stages >= stage`` freezes beyond ``frozen_stages = stage - 1``."""

    def position_embeddings(self) -> Mapping[str, tuple[int, tuple[int, int]]]:
        """Name the position embeddings, each with its number of extra tokens and its grid (H, W).

        Those of a checkpoint of another resolution are resized when it is loaded.
        """
        return {}

    @abstractmethod
    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Tell how deep a parameter lies, for layer-wise learning rates.

        Args:
            param_name: The parameter's name in the whole model.
            prefix: What stands before the backbone's own names there, as ``'backbone.'``.

        Returns:
            The layer, from 0 (patch embedding) to the number of layers - 1 (everything behind the
            blocks, and what is no part of the backbone), and the number of layers.
        """

    @property
    def arch_name(self) -> str | None:
        """Family and architecture, as ``coat_small``; None if it was made from numbers."""
        return _full_name(self._family, self.arch) if isinstance(self.arch, str) else None

    @property
    def _family(self):
        return next(cls for cls in type(self).__mro__ if 'archs' in vars(cls))

    # What they have in common. -------------------------------------------------------------------

    def run(self, block: Callable, *args: Any) -> Any:
        """Run a block, with activation checkpointing if that is on."""
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(block, *args, use_reentrant=False)
        return block(*args)

    def freeze(self) -> None:
        """Stop the gradients of the frozen stages and put them into eval mode."""
        for stage in range(self.frozen_stages + 1):
            for part in self.stage_parts(stage):
                part.requires_grad_(False)
                if isinstance(part, nn.Module):
                    part.eval()

    def adapt_state_dict(self, state_dict: dict[str, Tensor], prefix: str = '') -> None:
        """Make weights fit that are about to be loaded: happens by itself, with a hook.

        Args:
            state_dict: Names and tensors, which may be those of a whole model; changed in place.
            prefix: What stands before the backbone's own names there, as ``'backbone.'``.

        Raises:
            CheckpointError: These are the weights of another published architecture.
        """
        given = {
            name[len(prefix) :]: value
            for name, value in state_dict.items()
            if name.startswith(prefix)
        }
        own = self.state_dict()
        for name, (num_extra_tokens, size) in self.position_embeddings().items():
            theirs, ours = given.get(name), own[name]
            if theirs is None or theirs.shape == ours.shape:
                continue
            if theirs.ndim == 3 and theirs.shape[::2] == ours.shape[::2]:
                given[name] = resize_position_embedding(theirs, size, num_extra_tokens)
                state_dict[prefix + name] = given[name]
        fits = all(name in given and given[name].shape == own[name].shape for name in own)
        if given and not fits and self.arch_name and not _is_of(given, self._family, self.arch):
            theirs, ours = recognize_arch(given), self.arch_name
            if theirs is not None:
                raise CheckpointError(
                    f'these are weights of {theirs}, but the backbone is {ours}: '
                    f"give it weights of {ours}, or make it {theirs} with its 'type' and 'arch'"
                )

    def train(self, mode: bool = True) -> VisionBackbone:
        """Set the mode; the frozen stages stay in eval mode."""
        super().train(mode)
        self.freeze()
        return self


def resolve_arch(arch: str | Mapping, archs: Mapping[str, Mapping], defaults: Mapping) -> dict:
    """Look up an architecture, or complete one given as numbers.

    Args:
        arch: A name out of ``archs``, or a mapping with the keys of its entries.
        archs: The paper's table.
        defaults: Numbers that hold where ``arch`` does not state them.

    Returns:
        All numbers of the architecture.

    Raises:
        ValueError: It is no name or mapping, the name is unknown, or keys are missing or unknown.
    """
    if not isinstance(arch, Mapping):
        if not isinstance(arch, str) or arch not in archs:
            raise ValueError(f'arch must be one of {", ".join(archs)} or a dict, not {arch!r}.')
        arch = archs[arch]
    example = {**defaults, **next(iter(archs.values()))}
    numbers = {**defaults, **arch}
    if set(numbers) != set(example):
        missing, unknown = sorted(set(example) - set(numbers)), sorted(set(numbers) - set(example))
        raise ValueError(
            f'arch as a dict needs the keys {", ".join(example)}; missing: {missing}, '
            f'unknown: {unknown}.'
        )
    for key, value in numbers.items():
        if isinstance(example[key], tuple) and not isinstance(value, (tuple, list)):
            raise ValueError(f'{key} needs several numbers, as {example[key]}, not {value!r}.')
    return numbers


def init_linear(module: nn.Module) -> None:
    """Initialize a linear layer as all the authors do; for ``model.apply``.

    Convolutions and norms stay as PyTorch makes them.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def recognize_arch(weights: Mapping[str, Tensor]) -> str | None:
    """Name the published architecture that weights are of, whatever their resolution.

    Args:
        weights: Names of a backbone's parameters, and tensors.

    Returns:
        Family and architecture, as ``coat_small``, or None.
    """
    for family in VisionBackbone.__subclasses__():
        for arch in getattr(family, 'archs', ()):
            if _is_of(weights, family, arch):
                return _full_name(family, arch)
    return None


def _is_of(weights, family, arch):
    """Whether weights are those of an architecture, as a classifier or a dense model has them.

    Of the parts that both have they must hold everything and nothing else.
    """
    always, ever = _parameters(family, arch)
    parts = {name.split('.')[0] for name, _ in always}
    given = {(n, tuple(v.shape)) for n, v in weights.items() if n.split('.')[0] in parts}
    return always <= given <= ever


@functools.cache
def _parameters(family, arch):
    """Give names and shapes that each of both forms of a model has, and that any of them has."""
    forms = []
    for out_type in ('cls_token', 'featmap'):
        with torch.device('meta'):
            model = family(arch, out_type=out_type)
        of_any_size = model.position_embeddings()
        shapes = ((n, tuple(v.shape)) for n, v in model.state_dict().items())
        forms.append({(name, shape) for name, shape in shapes if name not in of_any_size})
    return forms[0] & forms[1], forms[0] | forms[1]


def _adapt(module, state_dict, prefix, *args):
    module.adapt_state_dict(state_dict, prefix)


def _full_name(family, arch):
    return f'{family.__name__.lower()}_{arch}'


def _complete(init_cfg):
    """Complete an ``init_cfg`` of mmengine's that says only what to start from."""
    if isinstance(init_cfg, (list, tuple)):
        return [_complete(one) for one in init_cfg]
    if init_cfg and not (isinstance(init_cfg, Mapping) and {'type', 'checkpoint'} & {*init_cfg}):
        raise ValueError(
            "init_cfg must be a dict as dict(checkpoint='mmvitx://coat_small') or one of "
            f"mmengine's with a type, not {init_cfg!r}."
        )
    if init_cfg and 'checkpoint' in init_cfg:
        return {'type': 'Pretrained', **init_cfg}
    return init_cfg


def to_featmap(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Turn tokens (B, H * W, C) into a map (B, C, H, W), NCHW-contiguous.

    Contiguous, because mmcv's RoIAlign reads any other layout as if it were this one, silently.
    The gradient of the tokens is row by row again.
    """
    if not torch.jit.is_tracing():  # a trace takes plain operators
        x = _ContiguousGradient.apply(x)
    return x.transpose(1, 2).unflatten(2, size).contiguous()


class _ContiguousGradient(torch.autograd.Function):
    """The identity. As the view of a map, the gradient would slow down all blocks."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return grad.contiguous()


def check_images(images: Tensor, in_channels: int) -> None:
    """Refuse what is no batch of images (B, in_channels, H, W).

    Raises:
        ValueError: Says the shape given and the one expected.
    """
    if images.ndim != 4 or images.shape[1] != in_channels or 0 in images.shape:
        raise ValueError(
            f'images must be (B, {in_channels}, H, W), not {tuple(images.shape)}; for other images '
            'than RGB set in_channels of the backbone and mean and std of the data preprocessor.'
        )
