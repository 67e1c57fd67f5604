"""Fitters: from coalitions and the model's answers to one effect a segment, with its standard error.

Answers come as ``(n, T)``: every target is fitted at once from the same forwards, in double precision.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.attribution.perturbation.samplers import Design, ShapleyDesign

__all__ = ["Fit", "constrained_least_squares", "unseen_r2", "weighted_ridge"]

_BLOCK = 1024
_LEVERAGE = 0.99
"""Cap on the leverage of a drawn pair: one that fits itself says nothing about its error."""

_ROUNDING = 1e-12
"""Share of the answers' squares below which their variance is float32 rounding."""


@dataclass(frozen=True, eq=False)
class Fit:
    """Effects ``(players, T)``, their standard errors; R² and constant ``(T,)`` where the fit is a surrogate."""

    effects: Tensor
    error: Tensor
    r2: Tensor | None = None
    constant: Tensor | None = None


def _blocks(rows: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, rows, _BLOCK))


def _moments(masks: Tensor, weights: Tensor, values: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Return Σ w (z − c)(z − c)ᵀ and Σ w (z − c) yᵀ, block by block."""
    players = masks.shape[1]
    gram = torch.zeros(players, players, dtype=torch.float64)
    cross = torch.zeros(players, values.shape[1], dtype=torch.float64)
    for part in _blocks(len(masks)):
        z = masks[part].double() - centre
        weighted = z * weights[part, None]
        gram += weighted.T @ z
        cross += weighted.T @ values[part]
    return gram, cross


def _predicted(masks: Tensor, effects: Tensor) -> Tensor:
    return torch.cat([masks[part].double() @ effects for part in _blocks(len(masks))])


def constrained_least_squares(design: ShapleyDesign, answers: Tensor, empty: Tensor, full: Tensor) -> Fit:
    """Return Shapley values: the kernel regression under Σ φ = f(x) − f(fill).

    The standard error is the leave-one-out sandwich (HC3) of the regression with the drawn pair (a coalition and its
    complement) as the unit; enumerated sizes add none, and a complete design has none.

    Parameters
    ----------
    design
        Weighted coalitions.
    answers
        ``(n, T)`` the target's values.
    empty, full
        ``(T,)`` f(fill) and f(x).

    References
    ----------
    Lundberg & Lee 2017, A unified approach to interpreting model predictions; Covert & Lee 2021, Improving KernelSHAP.
    """
    difference = full.cpu().double() - empty.cpu().double()
    if not len(design):
        return Fit(difference[None], torch.zeros_like(difference[None]))
    values = answers.cpu().double() - empty.cpu().double()
    gram, cross = _moments(design.masks, design.weights, values, torch.zeros(()))
    factor = torch.linalg.cholesky(gram)
    ones = torch.ones(len(gram), 1, dtype=torch.float64)
    pull = torch.cholesky_solve(ones, factor)
    free = torch.cholesky_solve(cross, factor)
    effects = free - pull * (free.sum(0) - difference) / pull.sum()
    residuals = values - _predicted(design.masks, effects)
    return Fit(effects, _pair_error(design, residuals, factor, pull))


def _pair_error(design: ShapleyDesign, residuals: Tensor, factor: Tensor, pull: Tensor) -> Tensor:
    pairs, total = len(design.draws), int(design.draws.sum())
    players, targets = len(factor), residuals.shape[1]
    if total == 0:
        return torch.zeros(players, targets, dtype=torch.float64)
    if total == 1:
        return torch.full((players, targets), torch.inf, dtype=torch.float64)
    counts = design.draws.double()[:, None]
    first, second = slice(-2 * pairs, -pairs), slice(len(design) - pairs, None)
    masks = design.masks[first].double()
    solved = torch.cholesky_solve(masks.T, factor)
    moves = (solved - pull * solved.sum(0) / pull.sum()).T
    weight = design.weights[first, None] / counts
    leverage = (2 * weight * (masks * moves).sum(1, keepdim=True)).clamp(max=_LEVERAGE)
    pushes = weight * (residuals[first] - residuals[second]) / (1 - leverage)
    mean = moves.T @ (counts * pushes) / total
    spread = (moves**2).T @ (counts * pushes**2) - total * mean**2
    return (spread.clamp(min=0) * total / (total - 1)).sqrt()


def weighted_ridge(design: Design, weights: Tensor, answers: Tensor, ridge: float) -> Fit:
    """Return a local linear surrogate: argmin Σ π(z) (f(z) − a − w·z)² + ridge ‖w‖², the intercept unpenalised.

    The standard error is the heteroscedastic sandwich with ``n / (n − players − 1)``; R² is weighted by π and 1 where
    a constant is fitted exactly.

    Parameters
    ----------
    design
        Distinct coalitions with their counts, of one draw or several.
    weights
        ``(n,)`` π(z) of one draw.
    answers
        ``(n, T)`` the target's values.
    ridge
        Penalty on the effects.

    References
    ----------
    Ribeiro et al. 2016, "Why should I trust you?"
    """
    values = answers.cpu().double()
    counts = design.total.double()
    mass = (weights.double() * counts)[:, None]
    centre = (design.masks * mass).sum(0) / mass.sum()
    mean = (values * mass).sum(0) / mass.sum()
    gram, cross = _moments(design.masks, mass[:, 0], values - mean, centre)
    gram.diagonal().add_(ridge)
    effects = torch.linalg.solve(gram, cross)
    constant = mean - centre @ effects
    residuals = values - constant - _predicted(design.masks, effects)
    r2 = _explained(mass, values, residuals)
    return Fit(effects, _sandwich(design, weights.double()[:, None] * residuals, centre, gram), r2, constant)


def _explained(mass: Tensor, values: Tensor, residuals: Tensor) -> Tensor:
    """Return the share ``(T,)`` of the weighted variance that is not left; 1 where there is none, NaN without any mass."""
    mean = (values * mass).sum(0) / mass.sum()
    left, total = (mass * residuals**2).sum(0), (mass * (values - mean) ** 2).sum(0)
    rounding = _ROUNDING * (mass * values**2).sum(0)
    share = torch.where(total > rounding, 1 - left / total.clamp(min=torch.finfo(torch.float64).tiny), 1.0)
    return torch.where(mass.sum() > 0, share, torch.nan)


def unseen_r2(fit: Fit, design: Design, weights: Tensor, answers: Tensor) -> Tensor:
    """Return the weighted R² ``(T,)`` of a surrogate on coalitions that it was not fitted to."""
    values, mass = answers.cpu().double(), (weights.double() * design.total.double())[:, None]
    told = _predicted(design.masks, fit.effects) + (0 if fit.constant is None else fit.constant)
    return _explained(mass, values, values - told)


def _sandwich(design: Design, pushed: Tensor, centre: Tensor, gram: Tensor) -> Tensor:
    counts = design.total.double()[:, None]
    total, players = int(counts.sum()), len(gram)
    variance = torch.zeros(players, pushed.shape[1], dtype=torch.float64)
    inverse = torch.linalg.inv(gram)
    for part in _blocks(len(design)):
        moved = (design.masks[part].double() - centre) @ inverse
        variance += (moved**2).T @ (counts[part] * pushed[part] ** 2)
    return (variance * total / max(1, total - players - 1)).sqrt()
