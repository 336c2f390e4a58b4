"""The datasets of a config, to look at them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from torch.utils.data import Dataset

from mmvitx.datasets.unreadable import name_unreadable_images
from mmvitx.engine import launch, preflight
from mmvitx.engine.files import check_folder
from mmvitx.errors import UserError


def build_datasets(cfg: Config, splits: Sequence[str] = ()) -> Iterator[tuple[str, Dataset]]:
    """Build the datasets of a config, one after the other.

    Args:
        cfg: A config of one of the hosts.
        splits: Those to build, of ``train``, ``val``, ``test``; by default all that the config has,
            without ``test`` if its dataset is that of ``val``.

    Yields:
        The name of a split and its dataset.

    Raises:
        UserError: The config has no such split, its data are missing, or its work dir cannot be
            written.
    """
    found = {
        split: loader.dataset
        for split in ('train', 'val', 'test')
        if (loader := cfg.get(f'{split}_dataloader'))
    }
    missing = [split for split in splits if split not in found]
    if missing:
        raise UserError(
            f'--split {missing[0]}: the config {cfg.filename} has no {missing[0]}_dataloader'
        )
    if not splits and found.get('test') == found.get('val'):
        found.pop('test', None)
    check_folder(cfg.work_dir, '--work-dir')
    name_unreadable_images()
    splits = tuple(splits or found)
    preflight.check_paths(cfg, splits)
    launch.mend(cfg, splits)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        for split in splits:
            with launch.explaining(cfg):
                dataset = DATASETS.build(cfg[f'{split}_dataloader'].dataset)
            yield split, dataset
