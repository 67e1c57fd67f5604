"""The confounder court: whether the model's way to another answer runs along the batch's way, and what the two share."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.errors import CannotExplain, ShapeError
from pellucid.interpretation.phenotypes.atlas import Atlas
from pellucid.interpretation.phenotypes.directions import Directions
from pellucid.interpretation.phenotypes.flights import Flyer
from pellucid.interpretation.phenotypes.heads import Heads
from pellucid.interpretation.phenotypes.nulls import RATE, dealt, pull
from pellucid.interpretation.phenotypes.scoring import Scorer
from pellucid.intervals import Interval, mean_interval, or_null
from pellucid.models import Model, Passes

__all__ = ["APART", "Court", "court"]

Array = NDArray[np.float64]

APART = 0.05
"""Share of a batch's variation that classes must leave, or the two cannot be told apart."""

_READ = 0.1
"""R² on groups left out from which a batch leaves a trace; two batches are two numbers, of which little is told when they overlap."""

_LENGTH = 1.0
_CHANGED = 0.2
"""Measured standard deviations from which a phenotype counts as changed."""

_DEALT = 200
_PULLED = 60


@dataclass(frozen=True, eq=False)
class Court:
    """What the model's counterfactuals have in common with a batch.

    Attributes
    ----------
    table
        One row a batch: ``batch``, ``left`` (share of its variation that classes leave), ``readable`` (R² of the batch in the
        latents, within classes, groups left out), ``overlap`` with ``low`` and ``high`` (cosine between the way from an
        image to its flip and the batch's way), ``null`` (95 % of batches dealt to other groups stay under it), ``p``,
        ``pull`` with ``pull_low`` and ``pull_high`` (change of the score a unit of length along the batch's way), ``pull_p``,
        ``shared`` (phenotypes that change along both), ``verdict`` (``shared``, ``apart``, ``not readable``, ``not
        separable by association``).
    profiles
        One row a phenotype and way: ``phenotype``, ``way`` (``the model's`` or a batch's name), ``change`` with ``low`` and
        ``high``, measured standard deviations a unit of length.
    """

    table: pa.Table
    profiles: pa.Table

    @property
    def verdict(self) -> str:
        """The gravest of the batches' verdicts."""
        found = self.table["verdict"].to_pylist()
        return next(one for one in ("not separable by association", "shared", "apart", "not readable") if one in found)


def court(
    model: Model | Callable[..., Any],
    atlas: Atlas,
    images: Tensor,
    *,
    classes: Sequence[Hashable],
    batches: Sequence[Hashable],
    groups: Sequence[Hashable] | None = None,
    target: str | int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Court:
    """Hold the model's counterfactual direction against that of a batch, within classes.

    The batch's way is learnt as a phenotype's is, from what is left of it when every class's share in it is taken out;
    where nothing is left, each class is its own batch and no association can separate the two: the verdict says so, and
    only edits of regions can go on.

    Parameters
    ----------
    model, groups, seed, batch_size
        As for `dose_response`.
    atlas
        Where the phenotypes lie.
    images
        Images to flip, not those of the atlas.
    classes, batches
        Of the images that the atlas was learnt from: class and batch (plate, scanner, stain) of each.
    target
        As for `necessity`.

    Raises
    ------
    ShapeError
        When classes and batches do not fit the atlas's images.
    CannotExplain
        When there is one batch only, or no image flips.
    """
    known = len(atlas.groups)
    if len(classes) != known or len(batches) != known:
        raise ShapeError(f"{len(classes)} classes and {len(batches)} batches were given for the atlas's {known} images")
    names = sorted({str(one) for one in batches})
    if len(names) < 2:
        raise CannotExplain("all images are of one batch, so nothing can be held against it")
    kept = names[1:] if len(names) == 2 else names
    own = np.array([[str(one) == name for name in kept] for one in batches], dtype=float)
    within = own - _by_class(own, classes)
    left = (within**2).sum(0) / np.maximum(((own - own.mean(0)) ** 2).sum(0), 1e-12)
    if (left < APART).any():
        rows = [_row(name, share, "not separable by association") for name, share in zip(kept, left, strict=True)]
        return Court(pa.Table.from_pylist(rows, schema=_TABLE), pa.Table.from_pylist([], schema=_PROFILES))
    with Passes(Model.of(model), batch_size=batch_size) as passes:
        scorer = Scorer.of(passes, images, None if target is None else [target])
        units = [str(one) for one in (range(len(images)) if groups is None else groups)]
        trial = _Trial.of(atlas, scorer, images.cpu(), units, seed)
        heads = Heads.fit(
            atlas.directions.heads.points, within / within.std(0), atlas.groups, marks=atlas.space.marks, seed=seed
        )
        rows, profiles = [], trial.profile("the model's", trial.ways)
        for place, name in enumerate(kept):
            row, profile = trial.judged(name, float(left[place]), heads.columns([place]), within[:, place], profiles)
            rows.append(row)
            profiles += profile
    return Court(pa.Table.from_pylist(rows, schema=_TABLE), pa.Table.from_pylist(profiles, schema=_PROFILES))


_TABLE = pa.schema([
    ("batch", pa.string()), ("left", pa.float64()), ("readable", pa.float64()), ("overlap", pa.float64()), ("low", pa.float64()),
    ("high", pa.float64()), ("null", pa.float64()), ("p", pa.float64()), ("pull", pa.float64()), ("pull_low", pa.float64()),
    ("pull_high", pa.float64()), ("pull_p", pa.float64()), ("shared", pa.string()), ("images", pa.int64()),
    ("groups", pa.int64()), ("verdict", pa.string()),
])  # fmt: skip

_PROFILES = pa.schema([
    ("phenotype", pa.string()), ("way", pa.string()), ("change", pa.float64()), ("low", pa.float64()), ("high", pa.float64()),
])  # fmt: skip


def _row(batch: str, left: float, verdict: str, **more: Any) -> dict[str, Any]:
    return dict.fromkeys(_TABLE.names) | {"batch": batch, "left": float(left), "shared": "", "verdict": verdict} | more


def _by_class(values: Array, classes: Sequence[Hashable]) -> Array:
    """Return each row's class mean."""
    places = np.unique([str(one) for one in classes], return_inverse=True)[1]
    means = np.stack([values[places == place].mean(0) for place in range(int(places.max()) + 1)])
    return np.asarray(means[places])


@dataclass(frozen=True, eq=False)
class _Trial:
    """The images that flip, the unit ways to their flips (towards the target class), and what is asked of them."""

    atlas: Atlas
    scorer: Scorer
    images: Tensor
    start: Tensor
    ways: Tensor
    groups: list[str]
    seed: int

    @classmethod
    def of(cls, atlas: Atlas, scorer: Scorer, images: Tensor, groups: list[str], seed: int) -> "_Trial":
        flight = Flyer.of(atlas, scorer, images, seed=seed).fly()
        if not flight.flipped.any():
            raise CannotExplain("no image flips within reach of real images, so the model has no way to compare")
        rows = torch.from_numpy(flight.flipped)
        start = atlas.space.encode(images[rows])
        sign = -np.sign(scorer(images[rows])[:, 0])
        step = (flight.points[rows] - start) * torch.from_numpy(sign)[:, None]
        units = [unit for unit, flipped in zip(groups, flight.flipped, strict=True) if flipped]
        return cls(atlas, scorer, images[rows], start, step / step.norm(dim=1, keepdim=True), units, seed)

    def judged(
        self, name: str, left: float, heads: Heads, values: Array, model: Sequence[dict[str, Any]]
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the row of one batch and its phenotypes."""
        if heads.r2[0] < _READ:
            return _row(name, left, "not readable", readable=float(heads.r2[0]), images=len(self.images)), []
        way, random = Directions(heads, "free").unit(self.start, 0), np.random.default_rng([self.seed, 3])
        dealt_out = np.stack([values[dealt(self.atlas.groups, random)] for _ in range(_DEALT)], 1)
        null = Directions(heads.refitted(dealt_out / values.std(), heads.kernels[0], heads.penalties[0]), "free")
        drawn = [null.unit(self.start, turn) for turn in range(_DEALT)]
        overlap = self._mean((way * self.ways).sum(1).numpy(), (-1.0, 1.0))
        cosines = np.abs([float((one * self.ways).sum(1).mean()) for one in drawn])
        pulls = pull(self.atlas.space, self.scorer, self.images, [way, *drawn[:_PULLED]], _LENGTH).changes[:, :, 0]
        pulled, moved = self._mean(pulls[0], (-np.inf, np.inf)), np.abs(pulls[1:].mean(1))
        profile = self.profile(name, way)
        shared = _shared(model, profile)
        p, pull_p = _p(abs(overlap.value), cosines), _p(abs(pulled.value), moved)
        alike = p <= RATE and not (overlap.low is not None and overlap.low <= 0 <= overlap.high)
        return _row(
            name, left, "shared" if alike or pull_p <= RATE else "apart", readable=float(heads.r2[0]), overlap=overlap.value,
            low=or_null(overlap.low), high=or_null(overlap.high), null=float(np.quantile(cosines, 0.95)), p=p, pull=pulled.value,
            pull_low=or_null(pulled.low), pull_high=or_null(pulled.high), pull_p=pull_p, shared=", ".join(shared),
            images=overlap.n, groups=overlap.groups,
        ), profile  # fmt: skip

    def profile(self, name: str, ways: Tensor) -> list[dict[str, Any]]:
        """Return how each phenotype, measured again, changes a unit of length along ways."""
        space = self.atlas.space
        with torch.no_grad():
            ends = [
                self.atlas.measured(space.moved(self.images, self.start, self.start + sign * _LENGTH * ways))
                for sign in (1.0, -1.0)
            ]
        changes, rows = (ends[0] - ends[1]) / (2 * _LENGTH), []
        for place, phenotype in enumerate(self.atlas.names):
            known = np.isfinite(changes[:, place])
            units = [unit for unit, one in zip(self.groups, known, strict=True) if one]
            found = mean_interval(changes[known, place], groups=units, seed=self.seed)
            rows.append({"phenotype": phenotype, "way": name, "change": or_null(found.value), "low": or_null(found.low),
                         "high": or_null(found.high)})  # fmt: skip
        return rows

    def _mean(self, values: Array, bounds: tuple[float, float]) -> Interval:
        return mean_interval(values, groups=self.groups, bounds=bounds, seed=self.seed)


def _p(size: float, drawn: Array) -> float:
    return float((1 + (drawn >= size).sum()) / (1 + len(drawn)))


def _shared(model: Sequence[dict[str, Any]], batch: Sequence[dict[str, Any]]) -> list[str]:
    """Return the phenotypes that surely change along both ways."""
    return [
        own["phenotype"]
        for own, other in zip(model, batch, strict=False)
        if own["way"] == "the model's" and _changed(own) and _changed(other)
    ]


def _changed(row: dict[str, Any]) -> bool:
    if row["change"] is None or abs(row["change"]) < _CHANGED:
        return False
    return row["low"] is None or not row["low"] <= 0 <= row["high"]
