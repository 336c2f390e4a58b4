"""tools/train.py and tools/test.py, on data and models of seconds (see conftest.py)."""

from __future__ import annotations

import json
import os
import pickle
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, OPTIM_WRAPPERS, init_default_scope
from mmengine.runner import EpochBasedTrainLoop

from mmvitx.apis.configs import read_config
from mmvitx.checkpoints import load_file
from mmvitx.engine import cli, configs, evaluation, launch
from mmvitx.errors import UserError

ROOT = Path(__file__).parents[2]
HOSTS = ('mmdet', 'mmseg', 'mmpretrain')
METRICS = dict(mmdet='coco/bbox_mAP', mmseg='mIoU', mmpretrain='accuracy/top1')


@pytest.fixture(scope='module')
def trained(tool, write_config, tmp_path_factory) -> dict[str, Path]:
    """Of each host a work dir with a config and the checkpoint of an epoch."""
    folders = {}
    for host in HOSTS:
        folder = folders[host] = tmp_path_factory.mktemp(host)
        (folder / 'config').mkdir()  # mmengine writes one of the same name into the work dir
        config = write_config(folder / 'config', host)
        runner = tool('train').main([config, '--work-dir', str(folder), '--seed', '3'])
        assert runner.iter == 2
    return folders


def arguments(trained, host, tmp_path) -> list[str]:
    folder = trained[host]
    config, checkpoint = folder / f'config/tiny_{host}.py', folder / 'epoch_1.pth'
    return [str(config), str(checkpoint), '--work-dir', str(tmp_path / 'work')]


@pytest.mark.parametrize('host', HOSTS)
def test_evaluates(trained, tool, tmp_path, capfd, host):
    out, show = tmp_path / 'new' / 'predictions.pkl', tmp_path / 'show'
    metrics = tool('test').main(
        arguments(trained, host, tmp_path)
        + ['--classwise', '--out', str(out), '--show-dir', str(show)]
    )
    assert 0 <= metrics[METRICS[host]] <= 100
    with open(out, 'rb') as file:
        assert len(pickle.load(file)) == 4

    pictures = sorted(show.rglob('*.png'))
    assert len(pictures) == 4 and all(cv2.imread(str(path)) is not None for path in pictures)
    printed = capfd.readouterr().out
    assert f'predictions: {out}' in printed and f'pictures: {pictures[0].parent}' in printed

    if host == 'mmdet':
        assert {'coco/segm_mAP', 'coco/square_precision', 'coco/plate_precision'} <= metrics.keys()
        assert printed.count('Average Precision  (AP)') == 12  # of boxes and of masks
    elif host == 'mmpretrain':
        assert len(metrics['by-class/precision_classwise']) == 3


@pytest.mark.parametrize('host', HOSTS)
def test_augments(trained, tool, tmp_path, capfd, host):
    metrics = tool('test').main([*arguments(trained, host, tmp_path), '--tta'])
    assert METRICS[host] in metrics
    if host == 'mmdet':
        assert 'coco/segm_mAP' not in metrics
        assert 'masks are not evaluated' in capfd.readouterr().out


@pytest.mark.parametrize(
    'name', ['mask_rcnn_coat_lite_mini_1x_coco', 'cascade_mask_rcnn_coat_lite_small_1x_coco']
)
def test_augments_our_detectors(name):
    """Both kinds build without the masks that mmdet's augmentation refuses."""
    cfg = Config.fromfile(ROOT / f'configs/{name}.py')
    cfg.test_evaluator = [cfg.test_evaluator]
    evaluation.augment(cfg)
    assert cfg.test_evaluator[0].metric in ('bbox', ['bbox'])
    assert cfg.test_dataloader.dataset.pipeline[-1].type == 'TestTimeAug'
    init_default_scope('mmdet')
    model = MODELS.build(cfg.model)
    assert type(model).__name__ == 'DetTTAModel' and not model.module.with_mask


@pytest.mark.parametrize(('options', 'views'), [([], 6 * 2), (['tta_pipeline=None'], 2)])
def test_augments_our_segmentors(tool, tiny_data, options, views):
    """By the scales and flips of mmseg's ADE20K, or by flips alone."""
    arguments = [str(ROOT / 'configs/upernet_coat_mini_160k_ade20k.py'), 'no.pth']
    options = ['--cfg-options', *options] if options else []
    cfg, _ = read_config(tool('test').parse_args([*arguments, *options]))
    evaluation.augment(cfg)
    init_default_scope('mmseg')
    sample = dict(
        img_path=str(tiny_data / 'images/0.png'),
        seg_map_path=str(tiny_data / 'masks/0.png'),
        reduce_zero_label=True,
        seg_fields=[],
    )
    packed = Compose(cfg.test_dataloader.dataset.pipeline)(sample)
    assert len(packed['inputs']) == len(packed['data_samples']) == views
    assert [one.flip for one in packed['data_samples']].count(True) == views // 2
    assert cfg.model.type.endswith('SegTTAModel')


def test_augmented_views_are_turned_back(trained, tool, write_config, tiny_data, tmp_path):
    """What is merged for a symmetric image is symmetric; without flipping it is not."""
    data = shutil.copytree(tiny_data, tmp_path / 'data')
    for path in data.glob('images/*.png'):
        image = cv2.imread(str(path))
        cv2.imwrite(str(path), np.maximum(image, image[:, ::-1]))
    config = write_config(tmp_path, 'mmseg', root=data)
    checkpoint, out = str(trained['mmseg'] / 'epoch_1.pth'), tmp_path / 'out.pkl'
    symmetric = {}
    for augmented in ([], ['--tta']):
        tool('test').main(
            [config, checkpoint, '--work-dir', str(tmp_path / 'work'), '--out', str(out)]
            + augmented
        )
        labels = [one['pred_sem_seg']['data'] for one in pickle.loads(out.read_bytes())]
        symmetric[bool(augmented)] = all(torch.equal(map, map.flip(-1)) for map in labels)
    assert symmetric == {True: True, False: False}


@pytest.mark.parametrize('host', HOSTS)
def test_resumes(trained, tool, tmp_path, host):
    config = str(trained[host] / f'config/tiny_{host}.py')
    options = ['--seed', '3', '--cfg-options', 'train_cfg.max_epochs=2']
    work = str(shutil.copytree(trained[host], tmp_path / 'work'))
    named = tool('train').main(
        [config, '--work-dir', str(tmp_path), '--resume', f'{work}/epoch_1.pth', *options]
    )
    (tmp_path / 'work' / 'last_checkpoint').write_text(f'{work}/epoch_1.pth')
    latest = tool('train').main([config, '--work-dir', work, '--resume', *options])
    assert named.epoch == latest.epoch == 2 and named.iter == latest.iter == 4
    assert (tmp_path / 'epoch_2.pth').is_file() and (tmp_path / 'work' / 'epoch_2.pth').is_file()
    assert len(latest.message_hub.get_scalar('train/loss').data[0]) == 4
    assert same(named.model, latest.model)


def same(model, other) -> bool:
    other = other.state_dict()
    return all(torch.equal(value, other[name]) for name, value in model.state_dict().items())


def test_a_seed_repeats_a_run(trained, tool, tmp_path):
    config = str(trained['mmdet'] / 'config/tiny_mmdet.py')
    first = load_file(trained['mmdet'] / 'epoch_1.pth')['state_dict']
    for seed, equal in (('3', True), ('4', False)):
        runner = tool('train').main([config, '--work-dir', str(tmp_path), '--seed', seed])
        assert runner.seed == int(seed)
        weights = runner.model.state_dict()
        assert all(torch.equal(value, first[name]) for name, value in weights.items()) is equal


def test_scales_the_learning_rate(trained, tool, tmp_path):
    config = str(trained['mmpretrain'] / 'config/tiny_mmpretrain.py')
    runner = tool('train').main([config, '--work-dir', str(tmp_path), '--auto-scale-lr'])
    assert runner.optim_wrapper.get_lr()['lr'][0] == pytest.approx(1e-3 * 2 / 16)


@pytest.mark.parametrize('host', HOSTS)
def test_refuses_a_checkpoint_without_a_part(trained, tool, tmp_path, host):
    """Of a model that has nothing of ours, too; a training takes what there is."""
    config, path, *work = arguments(trained, host, tmp_path)
    checkpoint = load_file(path)
    checkpoint['state_dict'] = {
        name: value
        for name, value in checkpoint['state_dict'].items()
        if name.startswith(('backbone', 'neck', 'rpn_head'))
    }
    torch.save(checkpoint, tmp_path / 'part.pth')
    for augmented in ([], ['--tta']):
        with pytest.raises(
            UserError, match=r'part.pth has no weights for .*head \(\d+\): .*--allow'
        ):
            tool('test').main([config, str(tmp_path / 'part.pth'), *work, *augmented])
    tool('test').main([config, str(tmp_path / 'part.pth'), *work, '--allow-missing'])
    options = ['--cfg-options', f'load_from={tmp_path}/part.pth']
    tool('train').main([config, '--work-dir', str(tmp_path / 'train'), *options])


def test_starts_from_weights(trained, tool, tmp_path):
    """From those that fit; the head of another number of classes starts anew."""
    config = str(trained['mmpretrain'] / 'config/tiny_mmpretrain.py')
    checkpoint = load_file(trained['mmpretrain'] / 'epoch_1.pth')
    checkpoint['state_dict']['head.fc.weight'] = torch.zeros(9, 64)
    torch.save(checkpoint, tmp_path / 'other.pth')
    options = [f'load_from={tmp_path}/other.pth', 'optim_wrapper.optimizer.lr=0']
    runner = tool('train').main([config, '--work-dir', str(tmp_path), '--cfg-options', *options])
    name = 'backbone.layer1.0.conv1.weight'
    torch.testing.assert_close(runner.model.state_dict()[name], checkpoint['state_dict'][name])


# What a user gets wrong: (arguments after the config, what the one sentence says).
TRAIN_ERRORS = {
    'data root': (
        ['--cfg-options', 'train_dataloader.dataset.data_root=nowhere'],
        'data root nowhere does not exist',
    ),
    'annotation file': (
        ['--cfg-options', 'val_dataloader.dataset.ann_file=no.json'],
        'annotation file .*no.json does not exist',
    ),
    'image folder': (
        ['--cfg-options', 'train_dataloader.dataset.data_prefix.img=no'],
        'image folder .*no does not exist',
    ),
    'evaluator': (['--cfg-options', 'val_evaluator.ann_file=no.json'], 'no.json does not exist'),
    'name of an option': (
        ['--cfg-options', 'optim_wraper.optimizer.lr=1'],
        'no optim_wraper; did you mean optim_wrapper.optimizer.lr?',
    ),
    'middle of an option': (
        ['--cfg-options', 'model.backbon.depth=34'],
        'no model.backbon; did you mean model.backbone.depth?',
    ),
    'option that does not fit': (
        ['--cfg-options', 'test_dataloader.dataset.pipeline.9.type=A'],
        'test_dataloader.dataset.pipeline.9.type=A does not fit the config',
    ),
    'amp': (['--amp'], 'needs an accelerator'),
    'resume from nothing': (['--resume', 'no.pth'], 'checkpoint no.pth does not exist'),
    'load from nothing': (['--cfg-options', 'load_from=no.pth'], 'no.pth does not exist'),
    'launcher': (['--launcher', 'pytorch'], 'RANK, LOCAL_RANK, WORLD_SIZE .*dist_train.sh'),
}


@pytest.mark.parametrize('error', TRAIN_ERRORS)
def test_train_says_what_is_wrong(trained, tool, tmp_path, monkeypatch, error):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(EpochBasedTrainLoop, 'run', None)  # no training starts
    for name in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE'):
        monkeypatch.delenv(name, raising=False)
    args, message = TRAIN_ERRORS[error]
    if error == 'amp' and torch.cuda.is_available():
        pytest.skip('there is an accelerator')
    with pytest.raises(UserError, match=message) as raised:
        tool('train').main([str(trained['mmdet'] / 'config/tiny_mmdet.py'), *args])
    assert '\n' not in str(raised.value)
    assert not list(tmp_path.iterdir())  # not even a folder is left


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is an accelerator')
def test_a_config_in_mixed_precision_trains_in_float32(write_config, tool, tmp_path, capfd):
    extra = "optim_wrapper.update(type='AmpOptimWrapper', loss_scale='dynamic', dtype='bfloat16')"
    arguments = [write_config(tmp_path, 'mmpretrain', extra=extra), '--work-dir', str(tmp_path)]
    runner = tool('train').main(arguments)
    assert type(runner.optim_wrapper) is OptimWrapper
    assert capfd.readouterr().out.count('so it trains in float32') == 1
    with pytest.raises(UserError, match='--amp.* needs an accelerator'):
        tool('train').main([*arguments, '--amp'])
    assert tool('test').main([arguments[0], str(tmp_path / 'epoch_1.pth'), *arguments[1:]])


class AmpOptimWrapperOfTheirs(OptimWrapper):
    """Takes a setting of AmpOptimWrapper."""

    def __init__(self, dtype, **settings):
        super().__init__(**settings)


def test_an_optim_wrapper_of_the_users_own_stays(write_config, tool, tmp_path, capfd):
    name = AmpOptimWrapperOfTheirs.__name__
    extra = f"optim_wrapper.update(type='{name}', dtype='bfloat16')"
    config = write_config(tmp_path, 'mmpretrain', extra=extra)
    with OPTIM_WRAPPERS.switch_scope_and_registry(None) as registry:
        registry._register_module(AmpOptimWrapperOfTheirs)
        try:
            runner = tool('train').main([config, '--work-dir', str(tmp_path)])
        finally:
            del registry._module_dict[name]
    assert type(runner.optim_wrapper) is AmpOptimWrapperOfTheirs
    assert 'float32' not in capfd.readouterr().out


@pytest.mark.parametrize('host', HOSTS)
def test_mixed_precision_of_any_config(trained, tool, host, monkeypatch):
    """Also of those that leave the type of the optim_wrapper to mmengine."""
    monkeypatch.setattr(launch, 'get_device', lambda: 'cuda')
    train = tool('train')
    cfg = Config.fromfile(trained[host] / f'config/tiny_{host}.py')
    assert 'type' not in cfg.optim_wrapper
    train.apply_arguments(cfg, train.parse_args(['config.py', '--amp']))
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    cfg.optim_wrapper.type = 'ApexOptimWrapper'
    with pytest.raises(UserError, match='--amp cannot replace the optim_wrapper ApexOptimWrapper'):
        train.apply_arguments(cfg, train.parse_args(['config.py', '--amp']))


def test_from_scratch(tool):
    """Backbones lose what they are initialized from, wherever they are; nothing else does."""
    train, weights = tool('train'), dict(type='Pretrained', checkpoint='a.pth')
    random = [dict(type='Kaiming', layer='Conv2d')]
    kept = dict(
        neck=dict(init_cfg=weights),
        teacher=dict(backbone=dict(init_cfg=weights)),
        language_model=dict(pretrained=True),
    )
    model = dict(
        pretrained='a.pth',
        backbone=dict(type='ResNet', init_cfg=random),
        branches=[dict(backbone=dict(init_cfg=[*random, weights], pretrained='a.pth'))],
        img_backbone=dict(inner=dict(init_cfg=dict(checkpoint='a.pth'))),
        **kept,
    )
    cfg = Config(dict(model=model, load_from='a.pth', optim_wrapper={}))
    train.apply_arguments(cfg, train.parse_args(['config.py', '--from-scratch']))
    expected = dict(
        backbone=dict(type='ResNet', init_cfg=random),
        branches=[dict(backbone={})],
        img_backbone=dict(inner={}),
        **kept,
    )
    assert (cfg.model.to_dict(), cfg.load_from) == (expected, None)


@pytest.mark.parametrize(
    'name, message',
    [
        ('no.pth', 'checkpoint .*no.pth does not exist'),
        ('other.pth', r'none of the 1 tensors .* \(model.backbone.init_cfg\) fits the ResNet'),
    ],
)
def test_train_needs_what_a_part_starts_from(write_config, tool, tmp_path, name, message):
    torch.save(dict(weight=torch.zeros(1)), tmp_path / 'other.pth')
    init = dict(type='Pretrained', checkpoint=str(tmp_path / name))
    config = write_config(tmp_path, extra=f"model['backbone']['init_cfg'] = {init}\n")
    with pytest.raises(UserError, match=message):
        tool('train').main([config, '--work-dir', str(tmp_path / 'work')])


def test_train_refuses_an_output_folder(trained, tool, tmp_path):
    (tmp_path / 'file').touch()
    config = str(trained['mmdet'] / 'config/tiny_mmdet.py')
    with pytest.raises(UserError, match='output folder .*file/work cannot be written .*--work-dir'):
        tool('train').main([config, '--work-dir', str(tmp_path / 'file/work')])


def test_train_needs_a_base_batch_size(write_config, tool, tmp_path):
    config = write_config(tmp_path, extra='del auto_scale_lr\n')
    with pytest.raises(UserError, match='add auto_scale_lr'):
        tool('train').main([config, '--auto-scale-lr'])


@pytest.mark.parametrize('text', ['a', 'a=[(1,2', 'a=1,2)'])
def test_an_option_that_cannot_be_parsed(trained, tool, capsys, text):
    with pytest.raises(SystemExit) as exit:
        tool('train').main([str(trained['mmdet'] / 'config/tiny_mmdet.py'), '--cfg-options', text])
    assert exit.value.code == 2
    assert f'--cfg-options {text}: expected KEY=VALUE' in capsys.readouterr().err


@pytest.mark.parametrize(
    'text, message',
    [
        ('model = dict(', r"cannot be read: SyntaxError: '\(' was never closed .line 1"),
        ('model = dict(type=width)', "NameError: name 'width' is not defined .line 1"),
        ("_base_ = 'no_base.py'", 'cannot be read: .*no_base.py'),
        ("_base_ = 'mmdet::_base_/no.py'", 'cannot be read: .*no.py'),
        ("custom_imports = dict(imports=['no_module'])", 'cannot be read: .*no_module'),
        ('from torch.optim import SGD', 'imports its types .*name them, as type='),
        ('model = dict()', 'default_scope=None; expected one of mmdet, mmseg, mmpretrain'),
        ("default_scope = 'mmpose'", "default_scope='mmpose'; expected one of"),
    ],
)
def test_a_config_that_cannot_be_read(tool, tmp_path, text, message):
    path = tmp_path / 'broken.py'
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        tool('train').main([str(path)])
    assert str(path) in str(error.value) and '\n' not in str(error.value)


def test_no_config(tool):
    with pytest.raises(UserError, match='did you mean configs/mask_rcnn_coat_small_1x_coco.py'):
        tool('train').main(['configs/mask_rcn_coat_smal_1x_coco.py'])


def test_a_host_that_is_missing(trained, tool, monkeypatch):
    monkeypatch.setattr(configs.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='for MMSegmentation, .*pip install mmsegmentation'):
        tool('train').main([str(trained['mmseg'] / 'config/tiny_mmseg.py')])


TEST_ERRORS = {
    'no checkpoint': ('epoch_2.pth', [], 'epoch_2.pth does not exist; did you mean .*epoch_1.pth'),
    'folder': ('.', [], 'is a folder.* epoch_1.pth'),
    'other weights': ('../other.pth', [], 'none of the 1 tensors .* fits the MaskRCNN'),
    'other pickle': ('../crafted.pth', [], 'holds posix.system'),
    'truncated': ('../truncated.pth', [], 'truncated, damaged'),
    'out': ('epoch_1.pth', ['--out', 'a.json'], 'expected a file that ends in .pkl'),
    'metric': (
        'epoch_1.pth',
        ['--classwise', '--cfg-options', 'test_evaluator.type=VOCMetric'],
        'needs a CocoMetric .* VOCMetric',
    ),
    'data': (
        'epoch_1.pth',
        ['--cfg-options', 'test_evaluator.ann_file=no.json'],
        'no.json does not exist.* test_evaluator.ann_file',
    ),
}


class Attack:
    def __reduce__(self):
        return os.system, ('true',)


@pytest.mark.parametrize('error', TEST_ERRORS)
def test_test_says_what_is_wrong(trained, tool, tmp_path, error):
    name, args, message = TEST_ERRORS[error]
    folder = trained['mmdet']
    torch.save({'patch_embed.weight': torch.zeros(1)}, folder.parent / 'other.pth')
    torch.save(dict(state_dict=Attack()), folder.parent / 'crafted.pth')
    whole = (folder / 'epoch_1.pth').read_bytes()
    (folder.parent / 'truncated.pth').write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=message) as raised:
        tool('test').main(
            [
                str(folder / 'config/tiny_mmdet.py'),
                str(folder / name),
                '--work-dir',
                str(tmp_path),
                *args,
            ]
        )
    assert '\n' not in str(raised.value)


def test_a_label_map_is_named_by_a_process_that_loads_it(
    write_config, tool, tiny_data, tmp_path, capsys
):
    data = shutil.copytree(tiny_data, tmp_path / 'data')
    cv2.imwrite(str(data / 'masks/3.png'), np.full((64, 64), 9, np.uint8))
    train = tool('train')
    options = ['--cfg-options', 'train_dataloader.num_workers=1']
    arguments = [write_config(tmp_path, 'mmseg', root=data), '--work-dir', str(tmp_path / 'work')]
    with pytest.raises(SystemExit) as exit:
        cli.run(lambda: train.main([*arguments, *options]))
    assert exit.value.code == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error')]
    assert len(lines) == 1
    assert lines[0].startswith(f'error: the label map {data}/masks/3.png holds the label 9')


@pytest.mark.parametrize('host', ['mmdet', 'mmpretrain'])
def test_checks_change_nothing(trained, tool, tmp_path, host):
    """Neither the weights that a run ends with nor what it evaluates."""
    config = str(trained[host] / f'config/tiny_{host}.py')
    words = [config, '--work-dir', str(tmp_path), '--seed', '3']
    runs = [tool('train').main([*words, *more]) for more in ([], ['--no-check'])]
    hooks = [{type(hook).__name__ for hook in run.hooks} for run in runs]
    assert hooks[0] - hooks[1] == {'SanityHook'}
    assert same(*(run.model for run in runs))
    metrics = [run.message_hub.get_scalar(f'val/{METRICS[host]}').current() for run in runs]
    assert metrics[0] == metrics[1]


def test_all_that_is_wrong_is_said_at_once(trained, tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wrong = [
        'train_cfg.max_epochs=0',
        'train_dataloader.dataset.ann_file=no.json',
        'val_evaluator.ann_file=nowhere.json',
        'load_from=no.pth',
        'optim_wrapper.optimizer.lr=-1',
        'val_evaluator.metric=boxes',
    ]
    config = str(trained['mmdet'] / 'config/tiny_mmdet.py')
    with pytest.raises(UserError) as error:
        tool('train').main([config, '--check', '--cfg-options', *wrong])
    lines = str(error.value).splitlines()
    assert len(lines) == 5
    for line, part in zip(
        lines, ('train_cfg.max_epochs', 'no.json', 'no.pth', 'optim_wrapper', 'val_evaluator')
    ):
        assert part in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('host', HOSTS)
def test_checks_that_find_nothing(trained, tool, tmp_path, monkeypatch, capfd, host):
    monkeypatch.chdir(tmp_path)
    folder = trained[host]
    for name, words in ('train', []), ('test', [str(folder / 'epoch_1.pth')]):
        tool(name).main([str(folder / f'config/tiny_{host}.py'), *words, '--check'])
        assert 'All checks passed, one iteration included' in capfd.readouterr().out
    assert not list(tmp_path.iterdir())


def test_an_evaluation_that_would_fail_does_not_cost_an_epoch(trained, tool, tmp_path):
    config = str(trained['mmseg'] / 'config/tiny_mmseg.py')
    for option, message in (
        (
            'val_dataloader.dataset.pipeline.0.imdecode_backend=no',
            'dataset.pipeline.0.imdecode_backend',
        ),
        ('model.test_cfg.mode=slyde', 'model.test_cfg.mode is'),
    ):
        with pytest.raises(UserError, match=message):
            tool('train').main([config, '--work-dir', str(tmp_path), '--cfg-options', option])
    assert not list(tmp_path.glob('*.pth'))


def test_an_error_that_may_pass_is_a_warning(trained, tool, tmp_path, monkeypatch, capfd):
    from mmseg.models import EncoderDecoder

    def fail_once(self, *args, **kwargs):
        monkeypatch.undo()
        raise ValueError('matrix contains invalid numeric entries')

    monkeypatch.setattr(EncoderDecoder, 'predict', fail_once)
    config = str(trained['mmseg'] / 'config/tiny_mmseg.py')
    assert tool('train').main([config, '--work-dir', str(tmp_path)]).iter == 2
    assert 'WARNING - the first batch of the validation data' in capfd.readouterr().out


def run(*args, **settings):
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, *map(str, args)]
    return subprocess.Popen(
        command,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # what a shell starts in the background ignores Ctrl-C, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **settings,
    )


def test_the_command_ends_in_one_line(tmp_path):
    process = run(ROOT / 'tools/test.py', 'no.py', 'no.pth', cwd=tmp_path)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert printed.splitlines()[-1].startswith('error: the config no.py does not exist')
    assert 'Traceback' not in printed


STOPS = {signal.SIGINT: ('Ctrl-C', 130), signal.SIGTERM: ('SIGTERM', 143)}


@pytest.mark.parametrize('number', STOPS, ids=lambda number: number.name)
def test_a_stopped_training_says_how_to_go_on(trained, tmp_path, number):
    config = trained['mmpretrain'] / 'config/tiny_mmpretrain.py'
    options = ['train_cfg.max_epochs=100000', 'train_cfg.val_interval=100000']
    words = [config, '--work-dir', tmp_path, '--seed', '4', '--cfg-options', *options]
    process = run(ROOT / 'tools/train.py', *words)
    started = time.time()
    while not list(tmp_path.glob('last_checkpoint')) and time.time() - started < 60:
        time.sleep(0.2)
    process.send_signal(number)
    printed, _ = process.communicate(timeout=60)
    name, status = STOPS[number]
    assert process.returncode == status, printed[-2000:]
    assert f'{name}: finishing the iteration and saving a checkpoint' in printed
    found = re.search(
        r'^stopped after (\d+) iterations, saved in (.*): go on with python (.*)$', printed, re.M
    )
    assert load_file(found[2])['meta']['iter'] == int(found[1])
    assert Path(found[2]).samefile((tmp_path / 'last_checkpoint').read_text())
    assert shlex.split(found[3]) == [*map(str, [ROOT / 'tools/train.py', *words]), '--resume']
    assert 'Traceback' not in printed


def test_a_work_dir_is_named_by_the_config(trained, tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tool('train').main([str(trained['mmpretrain'] / 'config/tiny_mmpretrain.py')])
    assert (tmp_path / 'work_dirs/tiny_mmpretrain/epoch_1.pth').is_file()
    assert json.loads(next(tmp_path.rglob('scalars.json')).read_text().splitlines()[0])['loss']
