"""A training that is stopped and resumed ends with exactly the weights of one that is not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import mmdet.registry
import numpy as np
import pytest
import torch
from filelock import FileLock
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, loops
from torch.utils.data import dataloader

from mmvitx.checkpoints import load_file
from mmvitx.engine.cli import repeat_command
from mmvitx.engine.files import WholeFiles
from mmvitx.engine.hooks.checkpoint import _RemoveLater
from mmvitx.engine.resume import find_checkpoint
from mmvitx.errors import UserError

ROOT = Path(__file__).parents[2]
RANDOM = dict(
    mmdet="train_pipeline.insert(3, dict(type='RandomFlip', prob=0.5))",
    mmseg="train_pipeline.insert(2, dict(type='RandomFlip', prob=0.5))\n"
    "train_pipeline.insert(3, dict(type='PhotoMetricDistortion'))",
    mmpretrain="train_pipeline.insert(1, dict(type='RandomFlip', prob=0.5))\n"
    "train_pipeline.insert(2, dict(type='ColorJitter', brightness=0.5))",
)
BY_ITERATIONS = """
train_cfg = dict(type='IterBasedTrainLoop', max_iters=7, val_interval=3)
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=False, end=7)]
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=3, max_keep_ckpts=1))
"""
BY_EPOCHS = """
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=4, val_interval=2)
param_scheduler = [dict(type='MultiStepLR', milestones=[2], by_epoch=True)]
default_hooks = dict(checkpoint=dict(by_epoch=True, interval=1, max_keep_ckpts=1))
"""
INFINITE = "train_dataloader['sampler'] = dict(type='InfiniteSampler', shuffle=True)\n"


@HOOKS.register_module(force=True)
class SignalHook(Hook):
    """Sends a signal in the middle of an iteration of the training, or of a validation."""

    def __init__(self, at: int, of: str = 'train', number: int = signal.SIGTERM):
        self.at, self.of, self.number = at, of, number

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if self.of == 'train' and runner.iter + 1 == self.at:
            os.kill(os.getpid(), self.number)

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if self.of == 'val' and runner.iter == self.at:
            os.kill(os.getpid(), self.number)


@pytest.fixture
def train(tool, write_config, tmp_path):
    """Train the tiny model of a host in a folder by the tool; returns the runner."""

    def train(folder, host, extra, *args, stop_at=None, of='train'):
        hooks = [dict(type='SignalHook', at=stop_at, of=of)] * (stop_at is not None)
        extra = f"{extra}\ncustom_hooks = (globals().get('custom_hooks') or []) + {hooks}\n"
        (tmp_path / 'config').mkdir(exist_ok=True)
        config = write_config(tmp_path / 'config', host, extra=extra)
        return tool('train').main([config, '--work-dir', str(tmp_path / folder), *args])

    return train


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file((folder / 'last_checkpoint').read_text())['state_dict']


def assert_equal(first: Path, second: Path) -> None:
    first, second = weights_of(first), weights_of(second)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """Leave out the two seconds that mmengine waits between two passes over the data.

    And the five that PyTorch waits for each loader process of a run that was stopped.
    """
    monkeypatch.setattr(loops.time, 'sleep', lambda seconds: None)
    monkeypatch.setattr(dataloader._utils, 'MP_STATUS_CHECK_INTERVAL', 0.1)


EMA = "custom_hooks = [dict(type='EMAHook', momentum=0.1)]\n"
EARLY = "custom_hooks = [dict(type='EarlyStoppingHook', monitor='accuracy/top1', patience=9)]\n"
ASPECT = "train_dataloader['batch_sampler'] = dict(type='AspectRatioBatchSampler')\n"
ACCUMULATED = "optim_wrapper['accumulative_counts'] = 2\n"


@pytest.mark.parametrize(
    'host, schedule, stop_at, of, workers',
    [
        ('mmdet', BY_ITERATIONS + INFINITE, 5, 'train', 0),
        ('mmdet', BY_EPOCHS + ASPECT, 3, 'train', 2),
        ('mmseg', BY_ITERATIONS + INFINITE, 3, 'val', 2),
        ('mmseg', BY_EPOCHS + EMA, 4, 'val', 0),
        ('mmpretrain', BY_EPOCHS + EARLY, 4, 'val', 0),
        ('mmpretrain', BY_EPOCHS + EMA, 4, 'train', 2),
        ('mmpretrain', BY_ITERATIONS + ACCUMULATED, 5, 'train', 2),
    ],
)
def test_a_resumed_run_ends_with_the_same_weights(
    train, tmp_path, host, schedule, stop_at, of, workers
):
    extra = f"{RANDOM[host]}\n{schedule}\ntrain_dataloader['num_workers'] = {workers}\n"
    whole = train('whole', host, extra, '--seed', '3')
    with pytest.raises(SystemExit) as stopped:
        train('parts', host, extra, '--seed', '3', stop_at=stop_at, of=of)
    assert stopped.value.code == 143 and stopped.value.iterations == stop_at
    parts = train('parts', host, extra, '--resume')
    assert_equal(tmp_path / 'whole', tmp_path / 'parts')
    assert [path.name for path in (tmp_path / 'parts').glob('*.pth')] == [
        path.name for path in (tmp_path / 'whole').glob('*.pth')
    ]
    for name, values in whole.message_hub.log_scalars.items():
        if not name.endswith('time'):  # no iteration and no validation twice, or left out
            ours = parts.message_hub.log_scalars[name].data[0]
            np.testing.assert_array_equal(ours, values.data[0], err_msg=name)


def test_a_run_without_a_seed_goes_on_in_its_own_order(train, tmp_path):
    extra = f'{RANDOM["mmpretrain"]}\n{BY_EPOCHS}'
    with pytest.raises(SystemExit):
        train('first', 'mmpretrain', extra, stop_at=3)
    shutil.copytree(tmp_path / 'first', tmp_path / 'second')
    for name in ('first', 'second'):
        train(name, 'mmpretrain', extra, '--resume')
    assert_equal(tmp_path / 'first', tmp_path / 'second')


def test_the_best_checkpoint_is_kept_until_the_next_one_is_whole(train, tmp_path, monkeypatch):
    extra = BY_EPOCHS.replace('max_keep_ckpts=1', "max_keep_ckpts=1, save_best='accuracy/top1'")
    seen = []
    put = WholeFiles.put

    def look(self, content, path):
        whole = sorted(p.name for p in (tmp_path / 'run').glob('*.pth'))
        seen.append((Path(path).name, whole))
        put(self, content, path)

    monkeypatch.setattr(WholeFiles, 'put', look)
    train('run', 'mmpretrain', extra, '--seed', '3')
    written = {name: there for name, there in seen if name.endswith('.pth')}
    assert written['epoch_2.pth'] == ['epoch_1.pth'] or 'epoch_2.pth' in written['epoch_2.pth']
    for _, there in seen[1:]:
        assert any(name.startswith('epoch') for name in there)
    best = [name for name in written if name.startswith('best')]
    assert best and (tmp_path / 'run' / best[-1]).is_file()
    assert len(list((tmp_path / 'run').glob('best*'))) == 1
    assert len(list((tmp_path / 'run').glob('epoch*'))) == 1


def test_what_a_killed_run_was_about_to_remove_is_removed(train, tmp_path, monkeypatch):
    remove_now = _RemoveLater.remove_now

    def die(self):
        if self.outdated:
            raise KeyboardInterrupt
        remove_now(self)

    monkeypatch.setattr(_RemoveLater, 'remove_now', die)
    with pytest.raises(KeyboardInterrupt):
        train('run', 'mmpretrain', BY_EPOCHS, '--seed', '3')
    assert {p.name for p in (tmp_path / 'run').glob('*.pth')} == {'epoch_1.pth', 'epoch_2.pth'}
    monkeypatch.setattr(_RemoveLater, 'remove_now', remove_now)
    train('run', 'mmpretrain', BY_EPOCHS, '--resume')
    assert [p.name for p in (tmp_path / 'run').glob('*.pth')] == ['epoch_4.pth']


def test_a_resumed_run_does_without_the_file_that_it_began_with(train, run, tmp_path):
    file = shutil.copy(run / 'epoch_4.pth', tmp_path / 'imagenet.pth')
    init = dict(type='Pretrained', checkpoint=str(file), prefix='backbone.')
    extra = f"{RANDOM['mmpretrain']}\n{BY_EPOCHS}\nmodel['backbone']['init_cfg'] = {init}\n"
    train('whole', 'mmpretrain', extra, '--seed', '3')
    with pytest.raises(SystemExit):
        train('parts', 'mmpretrain', extra, '--seed', '3', stop_at=3)
    file.unlink()
    train('parts', 'mmpretrain', extra, '--resume')
    assert_equal(tmp_path / 'whole', tmp_path / 'parts')


@HOOKS.register_module(force=True)
class RisingHook(Hook):
    """Gives every validation a better metric."""

    def after_val_epoch(self, runner, metrics=None):
        metrics['rising'] = runner.iter


def test_a_best_checkpoint_may_replace_one_of_the_same_name(train, tmp_path):
    extra = BY_ITERATIONS.replace('max_iters=7', 'max_iters=6') + INFINITE
    extra += "default_hooks['checkpoint'] = dict(save_best='rising', rule='greater')\n"
    extra += "custom_hooks = [dict(type='RisingHook')]"
    train('run', 'mmpretrain', extra)
    assert (tmp_path / 'run/best_rising_epoch_0.pth').is_file()


@pytest.fixture(scope='module')
def run(tool, write_config, tmp_path_factory) -> Path:
    """The work dir of a finished run, with a checkpoint of each of its epochs."""
    folder = tmp_path_factory.mktemp('run')
    (folder / 'config').mkdir()
    extra = BY_EPOCHS.replace(', max_keep_ckpts=1', '')
    config = write_config(folder / 'config', 'mmpretrain', extra=extra)
    tool('train').main([config, '--work-dir', str(folder), '--seed', '3'])
    return folder


@pytest.fixture
def copy(run, tmp_path) -> Path:
    return shutil.copytree(run, tmp_path / 'copy')


def name_nothing(folder):
    (folder / 'last_checkpoint').unlink()


def name_in_an_empty_file(folder):
    (folder / 'last_checkpoint').write_text('')


def name_what_is_gone(folder):
    (folder / 'last_checkpoint').write_text('elsewhere/epoch_9.pth')


def cut_off_a_newer_one(folder):
    whole = (folder / 'epoch_4.pth').read_bytes()
    (folder / 'epoch_5.pth').write_bytes(whole[: len(whole) // 2])
    (folder / 'last_checkpoint').write_text(str(folder / 'epoch_5.pth'))


def leave_an_unfinished_one(folder):
    (folder / 'epoch_5.unfinished.pth').write_bytes((folder / 'epoch_4.pth').read_bytes())


def put_weights_beside_it(folder):
    torch.save(dict(state_dict={}), folder / 'z.pth')


@pytest.mark.parametrize(
    'change',
    [
        name_nothing,
        name_in_an_empty_file,
        name_what_is_gone,
        cut_off_a_newer_one,
        leave_an_unfinished_one,
        put_weights_beside_it,
    ],
)
def test_the_newest_whole_checkpoint_is_found(copy, change):
    change(copy)
    assert find_checkpoint(str(copy)) == str(copy / 'epoch_4.pth')


def test_damage_is_passed_over(copy, capsys):
    content = bytearray((copy / 'epoch_4.pth').read_bytes())
    content[len(content) // 2 : len(content) // 2 + 400] = b'?' * 400
    (copy / 'epoch_4.pth').write_bytes(content)
    assert find_checkpoint(str(copy)) == str(copy / 'epoch_3.pth')
    assert 'epoch_4.pth is damaged' in capsys.readouterr().out


def test_there_may_be_no_checkpoint(tmp_path):
    assert find_checkpoint(str(tmp_path)) is None
    assert find_checkpoint(str(tmp_path / 'no')) is None


def test_types_of_a_users_hook_are_named(copy):
    checkpoint = load_file(copy / 'epoch_4.pth')
    checkpoint['message_hub']['runtime_info']['folder'] = Path('a')
    torch.save(checkpoint, copy / 'epoch_4.pth')
    with pytest.raises(
        UserError, match=r'pathlib.PosixPath.* torch.serialization.add_safe_globals'
    ):
        find_checkpoint(str(copy))


def test_checkpoints_without_an_optimizer_are_named(copy):
    """As `save_optimizer=False` writes them: the run must not begin anew without a word."""
    for path in copy.glob('epoch_*.pth'):
        checkpoint = load_file(path)
        del checkpoint['optimizer']
        torch.save(checkpoint, path)
    with pytest.raises(UserError, match=r'epoch_4.pth has no optimizer, .* load_from='):
        find_checkpoint(str(copy))


def test_other_groups_of_parameters_are_named(tool, copy):
    option = 'optim_wrapper.paramwise_cfg.norm_decay_mult=0'
    with pytest.raises(UserError, match=r'number of parameter groups; see paramwise_cfg'):
        resume(tool, copy, option, 'optim_wrapper.optimizer.weight_decay=0.1')


def resume(tool, folder, *options):
    arguments = [str(folder / 'config/tiny_mmpretrain.py'), '--work-dir', str(folder), '--resume']
    return tool('train').main([*arguments, *(['--cfg-options', *options] if options else [])])


def test_an_earlier_run_in_the_same_folder_does_not_matter(train, tmp_path):
    train('run', 'mmpretrain', BY_EPOCHS, '--seed', '3')
    with pytest.raises(SystemExit):
        train('run', 'mmpretrain', BY_EPOCHS, '--seed', '4', stop_at=3)
    assert (tmp_path / 'run/epoch_4.pth').is_file()  # with 8 iterations, of the earlier one
    assert find_checkpoint(str(tmp_path / 'run')) == str(tmp_path / 'run/stopped.pth')


def test_a_checkpoint_in_an_object_store_is_found(tmp_path):
    (tmp_path / 'last_checkpoint').write_text('s3://bucket/run/epoch_4.pth')
    assert find_checkpoint(str(tmp_path)) == 's3://bucket/run/epoch_4.pth'


def test_an_empty_note_names_no_folder(copy, tmp_path, monkeypatch):
    name_in_an_empty_file(tmp_path)
    monkeypatch.chdir(copy)
    assert find_checkpoint(str(tmp_path)) is None


def test_a_loop_of_a_host_is_resumed(train, tmp_path):
    @mmdet.registry.LOOPS.register_module(force=True)
    class HostsLoop(EpochBasedTrainLoop):
        pass

    extra = BY_EPOCHS.replace('EpochBasedTrainLoop', 'HostsLoop')
    with pytest.raises(SystemExit):
        train('run', 'mmdet', extra, stop_at=3)
    assert train('run', 'mmdet', extra, '--resume').iter == 8


def test_a_checkpoint_hook_of_the_users_own_is_kept(train):
    @HOOKS.register_module(force=True)
    class MyCheckpointHook(CheckpointHook):
        pass

    extra = BY_EPOCHS.replace('checkpoint=dict(', "checkpoint=dict(type='MyCheckpointHook', ")
    hooks = train('run', 'mmpretrain', extra).hooks
    assert [type(hook) for hook in hooks if isinstance(hook, CheckpointHook)] == [MyCheckpointHook]


def test_the_disk_of_the_work_dir_may_be_small_if_checkpoints_are_elsewhere(
    train, tmp_path, monkeypatch
):
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: SimpleNamespace(free=10))
    extra = BY_EPOCHS.replace('checkpoint=dict(', f"checkpoint=dict(out_dir='{tmp_path}/big', ")
    train('run', 'mmpretrain', extra)
    assert (tmp_path / 'big/run/epoch_4.pth').is_file()
    assert find_checkpoint(str(tmp_path / 'run')) == str(tmp_path / 'big/run/epoch_4.pth')


def test_a_finished_run_says_so(tool, copy, capfd):
    before = weights_of(copy)
    runner = resume(tool, copy)
    assert runner.iter == 8
    assert 'finished: its 4 epochs are done' in capfd.readouterr().out
    after = weights_of(copy)
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_finished_run_can_be_made_longer(tool, copy):
    assert resume(tool, copy, 'train_cfg.max_epochs=5').epoch == 5


@pytest.mark.parametrize(
    'option, message',
    [
        ('model.backbone.base_channels=16', 'of another model .*base_channels was 8 and is 16'),
        ('model.backbone.depth=34', 'of another model .*model.backbone.depth was 18 and is 34'),
        (
            'optim_wrapper.optimizer.type=SGD',
            "of another run .*optimizer.type was 'AdamW' and is 'SGD'",
        ),
        (
            'param_scheduler.0.type=ExponentialLR',
            "param_scheduler.0.type was 'MultiStepLR' and is 'ExponentialLR'",
        ),
    ],
)
def test_another_run_is_named(tool, copy, option, message):
    with pytest.raises(UserError, match=message):
        resume(tool, copy, option)


def test_settings_that_the_checkpoint_keeps_are_named(tool, copy, capfd):
    runner = resume(tool, copy, 'optim_wrapper.optimizer.lr=0.5', 'train_cfg.max_epochs=5')
    assert runner.optim_wrapper.get_lr()['lr'][0] < 0.01
    assert 'optim_wrapper.optimizer.lr was 0.001 and is 0.5' in capfd.readouterr().out


def test_another_setting_of_a_schedule_is_no_other_run(tool, copy, capfd):
    resume(tool, copy, 'param_scheduler.0.gamma=0.5')
    assert 'param_scheduler.0.gamma was None and is 0.5' in capfd.readouterr().out


def test_without_a_checkpoint_a_run_starts_from_what_its_config_says(tool, run, tmp_path, capfd):
    """As a job that was requeued before it had saved anything."""
    config = str(run / 'config/tiny_mmpretrain.py')
    options = [f'load_from={run}/epoch_4.pth', 'optim_wrapper.optimizer.lr=0']
    runner = tool('train').main(
        [config, '--work-dir', str(tmp_path / 'new'), '--resume', '--cfg-options', *options]
    )
    expected = load_file(run / 'epoch_4.pth')['state_dict']['backbone.conv1.weight']
    torch.testing.assert_close(runner.model.state_dict()['backbone.conv1.weight'], expected)
    printed = capfd.readouterr().out
    assert f'no checkpoint in {tmp_path}/new to go on from' in printed
    assert f'Starting from the weights of {run}/epoch_4.pth' in printed


def test_a_second_run_in_the_same_folder_is_refused(run, tmp_path):
    config = run / 'config/tiny_mmpretrain.py'
    with FileLock(tmp_path / '.lock'):
        done = subprocess.run(
            [sys.executable, ROOT / 'tools/train.py', config, '--work-dir', tmp_path],
            env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 1
    assert f'error: another process trains in {tmp_path}' in done.stderr
    assert 'Traceback' not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ['.lock']


@pytest.mark.parametrize(
    ('words', 'environment', 'expected'),
    [
        (['a b.py'], {}, "python tools/train.py 'a b.py' --resume"),
        (
            ['c.py', '--amp', '--resume', 'x.pth', '--cfg-options', 'a="[1, 2]"', 'b=2'],
            {},
            'python tools/train.py c.py --amp --cfg-options \'a="[1, 2]"\' b=2 --resume',
        ),
        (['c.py', '--resume=x.pth', '--amp'], {}, 'python tools/train.py c.py --amp --resume'),
        (
            ['c.py', '--launcher', 'pytorch', '--amp'],
            dict(LOCAL_WORLD_SIZE='8'),
            'tools/dist_train.sh c.py 8 --amp --resume',
        ),
        (['c.py', '--launcher', 'slurm'], {}, 'the same command and --resume'),
    ],
)
def test_the_command_to_go_on_with(monkeypatch, words, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert repeat_command(['tools/train.py', *words]) == expected
