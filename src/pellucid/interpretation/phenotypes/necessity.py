"""Is a phenotype needed? The answer is changed once freely, and once with the phenotype held where it is."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from pellucid.errors import CannotExplain
from pellucid.interpretation.phenotypes.atlas import HELD, Atlas
from pellucid.interpretation.phenotypes.flights import Flight, Flyer
from pellucid.interpretation.phenotypes.heads import Heads
from pellucid.interpretation.phenotypes.nulls import dealt
from pellucid.interpretation.phenotypes.ratio import ratio_interval
from pellucid.interpretation.phenotypes.scoring import Scorer
from pellucid.intervals import Interval, mean_interval, or_null, share_interval
from pellucid.models import Model, Passes

__all__ = ["Necessity", "necessity"]

Array = NDArray[np.float64]

_SLACK = 1.5
"""An image with something held may go this many times as far as it needed freely."""

_CONTROLS = 5
CONTROL = "(a meaningless direction)"
ALL = "(all listed phenotypes)"


@dataclass(frozen=True, eq=False)
class Necessity:
    """What the model's answer needs, and how far the listed phenotypes account for it.

    Attributes
    ----------
    table
        One row a phenotype, then one for all of them together and one for the control: ``held``, ``needed`` with ``low`` and
        ``high`` (share of the images that flip freely but not with this held), ``drift`` (measured change of what was
        held, standard deviations, mean size) and ``drift_free`` (the same without holding it), ``images``, ``groups``.
    flips
        Share of the images that flip freely within reach of real images.
    known_real
        Share of the variance of the score over real images that the listed phenotypes tell (groups left out).
    known_moves
        Share of the score's movement, from each image to where it flips, that the listed phenotypes, measured again, tell:
        1 less the squared miss over the squared movement; the regression never saw these images. What is left is new.
    differentiated
        Whether the model itself was differentiated; else a regression of its scores led the way.
    """

    table: pa.Table
    flips: Interval
    known_real: float
    known_moves: Interval
    differentiated: bool


def necessity(
    model: Model | Callable[..., Any],
    atlas: Atlas,
    images: Tensor,
    *,
    groups: Sequence[Hashable] | None = None,
    target: str | int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = False,
) -> Necessity:
    """Change the model's answer to real images freely and with each phenotype frozen, and say what it cannot do without.

    Parameters
    ----------
    model, atlas, images, groups, seed, batch_size, progress
        As for `dose_response`; the images must not be those that the atlas was learnt from.
    target
        Class whose log-odds change sign; default: the second of two, else the first.

    Raises
    ------
    CannotExplain
        When the model is no classifier, or no image can be flipped within reach of real images.
    """
    own = Model.of(model)
    units = [str(one) for one in (range(len(images)) if groups is None else groups)]
    with Passes(own, batch_size=batch_size) as passes:
        scorer = Scorer.of(passes, images, None if target is None else [target])
        if own.task == "regression":
            raise CannotExplain("a regression has no answer to flip; necessity is told of classifiers")
        flyer = Flyer.of(atlas, scorer, images.cpu(), seed=seed)
        free = flyer.fly()
        if not free.flipped.any():
            raise CannotExplain("no image flips within reach of real images, so nothing can be shown to be needed")
        rows = [place for place, r2 in enumerate(atlas.directions.heads.r2) if r2 >= HELD]
        trials: list[tuple[str, Sequence[int], Heads | None]] = [(atlas.names[place], [place], None) for place in rows]
        trials += [(ALL, rows, None)] + [(CONTROL, [turn], _controls(atlas, seed)) for turn in range(_CONTROLS)]
        flights = [
            (name, held, flyer.fly(held=held, heads=heads, budget=_SLACK * free.lengths))
            for name, held, heads in track(trials, "holding phenotypes", disable=not progress, transient=True)
        ]
        judge = _Judge(atlas, scorer, flyer.images, free, units, seed)
        table = pa.Table.from_pylist(judge.rows(flights), schema=_TABLE)
        real, moves = judge.known()
    flips = _share(free.flipped, units, seed)
    return Necessity(table, flips, real, moves, flyer.differentiated)


_TABLE = pa.schema([
    ("held", pa.string()), ("needed", pa.float64()), ("low", pa.float64()), ("high", pa.float64()), ("drift", pa.float64()),
    ("drift_free", pa.float64()), ("images", pa.int64()), ("groups", pa.int64()),
])  # fmt: skip


def _controls(atlas: Atlas, seed: int) -> Heads:
    """Return straight regressions of phenotypes that were dealt out to other images."""
    random, count = np.random.default_rng([seed, 2]), len(atlas.names)
    columns = [atlas.values[dealt(atlas.groups, random), turn % count] for turn in range(_CONTROLS)]
    return atlas.directions.heads.refitted(np.stack(columns, 1), "linear", 1.0)


@dataclass(frozen=True, eq=False)
class _Judge:
    atlas: Atlas
    scorer: Scorer
    images: Tensor
    free: Flight
    groups: list[str]
    seed: int

    def _shown(self, flight: Flight) -> Tensor:
        space = self.atlas.space
        with torch.no_grad():
            return space.moved(self.images, space.encode(self.images), flight.points)

    def rows(self, flights: Sequence[tuple[str, Sequence[int], Flight]]) -> list[dict[str, Any]]:
        """Return the table; the controls are one row."""
        before, freely = self.atlas.measured(self.images), self.atlas.measured(self._shown(self.free))
        rows = []
        for name in dict.fromkeys(name for name, *_ in flights):
            own = [(held, flight) for known, held, flight in flights if known == name]
            lost = np.mean([~flight.flipped for _, flight in own], axis=0)[self.free.flipped]
            units = [unit for unit, flipped in zip(self.groups, self.free.flipped, strict=True) if flipped]
            needed = _share(lost, units, self.seed)
            row = {"held": name, "needed": needed.value, "low": or_null(needed.low), "high": or_null(needed.high),
                   "images": needed.n, "groups": needed.groups, "drift": None, "drift_free": None}  # fmt: skip
            if name not in {ALL, CONTROL}:
                (place,), flight = own[0]
                after = self.atlas.measured(self._shown(flight))
                row["drift"], row["drift_free"] = (_size(one[:, place] - before[:, place]) for one in (after, freely))
            rows.append(row)
        return rows

    def known(self) -> tuple[float, Interval]:
        """Return what the phenotypes tell of real images' scores, and of the movement to the flip."""
        atlas = self.atlas
        scores = self.scorer(atlas.images)[:, [0]]
        centre = scores.mean(0)
        told = Heads.fit(torch.from_numpy(atlas.values), scores - centre, atlas.groups, seed=self.seed)
        ends = [self.images, self._shown(self.free)]
        measured = [atlas.measured(one) for one in ends]
        moved = np.subtract(*(self.scorer(one)[:, 0] for one in reversed(ends)))
        guessed = [told.predict(torch.from_numpy(np.nan_to_num(one))).numpy()[:, 0] for one in measured]
        whole = np.isfinite(measured[0]).all(1) & np.isfinite(measured[1]).all(1) & self.free.flipped
        missed = np.where(whole, (moved - (guessed[1] - guessed[0])) ** 2, np.nan)
        left = ratio_interval(missed, np.where(whole, moved**2, np.nan), self.groups, seed=self.seed)
        return float(told.r2[0]), Interval(1 - left.value, 1 - left.high, 1 - left.low, left.n, left.groups)


def _share(values: Array | NDArray[np.bool_], groups: Sequence[str], seed: int) -> Interval:
    """Return a share with its interval over groups; where all groups agree, Wilson's with the groups as trials."""
    found = mean_interval(values, groups=groups, bounds=(0.0, 1.0), seed=seed)
    if found.low < found.high or found.groups < 2:
        return found
    bounds = share_interval(round(found.value * found.groups), found.groups)
    return Interval(found.value, min(bounds.low, found.value), max(bounds.high, found.value), found.n, found.groups)


def _size(change: Array) -> float | None:
    known = change[np.isfinite(change)]
    return float(np.abs(known).mean()) if len(known) else None
