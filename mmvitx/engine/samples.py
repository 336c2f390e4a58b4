"""How the loaders of a run get their samples: seeded, checked, and with errors in a sentence."""

from __future__ import annotations

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
            self.limit.check(sample.get('data_samples'))
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
    """

    setting: str
    number: int
    ignored: tuple[int, ...]

    def check(self, sample: Any) -> None:
        """Check the labels of a sample as the hosts' pipelines pack it.

        Raises:
            UserError: One is too large.
        """
        for kind, name in (('gt_instances', 'labels'), ('gt_sem_seg', 'data'), ('gt_label', '')):
            labels = getattr(sample, kind, None)
            labels = getattr(labels, name, None) if name else labels
            if isinstance(labels, torch.Tensor) and labels.numel() and labels.max() >= self.number:
                wrong = {*labels[labels >= self.number].unique().tolist()} - {*self.ignored}
                if wrong:
                    raise UserError(self._describe(sample, kind, max(wrong)))

    def _describe(self, sample, kind, label):
        path = getattr(sample, 'img_path', 'an image')
        if kind != 'gt_sem_seg':
            return (
                f'{path} has the label {label}, but {self.setting} is {self.number} (labels are '
                'counted from 0): set it to the number of classes of the data'
            )
        head = self.setting.rpartition('.')[0]
        return (
            f'the label map {getattr(sample, "seg_map_path", path)} holds the label {label}, but '
            f'{self.setting} is {self.number} (labels are counted from 0), and '
            f'{" and ".join(map(str, self.ignored))} for no class: if {label} is a class, set the '
            f'number; if it is none, have it ignored with {head}.ignore_index={label} and '
            f'val_evaluator.ignore_index={label}, and pad with it (seg_pad_val)'
        )


def find_limit(cfg: Config) -> Limit | None:
    """Find which labels the heads of a model have outputs for; None if it has no such heads.

    Auxiliary heads and those of a teacher do not count, nor do models with an open vocabulary.
    """
    name = HOSTS[cfg.default_scope].heads[0]
    model = cfg.get('model')
    if 'language_model' in (model or ()):
        return None
    found = {
        path: number
        for path, number in walk(model, 'model')
        if path.endswith('.num_classes')
        and isinstance(number, int)
        and name in path.split('.')
        and 'teacher' not in path.split('.')
    }
    if not found:
        return None
    setting = min(found, key=found.get)
    ignored = {
        value
        for path, value in walk(cfg.to_dict())
        if path.endswith('.ignore_index') and isinstance(value, int)
    }
    return Limit(setting, found[setting], tuple(sorted(ignored | {255})))
