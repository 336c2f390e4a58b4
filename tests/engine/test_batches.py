"""Batches that do not depend on how their workers are started."""

from __future__ import annotations

import numpy as np
import pytest
from mmengine.config import Config
from torch.utils.data import DataLoader, Dataset

from mmvitx.engine.batches import guard_workers, make_resumable
from mmvitx.engine.samples import guard_samples


class RandomNumbers(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return index + np.random.rand()


def read(workers: int, start: str | None = None) -> list[list[float]]:
    loader = DataLoader(
        RandomNumbers(), batch_size=2, num_workers=workers, multiprocessing_context=start
    )
    guard_workers(loader)
    cfg = Config(dict(default_scope='mmdet', model={}))
    guard_samples(loader, cfg, 'train_dataloader', check=True)
    make_resumable(loader, seed=3)
    return [batch.tolist() for batch in loader]


@pytest.mark.parametrize('start', ['fork', 'spawn', 'forkserver'])
def test_workers_are_started_in_any_way(start):
    assert read(2, start) == read(0)
