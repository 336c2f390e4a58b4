"""Stochastic depth."""

from __future__ import annotations

from torch import Tensor, nn


class DropPath(nn.Module):
    """Stochastic depth (arXiv 1603.09382): drops a residual branch for whole samples.

    Args:
        rate: Probability that a sample loses the branch, 0 <= rate < 1.

    Raises:
        ValueError: ``rate`` is outside [0, 1).
    """

    def __init__(self, rate: float = 0.0):
        super().__init__()
        if not (isinstance(rate, (int, float)) and 0.0 <= rate < 1.0):
            raise ValueError(f'drop_path_rate must be in [0, 1), not {rate!r}.')
        self.rate = rate

    def forward(self, *branches: Tensor) -> tuple[Tensor, ...]:
        """Drop the same samples in all ``branches``.

        Args:
            branches: Tensors (B, ...) of one dtype and one number of axes: the image tokens and the
                class token of one residual branch, say.

        Returns:
            The tensors, in training with the dropped samples zeroed and the others divided by
            (1 - rate), else as they are.
        """
        if not self.training or self.rate == 0.0:
            return branches
        first = branches[0]
        keep = first.new_empty((first.shape[0],) + (1,) * (first.ndim - 1))
        keep = keep.bernoulli_(1.0 - self.rate).div_(1.0 - self.rate)
        return tuple(branch * keep for branch in branches)

    def extra_repr(self) -> str:  # noqa: D102
        return f'rate={self.rate}'
