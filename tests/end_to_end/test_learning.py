"""What `make demo` runs reaches what the README says (`make test-e2e`; 5 minutes on 2 cores)."""

import os
from pathlib import Path

import pytest
import torch

CONFIG = Path(__file__).parents[2] / 'configs/demo/mask_rcnn_coat_lite_tiny_digits.py'


@pytest.mark.slow
def test_the_demo_learns_the_digits(tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_digits, train, test = tool('make_digits'), tool('train'), tool('test')
    torch.set_num_threads(os.cpu_count())  # the fixture leaves one
    make_digits.main([])
    train.main([str(CONFIG), '--work-dir', 'work'])
    metrics = test.main([str(CONFIG), 'work/iter_600.pth', '--work-dir', 'work'])
    assert metrics['coco/bbox_mAP'] >= 0.6
    assert metrics['coco/segm_mAP'] >= 0.6
