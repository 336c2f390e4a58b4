"""How the loaders of a run get their samples: seeded, checked, and with errors in a sentence."""

from __future__ import annotations

from functools import reduce
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from torch.utils.data import DataLoader

from mmvitx.engine.batches import Place
from mmvitx.engine.configs import walk
from mmvitx.engine.explain import explain
from mmvitx.engine.hosts import HOSTS
from mmvitx.engine.randomness import seeded
from mmvitx.errors import UserError


class Samples:
    """Gives the samples of a dataset to its loader, in whichever process that loads them.

    A sample of a training that is resumed is seeded by its place in the run. What a dataset or a
    transform raises says which setting it comes from. A label that the model has no output for is
    refused with the name of its image: on a GPU it would end the run with an assertion that names
    nothing, and some losses take it for background.

    Args:
        dataset: Any; its ``__getitems__``, what PyTorch's loader asks for a batch, becomes this.
        cfg: The config of the run.
        where: The loader's name there, as ``train_dataloader``.
        check: Whether to check labels and explain errors.
    """

    def __init__(self, dataset: Any, cfg: Config, where: str, check: bool = True):
        self.dataset, self.cfg, self.where, self.check = dataset, cfg, where, check
        self.limit = find_limit(cfg) if check else None

    def __call__(self, indices: list) -> list:
        """Load the samples of a batch.

        Raises:
            UserError: In one sentence, with the path of a setting.
        """
        return [self._load(index) for index in indices]

    def _load(self, index):
        try:
            if isinstance(index, Place):
                with seeded(*index.seed):
                    sample = self.dataset[int(index)]
            else:
                sample = self.dataset[index]
        except Exception as e:
            sentence = explain(e, self.cfg, self.where) if self.check else None
            if sentence in (None, e):
                raise
            raise sentence from e
        if self.limit and isinstance(sample, dict):
            self.limit.check(sample)
        return sample


def guard_samples(loader: DataLoader, cfg: Config, where: str, check: bool) -> None:
    """Let a loader get its samples by :class:`Samples`, unless its dataset makes whole batches."""
    if not hasattr(loader.dataset, '__getitems__'):
        loader.dataset.__getitems__ = Samples(loader.dataset, cfg, where, check)


class Limit(NamedTuple):
    """The labels that a model has outputs for.

    Attributes:
        setting: Path of ``num_classes`` of the head that has the fewest.
        number: Its value.
        ignored: Labels that are no class.
        where: Where a packed sample has its labels.
    """

    setting: str
    number: int
    ignored: tuple[int, ...]
    where: str

    def check(self, sample: dict) -> None:
        """Check the labels of a sample as the pipelines of its host pack it.

        Raises:
            UserError: One is too large, or a label map does not fit its image.
        """
        packed = sample.get('data_samples')
        labels = reduce(lambda node, name: getattr(node, name, None), self.where.split('.'), packed)
        if not isinstance(labels, torch.Tensor) or not labels.numel():
            return
        if self.where.startswith('gt_sem_seg'):
            _check_size(labels.shape, sample, packed)
        if labels.max() >= self.number:
            wrong = {*labels[labels >= self.number].unique().tolist()} - {*self.ignored}
            if wrong:
                raise UserError(self._describe(packed, max(wrong)))

    def _describe(self, packed, label):
        path = getattr(packed, 'img_path', 'an image')
        limit = f'{self.setting} is {self.number} (labels are counted from 0)'
        if not self.where.startswith('gt_sem_seg'):
            return (
                f'{path} has the label {label}, but {limit}: set it to the number of classes of '
                'the data'
            )
        head = self.setting.rpartition('.')[0]
        return (
            f'the label map {getattr(packed, "seg_map_path", path)} holds the label {label}, but '
            f'{limit}, and {" and ".join(map(str, self.ignored))} for no class: if {label} is a '
            f'class, set the number; if it is none, have it ignored with {head}.ignore_index='
            f'{label} and val_evaluator.ignore_index={label}, and pad with it (seg_pad_val)'
        )


def _check_size(shape: torch.Size, sample: dict, packed: Any) -> None:
    """Check the shape (1, H, W) of a label map: that of its image, as it is or as it was loaded."""
    name = f'the label map {getattr(packed, "seg_map_path", "of an image")}'
    if shape[0] != 1 or len(shape) != 3:
        raise UserError(
            f'{name} is a picture of shape {tuple(shape)}: expected one number a pixel, as in a '
            'PNG of grey levels or of palette indices'
        )
    sizes = [
        tuple(getattr(sample.get('inputs'), 'shape', shape)[-2:]),
        tuple(packed.metainfo.get('ori_shape', ())[:2]),
    ]
    if tuple(shape[1:]) not in sizes:
        raise UserError(
            f'{name} has {shape[2]} x {shape[1]} pixels, but its image '
            f'{getattr(packed, "img_path", "")} has {sizes[0][1]} x {sizes[0][0]}'
        )


def find_limit(cfg: Config) -> Limit | None:
    """Find which labels the heads of a model have outputs for; None if it has no such heads.

    Auxiliary heads and those of a teacher do not count, nor do models with an open vocabulary.
    """
    host = HOSTS[cfg.default_scope]
    settings = dict(walk(cfg.get('model'), 'model'))
    found = {
        path: number
        for path, number in settings.items()
        if path.endswith('.num_classes')
        and isinstance(number, int)
        and host.head in path.split('.')
        and 'teacher' not in path.split('.')
    }
    if not found or 'model.language_model' in settings:
        return None
    setting = min(found, key=found.get)
    ignored = {
        value
        for path, value in walk(cfg.to_dict())
        if path.endswith('.ignore_index') and isinstance(value, int)
    }
    return Limit(setting, found[setting], tuple(sorted(ignored | {255})), host.labels)
