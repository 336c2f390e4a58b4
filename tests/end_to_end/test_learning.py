"""What the demonstrations run reaches what the README says (`make test-e2e`; 30 minutes)."""

import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

DEMOS = Path(__file__).parents[2] / 'configs/demo'
WANTED = {'coco/bbox_mAP': 0.6, 'coco/segm_mAP': 0.6, 'mIoU': 60, 'accuracy/top1': 97}


@pytest.mark.slow
@pytest.mark.parametrize('config', sorted(DEMOS.glob('*.py')), ids=lambda path: path.stem)
def test_a_demo_learns_the_digits(tool, tmp_path, monkeypatch, config):
    monkeypatch.chdir(tmp_path)
    make_digits, train, test = tool('make_digits'), tool('train'), tool('test')
    torch.set_num_threads(os.cpu_count())  # the fixture leaves one
    classifies = Config.fromfile(config).default_scope == 'mmpretrain'
    make_digits.main(['classification'] if classifies else [])
    train.main([str(config), '--work-dir', 'work'])
    last = Path('work/last_checkpoint').read_text()
    metrics = test.main([str(config), last, '--work-dir', 'work'])
    reached = {name: metrics[name] for name in WANTED if name in metrics}
    assert reached
    assert all(value >= WANTED[name] for name, value in reached.items()), reached
