"""How mmengine reads checkpoints with this package: safely, from anywhere, under our names.

``load_from``, ``--resume``, ``init_cfg`` and the hosts' inferencers all come through here, under
the onedl fork too, whose own loader falls back to ``weights_only=False``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from mmengine.dist import master_only
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint
from torch import Tensor

from mmvitx.checkpoints.download import download, download_published
from mmvitx.checkpoints.fitting import has_adapting_part, load_state_dict
from mmvitx.checkpoints.loading import CheckpointError, load_file
from mmvitx.checkpoints.official import Converted, convert_official
from mmvitx.checkpoints.published import PUBLISHED, SCHEME

PROGRESS = 'progress'  # key of what our checkpoints hold besides that of mmengine's
HTTP = ('http://', 'https://')


def read_checkpoint(path: str | os.PathLike, map_location=None) -> tuple[Any, Converted | None]:
    """Read a checkpoint, in the form and with the names that mmengine's have.

    Args:
        path: A file, an http(s) address, or a published checkpoint as ``mmvitx://coat_small``.
        map_location: See :func:`mmvitx.checkpoints.load_file`.

    Returns:
        A checkpoint of the authors or of timm as a dict of ``meta`` and ``state_dict``, and how its
        names became ours; any other as it is, and None.

    Raises:
        CheckpointError: In one sentence, if there is no such file, it cannot be downloaded, or
            cannot be read.
    """
    path = str(path)
    if not is_readable(path):
        raise CheckpointError(
            f'the checkpoint {path} is neither a file, nor an http(s) address, nor the name of a '
            f'published checkpoint, as {SCHEME}coat_small'
        )
    if path in PUBLISHED and not os.path.exists(path):
        raise CheckpointError(f'the checkpoint {path} does not exist: do you mean {SCHEME}{path}?')
    if path.startswith(SCHEME):
        path = download_published(path)
    elif path.startswith(HTTP):
        path = download(path)
    checkpoint = load_file(path, map_location)
    weights = find_weights(checkpoint)
    converted = convert_official(weights)
    if converted is not None and converted.state_dict.keys() != weights.keys():
        return dict(meta=checkpoint.get('meta', {}), state_dict=converted.state_dict), converted
    if weights and 'state_dict' not in checkpoint and 'model' in checkpoint:
        checkpoint = {**checkpoint, 'state_dict': weights}  # where mmengine looks for it
    return checkpoint, None


def is_readable(path: str) -> bool:
    """Whether :func:`read_checkpoint` is for such a path, and no other scheme of mmengine's."""
    return '://' not in path or path.startswith((SCHEME, *HTTP))


def find_weights(checkpoint: Any) -> dict[str, Tensor]:
    """Find the tensors of a checkpoint, wherever mmengine, timm and the authors put them."""
    if not isinstance(checkpoint, Mapping):
        return {}
    for key in ('state_dict', 'model'):
        if isinstance(checkpoint.get(key), Mapping):
            checkpoint = checkpoint[key]
            break
    return {name: value for name, value in checkpoint.items() if isinstance(value, Tensor)}


def register_loader() -> None:
    """Let mmengine read checkpoints, and load them into models with our backbones, in our way."""

    def read(filename, map_location=None):
        checkpoint, converted = read_checkpoint(filename, map_location)
        if converted:
            master_only(print_log)(converted.report(), logger='current')
        return checkpoint

    # mmengine logs what follows "load_from_" in a loader's name
    def load_from_local(filename, map_location=None):
        return read(filename, map_location)

    def load_from_http(filename, map_location=None):
        return read(filename, map_location)

    def load_from_mmvitx(filename, map_location=None):
        return read(filename, map_location)

    register = CheckpointLoader.register_scheme
    register('', load_from_local, force=True)
    register(HTTP, load_from_http, force=True)
    register(SCHEME, load_from_mmvitx, force=True)
    mmengine_checkpoint.load_from_http = load_from_http  # torchvision:// and others call it by name

    theirs = mmengine_checkpoint.load_state_dict

    def load(module, state_dict, strict=False, logger=None):
        ours = has_adapting_part(module)
        (load_state_dict if ours else theirs)(module, state_dict, strict, logger)

    mmengine_checkpoint.load_state_dict = load
