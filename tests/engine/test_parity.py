import json
from pathlib import Path

import pytest

DATA = Path(__file__).parents[1] / 'data/parity'


@pytest.mark.parametrize('path', sorted(DATA.glob('*.json')), ids=lambda path: path.stem)
def test_our_models_answer_as_the_authors(path, tool, capsys):
    assert tool('check_parity').main([str(path)]) == 0
    assert capsys.readouterr().out.count('  ok\n') == 2


@pytest.fixture
def record():
    return json.loads((DATA / 'coat_lite_tiny.json').read_text())


@pytest.fixture
def check(tool, tmp_path, capsys):
    def run(record, *arguments):
        path = tmp_path / 'file.json'
        path.write_text(record if isinstance(record, str) else json.dumps(record))
        status = tool('check_parity').main([str(path), *arguments])
        return status, capsys.readouterr()

    return run


def test_another_salt_is_another_model(check, record):
    record['salt'] = 'pepper'
    status, captured = check(record)
    assert status == 1
    assert captured.out.count('FAILED') == 2


def test_the_tolerance_decides(check, record):
    assert check(record, '--tolerance', '1e-9')[0] == 1
    assert check(record)[0] == 0


def test_one_wrong_value_fails_that_run(check, record):
    record['runs'][1]['out'][2]['value'][5] += 0.1 * record['runs'][1]['out'][2]['std']
    status, captured = check(record)
    assert status == 1
    assert [line.split()[-1] for line in captured.out.splitlines()] == ['ok', 'FAILED']


def _set(key, value):
    def change(record):
        record[key] = value

    return change


def _size(height, width):
    def change(record):
        record['runs'][0]['input'] = [height, width]

    return change


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (_size(225, 224), 'the authors cut what their patches do not divide'),
        (_set('model', 'vit_base'), 'no known family'),
        (_set('model', 'coat_huge'), "not 'huge'"),
        (_set('params', 7), 'not 7'),
        (_set('keys', {'nonsense': [1]}), 'those of no published checkpoint'),
        (lambda record: record['keys'].update(nonsense=[1]), 'no published coat has nonsense'),
        (lambda record: record['keys'].pop('cls_token2'), 'parameters, shared once'),
        (lambda record: record.pop('runs'), "no parity file (KeyError: 'runs')"),
        (lambda record: record['runs'][0].pop('input'), "no parity file (KeyError: 'input')"),
        (_set('runs', []), 'no runs in it'),
        (_set('model', 7), 'no parity file'),
        (lambda record: record['runs'][0].update(kind='guess'), "kind 'guess'"),
    ],
)
def test_a_file_that_cannot_be_checked_says_why(check, record, change, message):
    change(record)
    status, captured = check(record)
    assert status == 1
    assert message in captured.err


def test_no_json(check):
    status, captured = check('not json')
    assert status == 1
    assert 'no parity file' in captured.err
