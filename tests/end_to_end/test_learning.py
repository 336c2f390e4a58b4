"""What `make demo` runs reaches what the README says (`make test-e2e`; 5 minutes on 2 cores)."""

import os
from pathlib import Path

import pytest
import torch

DEMOS = Path(__file__).parents[2] / 'configs/demo'
DETECTORS = sorted(DEMOS.glob('mask_rcnn_*.py'))
CLASSIFIERS = sorted({*DEMOS.glob('*.py')} - {*DETECTORS})


@pytest.mark.slow
@pytest.mark.parametrize('config', DETECTORS, ids=lambda path: path.stem)
def test_a_demo_learns_the_digits(tool, tmp_path, monkeypatch, config):
    monkeypatch.chdir(tmp_path)
    make_digits, train, test = tool('make_digits'), tool('train'), tool('test')
    torch.set_num_threads(os.cpu_count())  # the fixture leaves one
    make_digits.main([])
    train.main([str(config), '--work-dir', 'work'])
    metrics = test.main([str(config), 'work/iter_600.pth', '--work-dir', 'work'])
    assert metrics['coco/bbox_mAP'] >= 0.6
    assert metrics['coco/segm_mAP'] >= 0.6


@pytest.mark.slow
@pytest.mark.parametrize('config', CLASSIFIERS, ids=lambda path: path.stem)
def test_a_classifier_learns_the_digits(tool, tmp_path, monkeypatch, config):
    monkeypatch.chdir(tmp_path)
    make_digits, train, test = tool('make_digits'), tool('train'), tool('test')
    torch.set_num_threads(os.cpu_count())
    make_digits.main(['classification'])
    train.main([str(config), '--work-dir', 'work'])
    metrics = test.main([str(config), 'work/iter_800.pth', '--work-dir', 'work'])
    assert metrics['accuracy/top1'] >= 97
