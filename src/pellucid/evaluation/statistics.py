"""Row-wise statistics that several metrics share; every row is its own world."""

import torch
from torch import Tensor

__all__ = ["FLOOR", "NOISE", "average_ranks", "pearson", "scale_of_fall", "spearman"]

_FLAT = 1e-9
"""A row whose spread is below this part of its size is constant up to rounding."""


NOISE = 1e-6
"""Part of the largest score below which a change of the score is rounding error."""

FLOOR = 0.05
"""Part of two scores below which their difference no longer scales anything: it would explode where they agree."""


def average_ranks(values: Tensor) -> Tensor:
    """Return the rank of every value ``(N, P)`` within its row, from 0, with ties averaged; float64."""
    ordered, index = values.sort(dim=1, stable=True)
    places = torch.arange(values.shape[1], device=values.device).expand_as(index)
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    ends = torch.ones_like(starts)
    ends[:, :-1] = starts[:, 1:]
    last = values.shape[1] - 1
    first_of_run = torch.where(starts, places, 0).cummax(1).values
    last_of_run = torch.where(ends, places, last).flip(1).cummin(1).values.flip(1)
    middle = (first_of_run + last_of_run).double() / 2
    return torch.empty_like(middle).scatter(1, index, middle)


def pearson(left: Tensor, right: Tensor, noise: float | Tensor = 0.0) -> Tensor:
    """Return the correlation of two ``(N, P)`` row by row; NaN where one is constant.

    Parameters
    ----------
    left, right
        Paired values.
    noise
        Size below which a spread of `right` is rounding error: a number, or ``(N,)``.
    """
    left, right = left.double(), right.double()
    flat = _constant(left) | _constant(right) | ((right.amax(1) - right.amin(1)) <= noise)
    left, right = left - left.mean(1, keepdim=True), right - right.mean(1, keepdim=True)
    correlation = (left * right).sum(1) / (left.norm(dim=1) * right.norm(dim=1)).clamp_min(1e-300)
    return torch.where(flat, torch.nan, correlation.clamp(-1, 1))


def _constant(values: Tensor) -> Tensor:
    return (values.amax(1) - values.amin(1)) <= _FLAT * values.abs().amax(1)


def spearman(left: Tensor, right: Tensor) -> Tensor:
    """Return the rank correlation of two ``(N, P)`` row by row, ties averaged; NaN where one is constant."""
    return pearson(average_ranks(left), average_ranks(right))


def scale_of_fall(before: Tensor, after: Tensor) -> Tensor:
    """Return the size of the difference of two scores, and never less than `FLOOR` of their own sizes."""
    return torch.maximum((before - after).abs(), FLOOR * (before.abs() + after.abs()))
