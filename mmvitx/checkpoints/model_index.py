"""Our classifiers in mmpretrain's index, so that it knows them by name."""

from __future__ import annotations

import sys
from pathlib import Path

from mmvitx.on_import import when_imported

HUB = 'mmpretrain.apis.model'  # where mmpretrain has its index
METAFILE = 'configs/pretrain/metafile.yml'


def register_model_index() -> None:
    """Add our classifiers to mmpretrain's index: now if it is imported, else once it is.

    Neither mmpretrain nor the index is imported or read before someone asks for mmpretrain.
    """
    when_imported(HUB, _add)


def _add():
    root, hub = find_root(), sys.modules[HUB].ModelHub
    if root is not None and not hub.has('coat_small'):
        hub.register_model_index(root / METAFILE, config_prefix=root)


def find_root() -> Path | None:
    """Find the folder with our configs: that of a wheel, or the repository; None without them."""
    package = Path(__file__).parents[1]
    folders = (package / '.mim', package.parent)
    return next((folder for folder in folders if (folder / METAFILE).is_file()), None)
