"""The report reads what mmengine logs, of any host, and draws what is there."""

import errno
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from mmvitx.errors import UserError


@pytest.fixture
def report(tool):
    return tool('report')


def log(work_dir: Path, time: str, records: list[dict]) -> None:
    path = work_dir / time / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(map(json.dumps, records)))


def train(step: int, loss: float) -> dict:
    return dict(lr=0.1, loss=loss, time=0.1, iter=step, step=step)


@pytest.mark.parametrize(
    ('name', 'other'),
    [('coco/segm_mAP', 'coco/segm_mAP_50'), ('mIoU', 'mAcc'), ('accuracy/top1', 'accuracy/top5')],
)
def test_curves_of_every_host(report, tmp_path, name, other):
    metrics = {name: 0.5, other: 0.75, 'time': 1.0, 'step': 1}
    log(tmp_path, '20260101_000000', [train(20, 3.0), train(40, 2.0), metrics])
    loss, curves = report.read_curves(tmp_path)
    assert loss == {20: 3.0, 40: 2.0}
    assert curves == {name: {40: 0.5}, other: {40: 0.75}}

    report.main([str(tmp_path)])
    assert cv2.imread(str(tmp_path / 'curves.png')) is not None


def test_resumed_training_replaces_what_it_repeats(report, tmp_path):
    metric = {'mIoU': 0.1, 'step': 0}
    log(tmp_path, '20260101_000000', [train(10, 3), metric, train(20, 2), metric, train(30, 9)])
    log(tmp_path, '20260101_000001', [train(20, 2.5), {**metric, 'mIoU': 0.2}])
    loss, curves = report.read_curves(tmp_path)
    assert loss == {10: 3, 20: 2.5}
    assert curves == {'mIoU': {10: 0.1, 20: 0.2}}


def test_metrics_of_the_last_test_are_printed(report, tmp_path, capsys):
    log(tmp_path, '20260101_000000', [train(10, 3.0), {'coco/bbox_mAP': 0.1, 'step': 10}])
    for time, value in (('20260101_000001', 0.25), ('20260101_000002', 0.625)):
        (tmp_path / time).mkdir()
        result = {'coco/bbox_mAP': value, 'coco/bbox_mAP_l': -1.0, 'data_time': 0.1, 'time': 1}
        (tmp_path / time / f'{time}.json').write_text(json.dumps(result))
    report.main([str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ['coco/bbox_mAP', '0.625']
    assert lines[1].split() == ['coco/bbox_mAP_l', '-']
    assert len(lines) == 3


def test_pictures_of_all_sizes_are_joined(report, tmp_path, capsys):
    log(tmp_path, '20260101_000000', [train(10, 3.0)])
    for i, size in enumerate([(160, 320, 3), (90, 180, 3), (40, 30, 3)]):
        folder = tmp_path / 'pictures' / str(i)
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / f'{i}.png'), np.full(size, 255, np.uint8))
    report.main([str(tmp_path), '--show-dir', str(tmp_path / 'pictures')])
    assert cv2.imread(str(tmp_path / 'predictions.png')) is not None
    assert str(tmp_path / 'predictions.png') in capsys.readouterr().out


def test_says_what_is_missing(report, tmp_path):
    with pytest.raises(UserError, match='no log of a training'):
        report.main([str(tmp_path)])
    log(tmp_path, '20260101_000000', [train(10, 3.0)])
    with pytest.raises(UserError, match='--show-dir'):
        report.main([str(tmp_path), '--show-dir', str(tmp_path / 'none')])


def test_runs_are_compared(report, tmp_path, capsys):
    for name, values in dict(scratch=(0.1, 0.2), pretrained=(0.3,)).items():
        records = []
        for i, value in enumerate(values, 1):
            records += [train(10 * i, 3.0), {'coco/bbox_mAP': value, 'coco/x': 0.0, 'step': i}]
        log(tmp_path / f'rcnn_{name}', '20260101_000000', records)
    report.main([str(tmp_path / 'rcnn_scratch'), str(tmp_path / 'rcnn_pretrained')])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ['coco/bbox_mAP', '10', '20']
    assert lines[1] == ['scratch', '0.100', '0.200'] and lines[2] == ['pretrained', '0.300']
    assert cv2.imread(str(tmp_path / 'rcnn_pretrained/comparison.png')) is not None
    log(tmp_path / 'none', '20260101_000000', [train(10, 3.0)])
    with pytest.raises(UserError, match='no evaluation'):
        report.main([str(tmp_path / 'none'), str(tmp_path / 'none')])


def test_evaluations_between_two_logged_losses(report, tmp_path):
    records = [train(20, 3.0), train(40, 2.0), {'mIoU': 0.5, 'step': 50}, train(60, 1.0)]
    log(tmp_path, '20260101_000000', records)
    assert report.read_curves(tmp_path)[1] == {'mIoU': {50: 0.5}}


def test_runs_of_one_name_and_a_line_cut_off(tool, tmp_path, capsys):
    report = tool('report')
    for i, run in enumerate(('x/run', 'y/run')):
        folder = tmp_path / run / '20261121_000000/vis_data'
        folder.mkdir(parents=True)
        lines = ['{"loss": 1.0, "step": 1}', f'{{"coco/bbox_mAP": 0.{i + 1}, "step": 1}}', '{"lo']
        (folder / 'scalars.json').write_text('\n'.join(lines))
    report.compare([tmp_path / 'x/run', tmp_path / 'y/run'])
    out = capsys.readouterr().out
    assert 'x/run   0.100' in out and 'y/run   0.200' in out


def test_a_full_disk_leaves_no_half_of_a_figure(report, tmp_path, monkeypatch):
    def savefig(self, path, **settings):
        Path(path).write_text('half')
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(Figure, 'savefig', savefig)
    log(tmp_path, '20260101_000000', [train(10, 3.0)])
    with pytest.raises(UserError, match='curves.png cannot be written: No space .*; make room'):
        report.main([str(tmp_path)])
    assert list(tmp_path.glob('*.png')) == []


def broken_logs(folder):
    """Write the logs of two runs, each with a line that is right and two metrics, and bad ones."""
    bad = ['{"lo', '7', '{"loss": 1.0}', '{"loss": "low", "step": 3}', '']
    for i in (1, 2):
        log(folder, f'2026010{i}_000000', [train(10 * i, 3.0), {'mIoU': 0.1 * i, 'step': 1}])
        with (folder / f'2026010{i}_000000/vis_data/scalars.json').open('a') as file:
            file.write('\n'.join(['', *bad, json.dumps(train(10 * i + 1, 2.0))]))
    (folder / '20260103_000000/vis_data/scalars.json').mkdir(parents=True)
    (folder / '20260104_000000/vis_data').mkdir(parents=True)
    (folder / '20260104_000000/vis_data/scalars.json').write_bytes(b'\xff\x00{')


def test_what_is_readable_is_used(report, tmp_path, capsys):
    broken_logs(tmp_path)
    report.main([str(tmp_path)])
    loss, curves = report.read_curves(tmp_path)
    assert loss == {10: 3.0, 11: 2.0, 20: 3.0, 21: 2.0}
    assert curves == {'mIoU': {10: 0.1, 20: 0.2}}
    out, err = capsys.readouterr()
    assert out.split()[:2] == ['mIoU', '0.200']
    lines = err.splitlines()[:4]
    assert [line.split('.json')[1] for line in lines] == [
        ' has 5 bad lines of 8',
        ' has 5 bad lines of 8',
        ' cannot be read (Is a directory)',
        ' has 1 bad lines of 1',
    ]
    assert all(line.startswith('warning: ') for line in lines)


def test_nothing_readable(report, tmp_path):
    path = tmp_path / '20260101_000000/vis_data/scalars.json'
    path.parent.mkdir(parents=True)
    for text in ('', '{"lo', '[1]\n'):
        path.write_text(text)
        with pytest.raises(UserError, match='holds no log of a training that can be read'):
            report.main([str(tmp_path)])
    with pytest.raises(UserError, match=r'scalars.json holds no log'):
        report.main([str(path)])


def test_a_log_without_losses(report, tmp_path, capsys):
    log(tmp_path, '20260101_000000', [{'mIoU': 0.5, 'step': 1}, {'mIoU': 0.25, 'step': 2}])
    report.main([str(tmp_path)])
    out, err = capsys.readouterr()
    assert out.split()[:2] == ['mIoU', '0.250']
    assert err == f'warning: no losses were logged in {tmp_path}\n'
    assert report.read_curves(tmp_path) == ({}, {'mIoU': {1: 0.5, 2: 0.25}})


def test_a_broken_result_of_a_test_is_passed_over(report, tmp_path, capsys):
    log(tmp_path, '20260101_000000', [train(10, 3.0)])
    for time, text in (('20260101_000001', '{"mIoU": 0.5}'), ('20260101_000002', '{"mIo')):
        (tmp_path / time).mkdir()
        (tmp_path / time / f'{time}.json').write_text(text)
    report.main([str(tmp_path)])
    out, err = capsys.readouterr()
    assert out.split()[:2] == ['mIoU', '0.500'] and '1 bad lines of 1' in err
