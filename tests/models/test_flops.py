import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmvitx.models.flops import multiply_adds


@pytest.mark.parametrize(
    ('run', 'expected'),
    [
        (lambda: nn.Linear(8, 16)(torch.zeros(2, 5, 8)), 2 * 5 * 8 * 16),
        (lambda: nn.Conv2d(4, 6, 3, padding=1)(torch.zeros(1, 4, 7, 9)), 7 * 9 * 9 * 4 * 6),
        (lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4)(torch.zeros(1, 4, 7, 9)), 7 * 9 * 9 * 4),
        (lambda: F.gelu(F.layer_norm(torch.zeros(3, 8), (8,))), 0),
        (lambda: F.scaled_dot_product_attention(*torch.zeros(3, 1, 2, 5, 8)), 2 * 2 * 5 * 5 * 8),
    ],
)
def test_products_are_counted(run, expected):
    assert multiply_adds(run) == expected


def test_the_mixing_of_heads_is_counted():
    from mmvitx.models.layers import TalkingHeadsAttention

    dim, heads, length = 24, 3, 10
    attention = TalkingHeadsAttention(dim, heads)
    linear = length * dim * 4 * dim  # qkv, proj
    expected = linear + 2 * length**2 * dim + 2 * length**2 * heads**2
    assert multiply_adds(lambda: attention(torch.zeros(1, length, dim), (2, 5))) == expected
