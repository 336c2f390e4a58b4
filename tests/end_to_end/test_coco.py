"""Unmodified configs on real COCO images: train, resume, evaluate (`make test-e2e`)."""

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
    runner = tool('train').main([*arguments, '--from-scratch', '--seed', '0', *options])
    assert runner.iter >= 18  # two images have no boxes
    losses, _ = runner.message_hub.get_scalar('train/loss').data
    assert losses[-5:].mean() < losses[:5].mean()
    metrics = tool('test').main([arguments[0], 'work/epoch_1.pth', '--work-dir', 'work', *options])
    assert {'coco/bbox_mAP', 'coco/segm_mAP'} <= set(metrics)


def test_the_flagship_trains_resumes_and_evaluates(tool, tmp_path, capsys):
    work_dir = tmp_path / 'work'
    arguments = [str(ROOT / CONFIG), '--work-dir', str(work_dir), '--from-scratch', '--seed', '0']

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


def test_a_segmentor_trains_on_label_maps_of_instances(tool, capsys):
    convert = tool('dataset_converters/coco_instances_to_semantic')
    for split in ('train2017', 'val2017'):
        ann_file = f'data/coco/annotations/instances_{split}.json'
        convert.main([ann_file, f'data/coco_semantic/{split}', '--jobs', '2'])
        assert len(list(Path(f'data/coco_semantic/{split}').glob('*.png'))) >= NUM_IMAGES

    side, pipeline = '(160,160)', 'train_dataloader.dataset.pipeline'
    options = {
        'train_cfg.max_iters': 50,
        'train_cfg.val_interval': 50,
        'model.data_preprocessor.size': side,
        f'{pipeline}.2.scale': '(640,160)',
        f'{pipeline}.3.crop_size': side,
        'test_dataloader.dataset.pipeline.1.scale': '(640,160)',
        'val_dataloader.dataset.indices': 4,
        'default_hooks.logger.interval': 5,
        # the rate and the warm-up are for 80,000 iterations from weights of ImageNet
        'optim_wrapper.optimizer.lr': 5e-4,
        'param_scheduler.0.end': 5,
        'param_scheduler.1.begin': 5,
    }
    config = str(ROOT / 'configs/semantic_fpn_coat_lite_small_80k_coco.py')
    settings = ['--work-dir', 'work', '--cfg-options', *(f'{k}={v}' for k, v in options.items())]
    runner = tool('train').main([config, '--from-scratch', '--seed', '0', *settings])
    losses, _ = runner.message_hub.get_scalar('train/loss').data
    assert runner.iter == 50
    assert losses[-10:].mean() < 0.9 * losses[:10].mean()

    capsys.readouterr()
    metrics = tool('test').main([config, 'work/iter_50.pth', *settings])
    assert 0 < metrics['mIoU'] <= 100
    assert '| person' in ''.join(capsys.readouterr()).replace('|     person', '| person')
