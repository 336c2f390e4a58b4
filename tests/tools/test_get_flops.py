"""Multiply-adds in the papers' form are those of the papers."""

from __future__ import annotations

import pytest

from mmvitx.errors import UserError
from mmvitx.models.flops import count, textbook_form


@pytest.fixture
def get_flops(tool):
    return tool('get_flops')


# Of each family the smallest, and what is its own: parallel blocks, convolutions as embedding.
CHEAP = ['coat_tiny', 'crossvit_9_dagger', 'cait_xxs24']


def check(get_flops, name):
    params, gmacs = get_flops.PAPERS[name]
    counts = count(name)
    assert counts.paper / 1e9 == pytest.approx(gmacs, rel=0.03)
    assert counts.params / 1e6 == pytest.approx(params, rel=0.01, abs=0.5)  # CoaT's are rounded
    assert counts.run < counts.paper


@pytest.mark.parametrize('name', CHEAP)
def test_the_table_of_the_paper(get_flops, name):
    check(get_flops, name)


@pytest.mark.slow
def test_all_tables_of_the_papers(get_flops):
    for name in get_flops.PAPERS:
        check(get_flops, name)


def test_attention_is_counted_and_grows_with_its_square():
    small, large = (count('cait_xxs24', (s, s)).run for s in (224, 448))
    assert large > 4.5 * small


def test_what_is_run_does_the_same():
    """The textbook form of the layers gives the same output."""
    import torch

    from mmvitx.models.layers import ClassAttention, WindowedDepthwiseConv

    torch.manual_seed(0)
    attention, x = ClassAttention(24, 3), torch.randn(2, 5, 24)
    conv = WindowedDepthwiseConv(24, 3, {3: 1, 5: 2})
    ours = attention(x[:, :1], x), conv(torch.ones(2, 12, 24), (3, 4))
    with textbook_form():
        theirs = attention(x[:, :1], x), conv(torch.ones(2, 12, 24), (3, 4))
    torch.testing.assert_close(ours, theirs)


def test_prints_a_table(get_flops, capsys):
    get_flops.main(['coat_lite_tiny', '--dense', '--size', '64', '96'])
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row[:2] == ['coat_lite_tiny', '64x96'] and len(row) == 5
    with pytest.raises(UserError, match='no model is called'):
        get_flops.main(['coat_smal'])
    with pytest.raises(UserError, match='--size takes'):
        get_flops.main(['--size', '1', '2', '3'])
