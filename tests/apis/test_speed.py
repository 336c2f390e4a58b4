"""Which figures are taken and what is made of them; how fast this machine is, no test says."""

from __future__ import annotations

import re

import mmcv
import pytest

from mmvitx.apis import speed
from mmvitx.apis.configs import read_config
from mmvitx.errors import UserError


@pytest.mark.parametrize(
    ('data', 'model', 'cores', 'expected'),
    [
        (10, 2.5, 4, r'needs 1 worker to .* is 2\); this machine has 4 cores$'),
        (10, 35, 4, r'needs 4 workers .* 4 cores$'),
        (10, 80, 4, 'needs 8 workers .* 4 cores, which keep one such process at 50% of its speed'),
    ],
)
def test_says_how_many_workers(data, model, cores, expected):
    assert re.search(expected, speed.advise(data, model, workers=2, cores=cores))


@pytest.mark.parametrize('host', ['mmdet', 'mmseg', 'mmpretrain'])
def test_measures_a_config_of_each_host(host, write_config, tool, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speed, '_time', lambda step: step() or 4.0)  # one step, said to take 4 s
    config = write_config(tmp_path, host)
    tool('browse').main([config, '--speed', '--samples', '6'])
    data, model, advice = capsys.readouterr().out.splitlines()[-3:]
    assert re.fullmatch(
        r'data: \S+ images/s in one process, 6 images in random order; it had .*', data
    )
    assert model.startswith('model: 0.5 images/s forward and backward, batches of 2 in float32 on')
    assert 'workers' in advice or 'worker ' in advice


def test_measures_the_other_decoder_where_it_is(write_config, tool, tmp_path, monkeypatch):
    args = tool('browse').parse_args([write_config(tmp_path), '--speed'])
    cfg, _ = read_config(args)
    backends, decoded = [], []
    monkeypatch.setattr(speed.importlib.util, 'find_spec', lambda name: True)
    monkeypatch.setattr(mmcv, 'use_backend', backends.append)
    monkeypatch.setattr(
        speed,
        '_measure_data',
        lambda cfg, *sizes: (
            decoded.append(cfg.train_dataloader.dataset.pipeline[0].imdecode_backend)
            or (7.0, 1.0, None)
        ),
    )
    (line,) = speed._measure_turbojpeg(cfg, 4, 2)
    assert line.startswith('data decoded by PyTurboJPEG: 7 images/s')
    assert line.endswith('set train_dataloader.dataset.pipeline.0.imdecode_backend=turbojpeg')
    assert backends == ['turbojpeg', 'cv2'] and decoded == ['turbojpeg']
    assert 'imdecode_backend' not in cfg.train_dataloader.dataset.pipeline[0]


def test_needs_training_data(write_config, tool, tmp_path):
    config = write_config(tmp_path, extra='train_dataloader = None\n')
    with pytest.raises(UserError, match='has no train_dataloader to measure'):
        tool('browse').main([config, '--speed'])
