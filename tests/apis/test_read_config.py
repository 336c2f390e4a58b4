"""Configs as a command line names them, and the options that change them."""

from __future__ import annotations

import re
import shutil
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmvitx.apis import configs as apis
from mmvitx.engine import configs, launch, resume
from mmvitx.engine.configs import walk
from mmvitx.errors import UserError

ROOT = Path(__file__).parents[2]
RCNN = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'


def arguments(config, **options) -> Namespace:
    defaults = dict(backbone=None, data_root=None, cfg_options={}, launcher='none', work_dir=None)
    return Namespace(**{**defaults, 'config': str(config), **options})


@pytest.mark.parametrize(
    ('name', 'scope'),
    [
        (RCNN, 'mmdet'),
        ('mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py', 'mmseg'),
        ('mmpretrain::resnet/resnet50_8xb32_in1k.py', 'mmpretrain'),
    ],
)
def test_names_of_the_hosts_configs(name, scope):
    cfg, notes = apis.read_config(arguments(name))
    assert cfg.default_scope == scope and notes == []
    assert cfg.work_dir == f'work_dirs/{Path(name).stem}'


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        (RCNN.replace('1x_coco', '1x_cco'), f'did you mean {RCNN} or'),
        ('mmdet::faster-rcnn_r50_fpn_1x_coco.py', f'did you mean {RCNN} or'),
        ('mmdet::_base_/no.py', 'the config mmdet::_base_/no.py does not exist'),
        ('mmyolo::yolov5/yolov5_s.py', 'expected one of mmdet, mmseg, mmpretrain before the ::'),
        ('configs', r'has several \(cascade.*, \.\.\. \d+ in all\): name a config'),
        ('docs', r'docs is a folder, .* has none \(\*\.py\): name a config'),
    ],
)
def test_names_that_are_wrong(name, message, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=message):
        configs.find_config(name)


def test_a_host_that_is_missing(monkeypatch):
    monkeypatch.setattr(configs.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='is for MMDetection, which is not .*: pip install mmdet'):
        configs.find_config(RCNN)


@pytest.fixture
def backbone(monkeypatch):
    """A stand-in for use_backbone, which is tested by itself."""

    def use_backbone(cfg, name, pretrained, keep_optimizer):
        assert pretrained
        cfg.model.backbone = dict(type='mmvitx.CoaT', arch=name)
        cfg.optim_wrapper.optimizer.lr = 1.0 if keep_optimizer else 2.0
        return ['a change', 'another']

    monkeypatch.setattr(apis, 'use_backbone', use_backbone)


@pytest.mark.parametrize(('keep', 'lr'), [(False, 2.0), (True, 1.0)])
def test_another_backbone(backbone, capsys, keep, lr):
    options = {'model.backbone.arch': 'small'}
    args = arguments(RCNN, backbone='coat_tiny', cfg_options=options)
    cfg, notes = apis.read_config(args, keep)
    assert notes == ['--backbone coat_tiny:\n  a change\n  another']
    assert capsys.readouterr().out == notes[0] + '\n'
    assert cfg.optim_wrapper.optimizer.lr == lr
    assert cfg.model.backbone.arch == 'small'  # options come last
    assert cfg.work_dir == 'work_dirs/faster-rcnn_r50_fpn_1x_coco_coat_tiny'
    assert cfg.filename == 'faster-rcnn_r50_fpn_1x_coco_coat_tiny.py'


def test_a_work_dir(backbone, write_config, tmp_path):
    folder = tmp_path / 'moved'
    folder.mkdir()
    state = "work_dir = 'elsewhere'\nresume = True\nload_from = 'epoch_1.pth'\n"
    write_config(folder, extra=state)
    cfg, _ = apis.read_config(arguments(folder))
    assert cfg.work_dir == str(folder)
    assert (cfg.resume, cfg.load_from) == (False, None)  # that was another run's
    cfg, _ = apis.read_config(arguments(folder, work_dir='new'))
    assert cfg.work_dir == 'new'
    cfg, _ = apis.read_config(arguments(folder, backbone='coat_tiny'))
    assert cfg.work_dir == 'work_dirs/tiny_mmdet_coat_tiny'  # another model: another run


def test_a_work_dir_that_was_moved(data, write_config, tmp_path):
    """It still finds the annotations that were mended in it, and only those."""
    folder = tmp_path / 'moved'
    (folder / 'data').mkdir(parents=True)
    (folder / 'data/train_dataloader.dataset.json').write_text('{}')
    old = '/no/run/data/train_dataloader.dataset.json'
    extra = (
        f"train_dataloader['dataset']['ann_file'] = '{old}'\nval_evaluator['ann_file'] = '/no'\n"
    )
    write_config(folder, root=data, extra=extra)
    cfg, _ = apis.read_config(arguments(folder))
    assert cfg.train_dataloader.dataset.ann_file == f'{folder}/data/train_dataloader.dataset.json'
    assert cfg.val_dataloader.dataset.ann_file == 'coco.json'
    assert cfg.val_evaluator.ann_file == '/no'


def test_what_has_changed_is_in_the_log(backbone, write_config, tool, tmp_path):
    path, log = write_config(tmp_path), tmp_path / 'work'
    train = tool('train')
    args = train.parse_args([path, '--work-dir', str(log), '--backbone', 'tiny'])
    cfg, notes = apis.read_config(args)
    cfg.model.backbone = Config.fromfile(path).model.backbone
    launch.build_runner(cfg, 'train', notes=notes)
    (text,) = (path.read_text() for path in log.glob('*/*.log'))
    assert '--backbone tiny:\n  a change\n  another\n' in text
    assert [path.name for path in log.glob('*.py')] == ['tiny_mmdet_tiny.py']


@pytest.mark.parametrize(
    ('config', 'old', 'paths'),
    [
        ('configs/mask_rcnn_coat_small_1x_coco.py', 'data/coco', 5),
        ('configs/upernet_coat_small_160k_ade20k.py', 'data/ade', 3),
        ('configs/pretrain/coat_small_8xb128_in1k.py', 'data/imagenet', 3),
        ('mmdet::lvis/mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1.py', 'data/lvis_v1', 5),
    ],
)
def test_data_elsewhere(config, old, paths, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    before = dict(walk(dict(apis.read_config(arguments(config))[0].items())))
    cfg, notes = apis.read_config(arguments(config, data_root=str(tmp_path)))
    changed = {
        where: value
        for where, value in walk(dict(cfg.items()))
        if isinstance(value, str) and value != before[where]
    }
    assert notes == [] and old not in str(cfg.to_dict())
    assert all(value.startswith(str(tmp_path)) for value in changed.values())
    assert sum(where.split('.')[0].endswith(('loader', 'evaluator')) for where in changed) == paths


def test_data_inside_the_old_place(tmp_path):
    """Dataloaders that are one object are changed once."""
    cfg = configs.read(configs.find_config(RCNN))
    cfg.train_dataloader = cfg.test_dataloader = cfg.val_dataloader
    cfg.val_dataloader.dataset.data_root = cfg.val_dataloader.dataset.ann_file = str(tmp_path)
    inner = tmp_path / 'inner'
    inner.mkdir()
    configs.move_data(cfg, f'{inner}/')
    assert cfg.test_dataloader.dataset.data_root == str(inner)
    assert cfg.val_evaluator.ann_file.startswith('data/coco')  # no dataset's place


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            {'train_dataloader.dataset.data_root': 'other'},
            r'several: other \(train_dataloader.dataset.data_root\); data/coco \(val_dataloader.*'
            r'val_evaluator.ann_file, .*\); set each with --cfg-options',
        ),
        (
            {f'{part}_dataloader.dataset.data_root': None for part in ('train', 'val', 'test')},
            'have no data_root: name their files with --cfg-options',
        ),
        ({}, 'the folder nowhere does not exist'),
    ],
)
def test_data_that_cannot_be_moved(options, message):
    cfg = configs.read(configs.find_config(RCNN))
    cfg.merge_from_dict(options)
    with pytest.raises(UserError, match=message):
        configs.move_data(cfg, 'nowhere')


RTMDET = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'
SEGFORMER = 'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py'


@pytest.mark.parametrize(
    ('config', 'option', 'warning'),
    [
        (RCNN, 'data_root', r'variable of the config file; use --data-root$'),
        (RTMDET, 'max_epochs', r'a variable of .* did you mean train_cfg.max_epochs\?'),
        (RTMDET, 'base_lr', r'did you mean optim_wrapper.optimizer.lr\?'),
        (RTMDET, 'stage2_num_epochs', 'a variable of the config file$'),
        (RCNN, 'train_pipeline.0.type', r'mean train_dataloader.dataset.pipeline.0.type\?'),
        (RCNN, 'dataset_type', 'did you mean train_dataloader.dataset.type or val_.*or test_'),
        (RCNN, 'batch_size', 'since nothing reads it; did you mean train_dataloader.batch_size or'),
        (RCNN, 'lr', r'did you mean optim_wrapper.optimizer.lr\?'),
        (RCNN, 'answer', 'answer has no effect, since nothing reads it$'),
        (RCNN, 'data_preprocessor.std', r'did you mean model.data_preprocessor.std\?'),
        (RCNN, 'auto_scale_lr.base_batchsize', r'did you mean auto_scale_lr.base_batch_size\?'),
        (SEGFORMER, 'crop_size', 'did you mean train_dataloader.dataset.pipeline.3.crop_size or'),
    ],
)
def test_options_that_nothing_reads(config, option, warning):
    cfg = configs.read(configs.find_config(config))
    cfg.data_preprocessor = dict(type='DetDataPreprocessor', std=[1, 1, 1])
    (text,) = configs.merge_options(cfg, {option: 1})
    assert text.startswith(f'--cfg-options {option}')
    assert re.search(warning, text), text


@pytest.mark.parametrize('config', [RCNN, 'mmpretrain::resnet/resnet50_8xb32_in1k.py'])
def test_options_that_are_read(config):
    cfg = configs.read(configs.find_config(config))
    options = {
        'custom_imports.imports': ['mmvitx'],
        'work_dir': 'work',
        'env_cfg.cudnn_benchmark': True,
        'randomness.seed': 1,
        'find_unused_parameters': True,
        'optim_wrapper.clip_grad.max_norm': 1.0,
        'param_scheduler.0.begin': 1,
        'model.backbone.init_cfg.prefix': 'backbone.',
    }
    if config != RCNN:
        options['data_preprocessor.num_classes'] = 3  # it is not in the model there
    assert configs.merge_options(cfg, options) == []


def test_the_best_checkpoint_is_evaluated(tmp_path):
    assert resume.find_weights(str(tmp_path)) is None
    for name, time in (('epoch_1', '1'), ('best_top1_epoch_1', '2'), ('epoch_2', '3')):
        assert resume.find_weights(str(tmp_path)) != f'{tmp_path}/{name}.pth'
        torch.save(dict(state_dict={}, meta=dict(time=time)), tmp_path / f'{name}.pth')
    assert resume.find_weights(str(tmp_path)) == f'{tmp_path}/best_top1_epoch_1.pth'
    (tmp_path / 'best_top1_epoch_1.pth').write_bytes(b'cut off')
    assert resume.find_weights(str(tmp_path)) == f'{tmp_path}/epoch_2.pth'


def test_a_work_dir_is_trained_and_tested(write_config, tool, tmp_path, monkeypatch):
    """By its own config, which a test with other settings leaves as it is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'config').mkdir()
    train, test = tool('train'), tool('test')
    config = write_config(tmp_path / 'config', 'mmpretrain')
    train.main([config, '--seed', '3'])
    work = Path('work_dirs/tiny_mmpretrain')
    written = (work / 'tiny_mmpretrain.py').read_text()
    with pytest.raises(UserError, match='no checkpoint in empty: name one'):
        test.main([config, '--work-dir', 'empty'])
    for words in ([str(work), '--tta'], [config], ['--work-dir', str(work), config]):
        assert 'accuracy/top1' in tool('test').main(words)
        assert (work / 'tiny_mmpretrain.py').read_text() == written
    shutil.copytree(work, 'moved')
    options = ['--resume', '--cfg-options', 'train_cfg.max_epochs=2']
    runner = tool('train').main(['moved', *options])
    assert runner.iter == 4 and Path('moved/epoch_2.pth').is_file()
    assert tool('train').main(['moved']).iter == 4  # anew, by the settings of the last run there


def test_the_checkpoint_may_stand_behind_options(tool):
    args = tool('test').parse_args(['a.py', '--work-dir', 'b', 'c.pth', '--tta'])
    assert (args.config, args.checkpoint, args.work_dir) == ('a.py', 'c.pth', 'b')
