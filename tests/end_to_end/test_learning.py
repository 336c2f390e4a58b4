"""What `make demo` runs reaches what the README says (`make test-e2e`; 5 minutes on 2 cores)."""

import os
from pathlib import Path

import pytest
import torch

DEMOS = Path(__file__).parents[2] / 'configs/demo'


@pytest.mark.slow
@pytest.mark.parametrize('config', sorted(DEMOS.glob('*.py')), ids=lambda path: path.stem)
def test_a_demo_learns_the_digits(tool, tmp_path, monkeypatch, config):
    monkeypatch.chdir(tmp_path)
    make_digits, train, test = tool('make_digits'), tool('train'), tool('test')
    torch.set_num_threads(os.cpu_count())  # the fixture leaves one
    make_digits.main([])
    train.main([str(config), '--work-dir', 'work'])
    last = Path('work/last_checkpoint').read_text()
    metrics = test.main([str(config), last, '--work-dir', 'work'])
    wanted = {'coco/bbox_mAP': 0.6, 'coco/segm_mAP': 0.6}
    if 'mIoU' in metrics:
        wanted = {'mIoU': 60}  # percent
    assert all(metrics[name] >= least for name, least in wanted.items())
