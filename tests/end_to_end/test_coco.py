"""The unmodified flagship config on real COCO images: train, resume, evaluate (`make test-e2e`)."""

import json
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = 'configs/mask_rcnn_coat_small_1x_coco.py'
COCO = Path(os.environ.get('MMVITX_COCO', ROOT / 'data/coco'))
NUM_IMAGES = 128

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not (COCO / 'annotations/instances_train2017.json').is_file(),
        reason=f'needs COCO in {COCO}: link it there or name its place in MMVITX_COCO',
    ),
]


def settings(max_epochs, batch_size=2, num_images=NUM_IMAGES):
    """What makes a config small enough for a CPU: images, batch, iterations."""
    side = '[(160,267)]'
    resize = 'train_dataloader.dataset.pipeline.3.transforms'
    options = {
        'train_cfg.max_epochs': max_epochs,
        'train_dataloader.batch_size': batch_size,
        f'{resize}.0.0.scales': side,
        f'{resize}.1.2.scales': side,
        'default_hooks.logger.interval': 5,
    }
    for loop in ('train', 'val', 'test'):
        options[f'{loop}_dataloader.dataset.indices'] = num_images
        if loop != 'train':
            options[f'{loop}_dataloader.dataset.pipeline.1.scale'] = '(267,160)'
    return ['--cfg-options', *(f'{key}={value}' for key, value in options.items())]


def scalars(work_dir):
    return [
        json.loads(line)
        for path in sorted(work_dir.glob('*/vis_data/scalars.json'))
        for line in path.read_text().splitlines()
    ]


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """Put the data where the configs look for them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/coco').symlink_to(COCO.resolve())


@pytest.mark.parametrize('model', ['cait_xxs24', 'crossvit_small'])
def test_the_other_families_train_and_evaluate(tool, model):
    options = settings(max_epochs=1, batch_size=1, num_images=20)
    options.append('model.test_cfg.rcnn.score_thr=0.0')  # after so few iterations none is high
    arguments = [str(ROOT / f'configs/mask_rcnn_{model}_1x_coco.py'), '--work-dir', 'work']
    runner = tool('train').main([*arguments, '--seed', '0', *options])
    assert runner.iter >= 18  # two images have no boxes
    losses, _ = runner.message_hub.get_scalar('train/loss').data
    assert losses[-5:].mean() < losses[:5].mean()
    metrics = tool('test').main([arguments[0], 'work/epoch_1.pth', '--work-dir', 'work', *options])
    assert {'coco/bbox_mAP', 'coco/segm_mAP'} <= set(metrics)


def test_the_flagship_trains_resumes_and_evaluates(tool, tmp_path, capsys):
    work_dir = tmp_path / 'work'
    arguments = [str(ROOT / CONFIG), '--work-dir', str(work_dir), '--seed', '0']

    tool('train').main([*arguments, *settings(max_epochs=1)])
    runner = tool('train').main([*arguments, '--resume', *settings(max_epochs=2)])
    assert runner.epoch == 2
    assert runner.iter >= 100

    losses = [record['loss'] for record in scalars(work_dir) if 'loss' in record]
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])

    capsys.readouterr()
    checkpoint = str(work_dir / 'epoch_2.pth')
    metrics = tool('test').main([str(ROOT / CONFIG), checkpoint, *settings(max_epochs=2)])
    assert {'coco/bbox_mAP', 'coco/segm_mAP'} <= set(metrics)
    assert 'Average Precision  (AP) @[ IoU=0.50:0.95' in capsys.readouterr().out
