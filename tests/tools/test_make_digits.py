"""What cannot be drawn, or not there, is one sentence that names the option."""

from __future__ import annotations

import pytest

from mmvitx.errors import UserError

ERRORS = {
    'no canvases': (['--train', '0'], '^--train 0: expected at least 1$'),
    'fewer than none': (['--val', '-3'], '^--val -3: expected at least 1$'),
    'seed': (['--seed', '-1'], '^--seed -1: expected at least 0$'),
    'file': (['--out', '{tmp_path}/file'], '^--out .*file is a file: name a folder$'),
    'under a file': (['--out', '{tmp_path}/file/x'], 'file cannot be written .*with --out$'),
    'no place for files': (['--out', '/proc/digits'], 'cannot be written .*another with --out$'),
    'folder of something else': (['--out', '{tmp_path}'], 'give another folder'),
}


@pytest.mark.parametrize('case', ERRORS)
def test_says_what_is_wrong(tool, tmp_path, case):
    words, message = ERRORS[case]
    (tmp_path / 'file').write_text('years of work')
    with pytest.raises(UserError, match=message):
        tool('make_digits').main([word.format(tmp_path=tmp_path) for word in words])
    assert [path.name for path in tmp_path.iterdir()] == ['file']
    assert (tmp_path / 'file').read_text() == 'years of work'


def test_draws_as_many_as_it_is_told(tool, tmp_path, capsys):
    pytest.importorskip('sklearn')
    words = ['classification', '--out', str(tmp_path / 'new/digits'), '--train', '2', '--val', '1']
    tool('make_digits').main(words)
    assert capsys.readouterr().out == f'digits: {tmp_path}/new/digits\n'
    assert len(list((tmp_path / 'new/digits/train').rglob('*.png'))) == 2
