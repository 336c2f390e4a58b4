"""Records of the benchmark: JSON, the table and the plot."""

from __future__ import annotations

import json

import cv2
import pytest
import records
from measure import THRESHOLDS
from records import FORMS, SUITES, Form

from mmvitx.errors import UserError

EAGER, COMPILED, BFLOAT16 = FORMS['cpu']


def make_record(row, form=EAGER, time=0.75, memory=0.5, allocator=()):
    """Make a record of a row as benchmarks/benchmark.py does, with these ratios."""
    record = dict(row.describe(), dtype=form.dtype, compiled=form.compiled, output='cls_token')
    record.update(peer_compiled=form.peer_compiled, pairs=9)
    record.update(time_ratio=time, time_ratio_quartiles=[time - 0.01, time + 0.02])
    record.update(memory_ratio=memory)
    for prefix, factor in ('', 1), ('peer_', 2):
        record[f'{prefix}time_s'] = factor * time
        record[f'{prefix}memory_bytes'] = factor * 2**20
        record[f'{prefix}images_per_s'] = 1 / factor
        record[f'{prefix}share_of_matmul_rate'] = 0.5 / factor
    environment = dict(machine='abacus', threads=2, versions=dict(torch='2'), malloc='glibc')
    return dict(record, environment=dict(environment, allocator=dict(allocator)))


def cells(folder, name):
    lines = (folder / 'table.md').read_text().splitlines()
    line = next(line for line in lines if line.startswith(f'| {name} |'))
    return [cell.strip() for cell in line.split('|')[2:-1]]


def test_the_suite_has_its_targets():
    targets = {row.name: (row.time, row.memory) for row in SUITES['cpu']}
    assert len(targets) == len(SUITES['cpu'])
    assert targets['coat_small 1x512x512 train'] == (0.80, 0.7)
    assert targets['cait_s24 dense 1x576x576 train'] == (0.50, 0.25)
    assert targets['coat_lite_small 1x1344x1344 infer, itself at 224'] == (1.15, 1.1)
    assert targets['crossvit_9 dense 1x480x480 train, itself at batch 2'] == (1.25, None)
    single = [name for name in targets if name.endswith(records.TWO_IMAGES)]
    assert {name.split('_')[0] for name in single} == {'coat', 'cait', 'crossvit'}


def test_met_is_under_target_plus_interquartile_range():
    row = SUITES['cpu'][0]  # 0.80, 0.7
    assert records.is_met(make_record(row, time=0.829)) is True
    assert records.is_met(make_record(row, time=0.831)) is False
    assert records.is_met(make_record(row, memory=0.71)) is False
    assert records.is_met(make_record(row._replace(time=None, memory=None))) is None
    assert records.is_met(make_record(row._replace(time=None), time=9)) is True


def test_targets_are_for_the_first_form_of_a_device():
    row = SUITES['cpu'][0]
    assert records.is_met(make_record(row, COMPILED)) is None
    assert records.is_met(make_record(row, BFLOAT16)) is None
    row = SUITES['cuda'][1]
    row = row._replace(work=row.work._replace(device='cuda'))
    eager, compiled, _ = FORMS['cuda']
    assert records.is_met(make_record(row, eager, time=0.4)) is True
    assert records.is_met(make_record(row, eager)) is False
    assert records.is_met(make_record(row, compiled, time=0.4)) is None


def test_all_files_make_one_table(tmp_path):
    row = SUITES['cpu'][0]
    for form, time in (EAGER, 0.75), (BFLOAT16, 0.9), (Form('float16'), 0.6):
        records.save([make_record(row, form, time)], tmp_path / f'{form}.json', merge=False)
    records.write_table(tmp_path)
    eager = ['0.750 (0.740 to 0.770)', '0.8', '0.500', '0.7', 'yes']
    others = ['', '', '0.900 (0.890 to 0.920)', '0.500', '0.600 (0.590 to 0.620)', '0.500']
    assert cells(tmp_path, row.name) == eager + others
    assert cells(tmp_path, SUITES['cpu'][1].name)[:5] == ['', '0.8', '', '0.7', '']
    gpu = cells(tmp_path, 'coat_small 64x224x224 train')
    assert gpu[:2] == ['', '0.5'] and not any(gpu[2:])
    text = (tmp_path / 'table.md').read_text()
    assert '## CUDA\n\nNot measured.' in text
    assert '- abacus, threads: 2, torch 2, glibc\n' in text
    assert '| 0.7500 / 1.5000 |' in text
    assert len([line for line in text.splitlines() if line.startswith('### ')]) == 3


def test_a_table_of_nothing(tmp_path):
    records.write_table(tmp_path)
    assert (tmp_path / 'table.md').read_text().count('Not measured.') == 2


def test_one_image_over_two_counts_without_thresholds(tmp_path):
    row = next(row for row in SUITES['cpu'] if row.peer == records.TWO_IMAGES)
    records.save([make_record(row)], tmp_path / 'suite.json', False)
    records.write_table(tmp_path)
    assert cells(tmp_path, row.name)[:2] == ['0.750 (0.740 to 0.770)', '1.25']


def test_growth_counts_with_the_thresholds_only(tmp_path):
    row = next(row for row in SUITES['cpu'] if row.peer == 224)
    for allocator in {}, THRESHOLDS:
        records.save([make_record(row, allocator=allocator)], tmp_path / 'sweep_x.json', False)
        records.write_table(tmp_path)
        assert cells(tmp_path, row.name)[0] == ('0.750 (0.740 to 0.770)' if allocator else '')


@pytest.mark.parametrize('names', [(), ('suite',), ('sweep',), ('suite', 'sweep')])
def test_the_plot_is_of_what_is_there(tmp_path, names):
    row = SUITES['cpu'][-1]
    if 'suite' in names:
        made = [make_record(row, form) for row in SUITES['cpu'] for form in (EAGER, BFLOAT16)]
        records.save(made, tmp_path / 'suite.json', merge=False)
    if 'sweep' in names:
        works = [row.work._replace(size=(size, size)) for size in (64, 128)]
        made = [make_record(row._replace(work=work)) for work in works]
        records.save(made, tmp_path / 'sweep_x.json', merge=False)
    records.write_plot(tmp_path)
    assert cv2.imread(str(tmp_path / records.PLOT)) is not None


def test_what_is_measured_again_replaces_only_itself(tmp_path):
    path = tmp_path / 'suite.json'
    first, second = SUITES['cpu'][:2]
    records.save([make_record(first), make_record(second)], path, merge=True)
    records.save([make_record(first, time=0.5)], path, merge=True)
    assert {r['mode']: r['time_ratio'] for r in records.load(path)} == dict(infer=0.5, train=0.75)
    records.save([make_record(first)], path, merge=False)
    assert len(records.load(path)) == 1
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize('text', ['{', '{"a": 1}', '[{"arch": "coat"}]', '[1]'])
def test_what_is_no_record_is_named(tmp_path, text):
    path = tmp_path / 'suite.json'
    path.write_text(text)
    with pytest.raises(UserError, match='suite.json holds no records'):
        records.load(path)


def test_a_record_without_a_peer_is_listed():
    record = make_record(SUITES['cpu'][0]._replace(peer=None, time=None, memory=None))
    record.update(time_ratio=None, time_ratio_quartiles=None, memory_ratio=None)
    record = {name: value for name, value in record.items() if not name.startswith('peer_')}
    record = json.loads(json.dumps(dict(record, peer_compiled=None)))
    row = records.list_figures([record]).splitlines()[2]
    assert row.startswith('| coat_small 1x512x512 infer |  | 0.7500 |  | 1.0 |  | 1.0 | 50% |')


def test_the_name_of_a_form():
    assert [str(form) for form in FORMS['cuda']] == [
        'bfloat16 eager',
        'bfloat16 compiled over eager',
        'bfloat16 compiled',
    ]
