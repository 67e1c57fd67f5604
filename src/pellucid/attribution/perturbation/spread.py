"""How far a surrogate depends on what nobody meant to choose: the segmentation and the seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from pellucid.attribution.perturbation.fitters import Fit, unseen_r2
from pellucid.attribution.perturbation.game import Game, Maps
from pellucid.attribution.perturbation.render import Coalitions, respond
from pellucid.attribution.perturbation.samplers import DRAWS, Design, bernoulli
from pellucid.attribution.perturbation.segmenters import Labels, Segmentation, alternatives
from pellucid.hashing import hash_seed
from pellucid.models import Inputs, take_rows

__all__ = ["Spread", "spread_of"]

APART = 0.2
"""Difference of mean R² between segmentations above which the reader is told."""


class _Surrogate(Protocol):
    @property
    def samples(self) -> int: ...

    @property
    def spread(self) -> int: ...

    @property
    def segments(self) -> int | str | Labels: ...

    def weights(self, masks: Tensor) -> Tensor: ...

    def fit(self, design: Design, answers: Tensor) -> Fit: ...


class _Fitted(Protocol):
    segmentation: Segmentation
    design: Design | None
    answers: Tensor | None


@dataclass(frozen=True)
class Spread:
    """R² of unseen coalitions and agreement of the maps, over segmentations and draws."""

    details: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[Any, ...] = ()


def _unseen(method: _Surrogate, design: Design, answers: Tensor) -> Tensor:
    """Return R² ``(DRAWS, T)``: every draw as the surrogate of the other draws predicts it."""
    weights, found = method.weights(design.masks), []
    for draw in range(DRAWS):
        rest = Design(design.masks, design.counts.sum(0) - design.counts[draw])
        if not rest.counts.any() or not design.counts[draw].any():
            found.append(torch.full(answers.shape[1:], torch.nan, dtype=torch.float64))
        else:
            fit = method.fit(rest, answers)
            found.append(unseen_r2(fit, Design(design.masks, design.counts[draw]), weights, answers))
    return torch.stack(found)


def _correlation(one: Inputs, two: Inputs) -> Tensor:
    """Return the correlation ``(T,)`` of two maps over all elements; NaN where one is flat."""
    flat = [torch.cat([part.flatten(1) for part in parts], 1).double() for parts in (one, two)]
    first, second = (part - part.mean(1, keepdim=True) for part in flat)
    together: Tensor = (first * second).sum(1) / (first.norm(dim=1) * second.norm(dim=1))
    return together


def spread_of(game: Game, maps: Maps, rows: Sequence[_Fitted], fits: Sequence[Fit], method: _Surrogate) -> Spread:
    """Fit the surrogate on other segmentations of every row and on parts of the coalitions."""
    call, targets = game.call, maps.outputs.shape[1]
    r2 = torch.full((len(call), targets, method.spread, DRAWS), torch.nan)
    agreement = torch.full((len(call), targets, method.spread), torch.nan)
    agreement[:, :, 0] = 1
    for number, row in enumerate(rows):
        r2[number, :, 0] = _unseen(method, cast("Design", row.design), cast("Tensor", row.answers)).T.float()
    call.passes.expect(len(call) * (method.spread - 1) * (method.samples // 2), "trying other segmentations")
    for trial, answers in respond(call, game.fills, _trials(game, method)):
        fit, own = method.fit(trial.design, answers), rows[trial.row].segmentation
        r2[trial.row, :, trial.place] = _unseen(method, trial.design, answers).T.float()
        maps_here = own.spread(fits[trial.row].effects), trial.segmentation.spread(fit.effects)
        agreement[trial.row, :, trial.place] = _correlation(*maps_here).float()
    return Spread({"r2_spread": maps.detail(r2), "agreement": maps.detail(agreement)}, _doubts(maps, r2))


@dataclass(frozen=True, eq=False)
class _Trial(Coalitions):
    """A row under another segmentation, the `place`-th of those tried."""

    design: Design
    place: int


def _trials(game: Game, method: _Surrogate) -> Iterator[_Trial]:
    for row, (own, seed) in enumerate(zip(game.segmentations, game.call.seeds, strict=True)):
        image = take_rows(game.call.inputs, slice(row, row + 1))
        for place, other in enumerate(alternatives(method.segments, own, image, method.spread - 1), start=1):
            generator = torch.Generator().manual_seed(hash_seed(seed, place))
            yield _Trial(row, other, bernoulli(other.players, max(2, method.samples // 2), generator), place)


def _doubts(maps: Maps, r2: Tensor) -> tuple[Any, ...]:
    means = r2.nanmean(3)
    apart = means.nan_to_num(-torch.inf).amax(2) - means.nan_to_num(torch.inf).amin(2) > APART
    told = "R² of the linear surrogate differs by more than {} between segmentations in {} of {} images"
    return maps.doubts(apart, lambda count: told.format(APART, count, len(r2)))
