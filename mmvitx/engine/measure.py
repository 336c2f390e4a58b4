"""How far two results are apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor


def difference(outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Give the largest difference of several tensors over the standard deviation of each.

    Args:
        outputs: Tensors.
        expected: What they should be.

    Returns:
        The difference; inf for other shapes and where one is not a number.
    """
    if [out.shape for out in outputs] != [ref.shape for ref in expected]:
        return math.inf
    found = [((a - b).abs().max() / b.std()).item() for a, b in zip(outputs, expected)]
    return math.inf if any(map(math.isnan, found)) else max(found)
