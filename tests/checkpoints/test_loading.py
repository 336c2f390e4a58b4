from __future__ import annotations

import argparse
import builtins
import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner
from torch import nn
from torch.utils.data import Dataset

import mmvitx  # noqa: F401  makes loading safe
from mmvitx.checkpoints import CheckpointError, load_file


class Numbers(Dataset):
    metainfo = dict(Config(dict(classes=('a', 'b'), nested=dict(palette=[(0, 0, 0)])))._cfg_dict)

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return dict(inputs=torch.full((2,), float(index)))


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 1)

    def forward(self, inputs, mode='tensor'):
        out = self.fc(torch.stack(inputs) if isinstance(inputs, list) else inputs)
        return dict(loss=out.square().mean()) if mode == 'loss' else list(out)


class Score(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        return dict(score=np.float64(0.25))


def train(work_dir: Path, epochs: int, **settings) -> Runner:
    MessageHub._instance_dict.clear()  # is named by the second
    torch.manual_seed(0)
    loader = dict(batch_size=2, sampler=dict(type='DefaultSampler', shuffle=False))
    runner = Runner(
        model=Line(),
        work_dir=str(work_dir),
        train_dataloader=dict(dataset=Numbers(), **loader),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        val_dataloader=dict(dataset=Numbers(), **loader),
        val_cfg=dict(),
        val_evaluator=[Score()],
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=2),
            dict(type='MultiStepLR', milestones=[1], end=9),
        ],
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='CheckpointHook', interval=1, save_best='score', rule='greater'),
        ),
        custom_hooks=[dict(type='EMAHook')],
        **settings,
    )
    runner.train()
    return runner


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> Path:
    work_dir = tmp_path_factory.mktemp('trained')
    train(work_dir, 1)
    return work_dir


def test_a_file_of_mmengine_loads(trained):
    checkpoint = load_file(trained / 'epoch_1.pth')
    history = checkpoint['message_hub']['log_scalars']['train/loss']
    assert isinstance(history, HistoryBuffer) and len(history.data[0]) == 2
    assert history.mean() > 0
    assert checkpoint['message_hub']['runtime_info']['best_score'] == 0.25
    assert checkpoint['meta']['dataset_meta']['nested']['palette'] == [(0, 0, 0)]
    assert checkpoint['optimizer'] and checkpoint['param_schedulers']


def test_training_resumes(trained, tmp_path):
    resumed = train(tmp_path, 2, load_from=str(trained / 'epoch_1.pth'), resume=True)
    assert resumed.epoch == 2 and resumed.iter == 4
    assert len(resumed.message_hub.get_scalar('train/loss').data[0]) == 4
    straight = train(tmp_path / 'straight', 2)
    for name, value in straight.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value, msg=name)


@pytest.mark.parametrize('module', ['numpy.core.multiarray', 'numpy._core.multiarray'])
def test_numpy_of_either_age(tmp_path, module):
    saved = dict(
        score=np.float64(0.5),
        half=np.float16(2),
        flag=np.bool_(True),
        count=np.int64(3),
        palette=np.arange(6, dtype=np.uint8).reshape(2, 3),
        names=np.array(['a', 'b']),
    )
    file = io.BytesIO()
    torch.save(saved, file, _use_new_zipfile_serialization=False)
    own = np.array(0).__reduce__()[0].__module__
    path = tmp_path / 'numpy.pth'
    path.write_bytes(file.getvalue().replace(own.encode(), module.encode()))
    loaded = load_file(path)
    assert loaded.keys() == saved.keys()
    for name, value in saved.items():
        np.testing.assert_array_equal(loaded[name], value)
        assert loaded[name].dtype == value.dtype


class Call:
    """Pickled as the call of a function."""

    def __init__(self, function, *args):
        self.function, self.args = function, args


class Named:
    """Pickled as the name of a thing."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Pickler(pickle._Pickler):
    def save(self, obj, *args, **kwargs):
        if isinstance(obj, Named):
            self.write(pickle.GLOBAL + f'{obj.module}\n{obj.name}\n'.encode())
        elif isinstance(obj, Call):
            self.save(obj.function)
            self.save(obj.args)
            self.write(pickle.REDUCE)
        else:
            super().save(obj, *args, **kwargs)


def write(path: Path, obj, zipped: bool = True) -> Path:
    """Write what torch.save would, but objects as crafted as one likes."""
    file = io.BytesIO()
    Pickler(file, 2).dump(obj)
    if not zipped:
        path.write_bytes(file.getvalue())
        return path
    torch.save({}, path)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(name, file.getvalue() if name.endswith('data.pkl') else content)
    return path


def method(owner, name):
    return Call(getattr, owner, name)


ATTACKS = {
    'os.system': (lambda mark: Call(os.system, f'touch {mark}'), 'posix.system'),
    'eval': (lambda mark: Call(eval, f'open({str(mark)!r}, "w")'), 'eval'),
    'exec': (lambda mark: Call(exec, f'open({str(mark)!r}, "w")'), 'exec'),
    'open': (lambda mark: Call(open, str(mark), 'w'), 'io.open'),
    'Popen': (lambda mark: Call(subprocess.Popen, ['touch', str(mark)]), 'commands.Popen'),
    'import': (lambda mark: Call(builtins.__import__, 'antigravity'), '__import__'),
    'unsafe load': (lambda mark: Call(torch.load, str(mark)), 'torch.serialization.load'),
    'method of a type on the list': (
        lambda mark: Call(method(nn.Parameter, '__init__'), 1),
        "getattr(Parameter, '__init__')",
    ),
    'method of Module': (
        lambda mark: Call(method(nn.Module, 'load_state_dict'), 1),
        'torch.nn.modules.module.Module',
    ),
    'way out of HistoryBuffer': (
        lambda mark: method(HistoryBuffer, '__init__'),
        "getattr(HistoryBuffer, '__init__')",
    ),
    'getattr chain': (
        lambda mark: method(method(method(HistoryBuffer, 'mean'), '__globals__'), 'np'),
        "getattr(mean, '__globals__')",
    ),
    'call of a statistic': (
        lambda mark: Call(method(HistoryBuffer, 'mean'), 1),
        'HistoryBuffer.mean',
    ),
    'dotted name': (
        lambda mark: Call(Named('numpy', 'f2py.os.system'), f'touch {mark}'),
        'numpy.f2py.os.system',
    ),
    'dotted name on the list': (
        lambda mark: Call(Named('mmengine.logging.history_buffer', 'np.f2py.os.system'), 'true'),
        'mmengine.logging.history_buffer.np.f2py.os.system',
    ),
    'python 2 name': (lambda mark: Call(Named('__builtin__', 'eval'), '1'), 'eval'),
    'call in a namespace': (
        lambda mark: argparse.Namespace(lr=Call(os.system, f'touch {mark}')),
        'posix.system',
    ),
    'way out of a namespace': (
        lambda mark: method(argparse.Namespace, '__init__'),
        "getattr(Namespace, '__init__')",
    ),
}


@pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'pickle'])
@pytest.mark.parametrize('attack', ATTACKS)
def test_anything_else_is_refused(tmp_path, attack, zipped):
    craft, name = ATTACKS[attack]
    mark = tmp_path / 'mark'
    content = dict(meta=dict(), message_hub=craft(mark), state_dict=dict())
    path = write(tmp_path / 'crafted.pth', content, zipped)
    for load in (load_file, lambda path: CheckpointLoader.load_checkpoint(str(path), 'cpu')):
        with pytest.raises(CheckpointError) as error:
            load(path)
        assert str(path) in str(error.value) and name in str(error.value)
        assert '\n' not in str(error.value)
    assert not mark.exists()


def test_the_arguments_of_a_run_are_read(tmp_path):
    """The authors' files hold an argparse.Namespace; nowhere else is that type allowed by us."""
    path = tmp_path / 'official.pth'
    torch.save(dict(model=dict(w=torch.ones(1)), args=argparse.Namespace(lr=0.1)), path)
    assert load_file(path)['args'].lr == 0.1
    with pytest.raises(pickle.UnpicklingError, match='argparse.Namespace'):
        torch.load(path, weights_only=True)


def test_the_crafted_files_would_run(tmp_path):
    """The attacks are real: without the protection the first of them leaves its mark."""
    path = write(tmp_path / 'crafted.pth', ATTACKS['os.system'][0](tmp_path / 'mark'))
    torch.load(path, weights_only=False)
    assert (tmp_path / 'mark').exists()


def test_resume_refuses_a_crafted_file(tmp_path):
    mark = tmp_path / 'mark'
    checkpoint = dict(meta=Call(os.system, f'touch {mark}'), state_dict={})
    write(tmp_path / 'crafted.pth', checkpoint)
    with pytest.raises(CheckpointError, match='posix.system'):
        train(tmp_path, 2, load_from=str(tmp_path / 'crafted.pth'), resume=True)
    assert not mark.exists()


@pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])
def test_a_damaged_file_is_one_sentence(tmp_path, zipped):
    file = io.BytesIO()
    weights = dict(state_dict=dict(weight=torch.rand(300), bias=torch.rand(7)))
    torch.save(weights, file, _use_new_zipfile_serialization=zipped)
    whole = file.getvalue()
    path = tmp_path / 'damaged.pth'
    for size in (1, 2, 10, 100, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match='truncated, damaged or no PyTorch checkpoint'):
            load_file(path)


def test_flipped_bytes_are_found(tmp_path):
    """In the middle of a tensor, where torch reads what is there."""
    path = tmp_path / 'flipped.pth'
    torch.save(dict(state_dict=dict(weight=torch.zeros(5000), bias=torch.zeros(7))), path)
    assert load_file(path)['state_dict']['weight'].sum() == 0
    content = bytearray(path.read_bytes())
    middle = content.index(bytes(20000)) + 10000
    content[middle : middle + 400] = bytes([255]) * 400
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)['state_dict']['weight'].isnan().any()
    with pytest.raises(CheckpointError, match='flipped.pth is damaged: its record flipped/data/0 '):
        load_file(path)


def test_a_file_is_compared_with_its_checksums_once(tmp_path, monkeypatch):
    path = tmp_path / 'weights.pth'
    compared = []
    compare = zipfile.ZipFile.testzip
    monkeypatch.setattr(zipfile.ZipFile, 'testzip', lambda self: compared.append(compare(self)))
    for size, times in ((3, 1), (3, 1), (4, 2)):
        if not path.exists() or size == 4:
            torch.save(dict(weight=torch.rand(100 * size)), path)
        load_file(path)
        assert len(compared) == times


def test_a_file_without_checksums_loads(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(dict(weight=torch.ones(300)), tmp_path / 'weights.pth')
    finally:
        torch.serialization.set_crc32_options(True)
    assert load_file(tmp_path / 'weights.pth')['weight'].sum() == 300


@pytest.mark.parametrize('content', [b'<html>404</html>', b'{"a": 1}', b'\x80\x02', bytes(50)])
def test_a_file_of_another_kind_is_one_sentence(tmp_path, content):
    path = tmp_path / 'other.pth'
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match='other.pth is truncated, damaged or no PyTorch'):
        load_file(path)


def test_no_file(tmp_path, monkeypatch):
    torch.save({}, tmp_path / 'epoch_12.pth')
    with pytest.raises(CheckpointError, match=r'epoch_13.pth does not exist; did you mean .*_12'):
        load_file(tmp_path / 'epoch_13.pth')
    with pytest.raises(CheckpointError, match='nowhere/a.pth does not exist'):
        load_file(tmp_path / 'nowhere/a.pth')
    with pytest.raises(CheckpointError, match='is a folder.* epoch_12.pth'):
        load_file(tmp_path)
    (tmp_path / 'empty.pth').touch()
    with pytest.raises(CheckpointError, match='is empty'):
        load_file(tmp_path / 'empty.pth')

    def refuse(*args, **kwargs):
        raise PermissionError(13, 'Permission denied')

    def break_off(*args, **kwargs):
        raise OSError(5, 'Input/output error')

    monkeypatch.setattr(torch, 'load', break_off)
    with pytest.raises(CheckpointError, match='epoch_12.pth cannot be read: Input/output error'):
        load_file(tmp_path / 'epoch_12.pth')

    monkeypatch.setattr(torch, 'load', refuse)  # root, who may run this, reads everything
    with pytest.raises(CheckpointError, match='no permission to read'):
        load_file(tmp_path / 'epoch_12.pth')


def test_where_the_tensors_go(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(dict(weight=torch.rand(3)), path)
    assert load_file(path)['weight'].device.type == 'cpu'
    assert load_file(str(path), map_location='meta')['weight'].device.type == 'meta'
    assert load_file(path, map_location=lambda storage, _: storage)['weight'].shape == (3,)


def test_safetensors_are_known_by_their_content(tmp_path):
    path = tmp_path / 'weights.pth'
    safetensors.torch.save_file(dict(weight=torch.arange(3.0)), path)
    assert load_file(path)['weight'].tolist() == [0, 1, 2]
    assert load_file(path, map_location=torch.device('cpu'))['weight'].device.type == 'cpu'
    for size in (9, 40, path.stat().st_size - 4):
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(CheckpointError, match='truncated, damaged or no PyTorch checkpoint'):
            load_file(path)


def test_importing_is_light():
    """The hosts may be missing, and a file of mmengine's still loads."""
    code = (
        'import sys\n'
        'for name in ("mmdet", "mmseg", "mmpretrain"): sys.modules[name] = None\n'
        'import mmvitx\n'
        'from mmengine.runner import CheckpointLoader\n'
        'print(mmvitx.__version__, CheckpointLoader._schemes[""].__module__)\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split()[-1] == 'mmvitx.checkpoints.schemes', done.stderr
