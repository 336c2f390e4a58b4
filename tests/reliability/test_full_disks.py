"""On a full disk a tool ends with one sentence, and leaves nothing half-written."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from campaign import TRAIN, VAL, Disk, Moment, Recipe, Training, parametrize

FILES = 'room for one file'
DISKS = [  # what is written when the disk is full, when it is filled, and the checkpoints that fit
    ('a second checkpoint', Moment(Recipe('mmdet'), TRAIN, 4), 0.5),
    ('the first checkpoint', Moment(Recipe('mmdet', 2), TRAIN, 1), 0.5),
    ('nothing yet', Moment(Recipe('mmdet'), '', 1), 0.5),
    ('last_checkpoint', Moment(Recipe('mmdet'), TRAIN, 2), FILES),
    ('a line of the log', Moment(Recipe('mmdet'), TRAIN, 1), 0.0),
    ('a line of the log', Moment(Recipe('mmseg', 2), TRAIN, 5), 0.0),
    ('a line of a validation', Moment(Recipe('mmseg'), VAL, 1), 0.0),
    ('a checkpoint of epochs', Moment(Recipe('mmpretrain', 2), TRAIN, 8), 0.5),
    ('a checkpoint after validation', Moment(Recipe('mmpretrain'), VAL, 2), 0.5),
    ('stopped.pth', Moment(Recipe('mmdet'), TRAIN, 4), 0.5),
]


def assert_one_sentence(text):
    assert 'Traceback' not in text
    assert len(re.findall('^error: .*make room', text, re.M)) == 1, text[-3000:]


@parametrize(DISKS, default=1)
def test_training_on_a_full_disk(case, run_case):
    run_case(fill_disk)


def fill_disk(campaign, case, folder):
    what, moment, share = case
    campaign.train_undisturbed(moment.recipe)
    folder.joinpath('disk').mkdir()
    with Disk(folder / 'disk') as disk:
        training = Training(campaign, moment.recipe, folder, disk.folder / 'work')
        with training.start() as run:
            campaign.counts['a full disk', 'runs'] += 1
            run.wait_for(moment.line, moment.count)
            with run.paused():
                if share == FILES:
                    disk.fill_files(1)
                else:
                    disk.fill(run, int(share * campaign.sizes[moment.recipe.host]))
                if what == 'stopped.pth':
                    run.send(signal.SIGTERM)
            text = run.end(1)
            run.assert_no_orphans()
        assert_one_sentence(text)
        assert list(training.work_dir.glob('*unfinished*')) == []
        named = re.findall('the last checkpoint is (.*?), go on', text)
        training.assert_intact(saved=bool(named))
        assert all(Path(path).is_file() for path in named)
        campaign.counts['a full disk', 'as promised'] += 1
        disk.make_room()
        training.resume()
        campaign.counts['a full disk', 'equal weights'] += 1


@pytest.mark.reliability
@pytest.mark.parametrize(
    'words',
    [
        ['tools/test.py', 'CONFIG', 'CHECKPOINT', '--work-dir', 'WORK', '--out', 'DISK/file.pkl'],
        ['tools/test.py', 'CONFIG', 'CHECKPOINT', '--work-dir', 'WORK', '--show-dir', 'DISK'],
        ['tools/report.py', 'DISK'],
        ['tools/export.py', 'coat_lite_tiny', '--out', 'DISK/file.pt2'],
        ['tools/export.py', 'coat_lite_tiny', '--out', 'DISK/file.onnx'],
    ],
    ids=lambda words: f'{Path(words[0]).name} {words[-2]} {words[-1]}',
)
def test_results_on_a_full_disk(campaign, tmp_path, words):
    if words[-1].endswith('.onnx'):
        pytest.importorskip('onnxscript')
    recipe = Recipe('mmdet')
    campaign.train_undisturbed(recipe)
    undisturbed = campaign.folder / 'mmdet1' / 'work'
    tmp_path.joinpath('disk').mkdir()
    with Disk(tmp_path / 'disk') as disk:
        if 'report' in words[0]:
            for path in undisturbed.glob('*/vis_data/scalars.json'):
                target = disk.folder / path.relative_to(undisturbed)
                target.parent.mkdir(parents=True)
                target.write_bytes(path.read_bytes())
        before = {*disk.folder.rglob('*')}
        names = dict(CONFIG=campaign.configs['mmdet'], WORK=str(tmp_path / 'work'))
        names['CHECKPOINT'] = (undisturbed / 'last_checkpoint').read_text()
        names['DISK'] = str(disk.folder)
        words = [re.sub('[A-Z]{4,}', lambda name: names[name[0]], word) for word in words]
        with Training(campaign, recipe, tmp_path).run(['python', *words]) as run:
            with run.paused():
                disk.fill(run, 0)
            text = run.end(1)
        assert_one_sentence(text)
        disk.make_room()
        assert {path for path in disk.folder.rglob('*') if path.is_file()} <= before
