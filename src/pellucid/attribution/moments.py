"""Means and variances of a row's samples as they come, in one pass over them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.models import Inputs

__all__ = ["Moments", "stacked"]


@dataclass
class Moments:
    """Running mean and sum of squared deviations (Welford, Chan): never negative, whatever the scale."""

    count: int = 0
    mean: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def add(self, values: Tensor) -> None:
        """Take ``(n, ...)`` further samples in."""
        values = values.double()
        count, mean = len(values), values.mean(0)
        squares = (values - mean).square().sum(0)
        total, apart = self.count + count, mean - self.mean
        self.mean = self.mean + apart * (count / total)
        self.squares = self.squares + squares + apart * apart * (self.count * count / total)
        self.count = total

    @property
    def variance(self) -> Tensor:
        """The unbiased variance of one sample."""
        return torch.as_tensor(self.squares) / max(1, self.count - 1)

    @property
    def error(self) -> Tensor:
        """The standard error of the mean."""
        return (self.variance / self.count).sqrt()


def stacked(rows: list[list[Tensor]], like: Inputs) -> Inputs:
    """Join one list of tensors a row, one tensor an input, to one tensor an input of the inputs' type."""
    return tuple(torch.stack(tensors).to(like[0].dtype) for tensors in zip(*rows, strict=True))
