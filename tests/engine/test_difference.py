import math

import pytest
import torch

from mmvitx.engine.measure import difference


@pytest.mark.parametrize(
    ('second', 'expected'),
    [
        ([1.0, 3.0], 0.0),
        ([1.0, 5.0], 2**0.5),
        ([1.0, math.nan], math.inf),
        ([1.0], math.inf),
    ],
)
def test_the_difference_counts_in_standard_deviations(second, expected):
    reference = [torch.tensor([0.0, 1.0]), torch.tensor([1.0, 3.0])]
    outputs = [reference[0], torch.tensor(second)]
    assert difference(outputs, reference) == pytest.approx(expected)
