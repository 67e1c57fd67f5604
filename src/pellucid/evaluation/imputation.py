"""Noisy linear imputation: hidden positions get the weighted mean of their neighbours, hidden ones among them.

One sparse linear system an image and channel, solved for a whole batch at once by conjugate gradients in any number of
spatial axes. What was hidden has no say in what takes its place, and a row stops when its own residual is small.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.errors import ShapeError
from pellucid.evaluation.positions import streams
from pellucid.models import Inputs

__all__ = ["Imputation", "around", "impute"]

_ENOUGH = 1e-4
"""Residual, in parts of the right-hand side's size, at which a row is solved."""

_MOST = 2000
"""Iterations after which a row is taken as it is; long before that the residual is rounding."""


@dataclass(frozen=True)
class Imputation:
    """A fill that depends on what is hidden.

    Attributes
    ----------
    sigma
        Standard deviation of the noise on imputed positions as a fraction of the row's own range.
    """

    sigma: float

    def noise(self, inputs: Inputs, seeds: Sequence[int]) -> Inputs:
        """Draw every row's noise, from its own stream: one draw an image for all maps, orders and fractions."""
        drawn = []
        for place, x in enumerate(inputs):
            if x.ndim < 3:
                raise ShapeError(
                    f"imputation needs spatial axes with neighbours; input {place} has shape {tuple(x.shape)}: "
                    "use pixel_flipping with fill 'zero'"
                )
            own = streams(seeds, f"imputation {place}")
            unit = torch.stack([torch.randn(x.shape[1:], generator=stream) for stream in own]).to(x)
            flat = x.flatten(1)
            spread = (flat.amax(1) - flat.amin(1)).view(-1, *[1] * (x.ndim - 1))
            drawn.append(self.sigma * spread * unit)
        return tuple(drawn)


def around(values: Tensor) -> Tensor:
    """Add up the neighbours of every pixel of ``(N, C, *S)``: direct ones count 1, each further diagonal step half.

    In two dimensions these are the published weights 1/6 and 1/12, times 6; outside the image there is nothing.
    """
    total = values
    for axis in range(2, values.ndim):
        length = values.shape[axis]
        if length < 2:
            continue
        half = 0.5 * total
        total = total.clone()
        total.narrow(axis, 0, length - 1).add_(half.narrow(axis, 1, length - 1))
        total.narrow(axis, 1, length - 1).add_(half.narrow(axis, 0, length - 1))
    return 2 * (total - values)


def impute(x: Tensor, hidden: Tensor) -> Tensor:
    """Return images ``(N, C, *S)`` with hidden pixels replaced by the solution of the neighbour equations.

    Parameters
    ----------
    x
        Images.
    hidden
        Boolean ``(N, 1, *S)``; a row that hides everything gets zeros: there is nothing to go by.

    References
    ----------
    Rong et al. 2022, A consistent and efficient evaluation strategy for attribution methods, ICML.
    """
    gone = hidden.to(x.dtype)
    known = x.masked_fill(hidden, 0)
    system = _System(gone, around(torch.ones_like(gone[:1])))
    sides = tuple(range(2, x.ndim))
    count = (1 - gone).sum(sides, keepdim=True)
    mean = known.sum(sides, keepdim=True) / count.clamp_min(1)
    # Solving for the distance from the mean keeps the right-hand side free of the image's offset.
    away = (known - mean) * (1 - gone)
    return torch.where(hidden, mean + _solved(system, gone * around(away)), x)


@dataclass(frozen=True)
class _System:
    """Weight times own value less the neighbours' weighted values, over hidden pixels: symmetric and positive."""

    gone: Tensor
    weight: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        return self.gone * (self.weight * values - around(values))

    def rows(self, kept: Tensor) -> "_System":
        return _System(self.gone[kept], self.weight)


def _dot(left: Tensor, right: Tensor) -> Tensor:
    total: Tensor = (left.flatten(2) * right.flatten(2)).sum(2)
    return total.view(*total.shape, *[1] * (left.ndim - 2))


def _solved(system: _System, right: Tensor) -> Tensor:
    """Solve the system row by row; rows leave the batch as soon as they are solved, so none waits or gains by others."""
    found = torch.zeros_like(right)
    rows = torch.arange(len(right), device=right.device)
    values, residual = torch.zeros_like(right), right.clone()
    direction, size = residual.clone(), _dot(residual, residual)
    goal = _ENOUGH**2 * size
    for _ in range(_MOST):
        open_ = (size > goal).flatten(1).any(1)
        if not bool(open_.all()):
            found[rows[~open_]] = values[~open_]
            rows, system = rows[open_], system.rows(open_)
            values, residual, direction, size, goal = (
                part[open_] for part in (values, residual, direction, size, goal)
            )
        if not len(rows):
            return found
        image = system(direction)
        step = size / _dot(direction, image).clamp_min(torch.finfo(right.dtype).tiny)
        values = torch.addcmul(values, step, direction)
        residual = torch.addcmul(residual, -step, image)
        before, size = size, _dot(residual, residual)
        direction = torch.addcmul(residual, size / before.clamp_min(torch.finfo(right.dtype).tiny), direction)
    found[rows] = values
    return found
