"""Memory stays level while the size of images changes (`make test-e2e`; 2 to 5 minutes)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# Prints the resident memory in MB after 100 steps, and at the end.
TRAIN = """
import random
from pathlib import Path

from mmvitx.engine import cli


def main():
    import torch
    from mmvitx.models import CoaT

    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    model = CoaT('lite_tiny', out_type='featmap')
    optimizer = torch.optim.AdamW(model.parameters())
    for step in range(1, 501):
        size = [random.randrange(32, 129, 4) for _ in range(2)]
        loss = sum(out.square().mean() for out in model(torch.randn(1, 3, *size)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in (100, 500):
            status = Path('/proc/self/status').read_text()
            print(int(status.partition('VmRSS:')[2].split()[0]) // 1024)


cli.run(main)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_training_on_changing_sizes_stays_level(monkeypatch):
    for name in ('ONEDNN_PRIMITIVE_CACHE_CAPACITY', 'LRU_CACHE_CAPACITY'):
        monkeypatch.delenv(name, raising=False)
    command = [sys.executable, '-c', TRAIN]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    early, late = map(int, done.stdout.split())
    assert late <= early + 40  # with the default of 1024 entries it grows by more
