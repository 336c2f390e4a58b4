"""Inference by what the hosts offer for it, in a program that imports nothing of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import CLASSES, CONFIGS
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope, init_default_scope

ROOT = Path(__file__).parents[2]

DETECTOR = """
model['backbone'] = dict(_delete_=True, type='mmvitx.CoaT', arch='lite_tiny')
model['neck']['in_channels'] = [64, 128, 256, 320]
"""
SEGMENTOR = """
model['backbone'] = dict(type='mmvitx.CoaT', arch='lite_tiny')
model['decode_head']['in_channels'] = 320
"""

USES = dict(
    mmdet="""
from mmdet.apis import DetInferencer, inference_detector, init_detector
inferencer = DetInferencer(config, checkpoint, device='cpu', show_progress=False)
ours = inferencer(image, no_save_vis=True, return_datasamples=True)['predictions'][0]
model = init_detector(config, checkpoint, device='cpu')
other = inference_detector(model, image)
assert model.dataset_meta['classes'] == classes
assert len(other.pred_instances) == 10 and other.pred_instances.masks.shape[1:] == (64, 64)
a, b = ours.pred_instances.bboxes, other.pred_instances.bboxes
""",
    mmseg="""
from mmseg.apis import MMSegInferencer, inference_model, init_model
inferencer = MMSegInferencer(config, checkpoint, device='cpu')
ours = inferencer(image, return_datasamples=True)
assert inferencer(image)['predictions'].shape == (64, 64)
model = init_model(config, checkpoint, device='cpu')
other = inference_model(model, image)
assert model.dataset_meta['classes'] == classes
assert other.pred_sem_seg.data.shape == (1, 64, 64)
a, b = ours.seg_logits.data, other.seg_logits.data
""",
)

CHECKS = """
assert type(model.backbone).__module__ == 'mmvitx.models.backbones.coat'
assert torch.equal(a, b)
"""


@pytest.fixture
def settings(write_config, tiny_data, tmp_path):
    """Of each host a config and a checkpoint with one of our backbones, and an image."""
    settings = {}
    for host, extra in (('mmdet', DETECTOR), ('mmseg', SEGMENTOR)):
        # as in _base_/default_runtime.py: all it takes
        assert "custom_imports = dict(imports=['mmvitx'])" in CONFIGS[host]
        config = write_config(tmp_path, host, extra=extra)
        init_default_scope(host)
        torch.manual_seed(0)
        model = MODELS.build(Config.fromfile(config).model)
        meta = dict(dataset_meta=dict(classes=CLASSES, palette=[(0, 0, 0)] * 3))
        checkpoint = str(tmp_path / f'{host}.pth')
        torch.save(dict(meta=meta, state_dict=model.state_dict()), checkpoint)
        settings[host] = dict(config=config, checkpoint=checkpoint)
    yield settings, dict(image=str(tiny_data / 'images/0.png'), classes=CLASSES)
    DefaultScope._instance_dict.clear()


def test_inference_on_one_image(settings, tmp_path):
    """By an inferencer and by the function: the same, from the backbone that the config names."""
    by_host, given = settings
    program = ['import torch', f'globals().update({given!r})']
    for host, files in by_host.items():
        program += [f'globals().update({files!r})', USES[host], CHECKS]
    done = subprocess.run(
        [sys.executable, '-c', '\n'.join(program)],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
