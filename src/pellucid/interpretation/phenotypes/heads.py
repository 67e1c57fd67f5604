"""From latents to phenotypes: kernel regressions whose form is chosen on groups left out, with their local slopes."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Heads", "folds_of"]

Array = NDArray[np.float64]

_PENALTIES = tuple(10.0**power for power in range(-3, 4))
_KERNELS = ("linear", "quadratic", "gaussian")
_SIMPLER = 0.02
"""By how much of R² a bent regression must beat the straight one."""

_FOLDS = 5


def folds_of(groups: Sequence[Hashable], seed: int, most: int = _FOLDS) -> NDArray[np.int64]:
    """Return a fold for each row, whole groups together, dealt out in random turn."""
    places = np.unique([str(group) for group in groups], return_inverse=True)[1]
    count = int(places.max()) + 1
    turns = np.random.default_rng(seed).permutation(count) % min(most, count)
    return np.asarray(turns[places], dtype=np.int64)


def _kernel(kind: str, one: Tensor, other: Tensor, marks: Tensor) -> Tensor:
    """Return similarities ``(N, M)``; a constant is part of each kernel, so that the mean is not penalised much.

    The straight one takes points as they are, so that what is drawn faintly tells as much as what is plain; what is not drawn
    tells nothing to any. The bent ones measure them as the images differ: in many dimensions of equal weight all points are
    equally far from each other.
    """
    weights = (marks > 0).to(marks) if kind == "linear" else marks
    one, other = one * weights, other * weights
    products = one @ other.T
    if kind == "linear":
        return 1 + products
    if kind == "quadratic":
        bent: Tensor = (1 + products / one.shape[1] ** 0.5) ** 2
        return bent
    apart = one.square().sum(1)[:, None] + other.square().sum(1)[None] - 2 * products
    return 1 + one.shape[1] * torch.exp(-apart.clamp(min=0) / (4 * one.shape[1]))


@dataclass(frozen=True, eq=False)
class Heads:
    """Regressions of standardised numbers on points of a `Space`.

    Attributes
    ----------
    points
        ``(n, D)`` fitted points.
    weights
        ``(n, P)``.
    kernels, penalties
        One a column.
    r2
        ``(P,)`` share of the variance that is told of groups left out.
    residuals
        ``(n, P)`` what is left of those.
    marks
        ``(D,)`` by what points are multiplied in bent regressions, see `Space`.
    """

    points: Tensor
    weights: Tensor
    kernels: tuple[str, ...]
    penalties: tuple[float, ...]
    r2: Array
    residuals: Array
    marks: Tensor

    @classmethod
    def fit(
        cls,
        points: Tensor,
        values: Array,
        groups: Sequence[Hashable],
        *,
        marks: Tensor | None = None,
        seed: int = 0,
        kernels: Sequence[str] = _KERNELS,
    ) -> "Heads":
        """Fit one regression a column of standardised `values` ``(n, P)``; kernel and penalty by groups left out."""
        target, folds = torch.from_numpy(values), folds_of(groups, seed)
        marks = points.new_ones(points.shape[1]) if marks is None else marks
        held = {
            (kernel, penalty): predicted
            for kernel in kernels
            for penalty, predicted in zip(_PENALTIES, _held_out(points, target, folds, kernel, marks), strict=True)
        }
        spread = (target - target.mean(0)).square().sum(0).clamp(min=1e-12)
        told = {key: 1 - (target - one).square().sum(0) / spread for key, one in held.items()}
        chosen = [_chosen({key: float(r2[column]) for key, r2 in told.items()}) for column in range(values.shape[1])]
        weights = torch.stack([
            _solved(points, target[:, column], *key, marks) for column, key in enumerate(chosen)
        ], 1) if chosen else target  # fmt: skip
        r2 = np.array([float(told[key][column]) for column, key in enumerate(chosen)])
        left = [(target[:, column] - held[key][:, column]).numpy() for column, key in enumerate(chosen)]
        residuals = np.stack(left, 1) if left else values
        return cls(points, weights, tuple(k for k, _ in chosen), tuple(p for _, p in chosen), r2, residuals, marks)

    def predict(self, points: Tensor) -> Tensor:
        """Return the standardised numbers ``(N, P)`` of points; differentiable."""
        columns = [
            _kernel(kind, points, self.points, self.marks) @ self.weights[:, [place]]
            for place, kind in enumerate(self.kernels)
        ]
        return torch.cat(columns, 1)

    def slopes(self, points: Tensor) -> Tensor:
        """Return the derivatives ``(N, P, D)`` at points."""
        own = points.detach().clone().requires_grad_()
        told = self.predict(own)
        parts = [
            torch.autograd.grad(told[:, column].sum(), own, retain_graph=True)[0] for column in range(told.shape[1])
        ]
        return torch.stack(parts, 1)

    def columns(self, chosen: Sequence[int]) -> "Heads":
        """Return the regressions of some columns."""
        kept = list(chosen)
        return Heads(self.points, self.weights[:, kept], tuple(self.kernels[at] for at in kept),
                     tuple(self.penalties[at] for at in kept), self.r2[kept], self.residuals[:, kept], self.marks)  # fmt: skip

    def refitted(self, values: Array, kernel: str, penalty: float) -> "Heads":
        """Return regressions of other numbers ``(n, K)`` on the same points, all of one form; they count as telling nothing."""
        weights = _solved(self.points, torch.from_numpy(values), kernel, penalty, self.marks)
        count = values.shape[1]
        told = np.full(count, np.nan)
        return Heads(self.points, weights, (kernel,) * count, (penalty,) * count, told, values, self.marks)


def _solved(points: Tensor, target: Tensor, kernel: str, penalty: float, marks: Tensor) -> Tensor:
    gram = _kernel(kernel, points, points, marks)
    scale = float(gram.diagonal().mean())
    gram.diagonal().add_(penalty * scale)
    right = target if target.ndim == 2 else target[:, None]
    solved: Tensor = torch.linalg.solve(gram, right)
    return solved if target.ndim == 2 else solved[:, 0]


def _held_out(points: Tensor, target: Tensor, folds: NDArray[np.int64], kernel: str, marks: Tensor) -> list[Tensor]:
    """Return what each penalty predicts of every row from the other folds."""
    found = [torch.empty_like(target) for _ in _PENALTIES]
    for fold in np.unique(folds):
        out = torch.from_numpy(folds == fold)
        gram = _kernel(kernel, points[~out], points[~out], marks)
        across = _kernel(kernel, points[out], points[~out], marks)
        values, vectors = torch.linalg.eigh(gram)
        scale, turned = float(gram.diagonal().mean()), vectors.T @ target[~out]
        for kept, penalty in zip(found, _PENALTIES, strict=True):
            kept[out] = across @ (vectors @ (turned / (values + penalty * scale)[:, None]))
    return found


def _chosen(told: dict[tuple[str, float], float]) -> tuple[str, float]:
    """Return kernel and penalty: the best straight one unless a bent one tells clearly more."""
    best: dict[str, tuple[str, float]] = {}
    for key, value in told.items():
        if key[0] not in best or value > told[best[key[0]]]:
            best[key[0]] = key
    chosen = next(iter(best.values()))
    for key in best.values():
        if told[key] > told[chosen] + _SIMPLER:
            chosen = key
    return chosen
