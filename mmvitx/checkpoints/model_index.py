"""Our classifiers in mmpretrain's index, so that it knows them by name."""

from __future__ import annotations

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path

HUB = 'mmpretrain.apis.model'  # where mmpretrain has its index
METAFILE = 'configs/pretrain/metafile.yml'


def register_model_index() -> None:
    """Add our classifiers to mmpretrain's index: now if it is imported, else once it is.

    Neither mmpretrain nor the index is imported or read before someone asks for mmpretrain.
    """
    if HUB in sys.modules:
        _add_to(sys.modules[HUB])
    elif not any(isinstance(finder, _OnImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _OnImport())


class _OnImport(MetaPathFinder):
    """Finds nothing by itself: has the index added when mmpretrain's module has been run."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != HUB:
            return None
        sys.meta_path.remove(self)  # once, and so that the others are asked
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module):
                run(module)
                _add_to(module)

            spec.loader.exec_module = exec_module
        return spec


def _add_to(module):
    root = find_root()
    if root is not None and not module.ModelHub.has('coat_small'):
        module.ModelHub.register_model_index(root / METAFILE, config_prefix=root)


def find_root() -> Path | None:
    """Find the folder with our configs: that of a wheel, or the repository; None without them."""
    package = Path(__file__).parents[1]
    folders = (package / '.mim', package.parent)
    return next((folder for folder in folders if (folder / METAFILE).is_file()), None)
