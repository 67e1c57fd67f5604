"""Phenotype dose–response: change one measured phenotype of real images, measure it again, and read the model."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from pellucid.errors import ShapeError
from pellucid.interpretation.phenotypes.atlas import HELD, Atlas
from pellucid.interpretation.phenotypes.nulls import RATE, Pulls, null_pulls, pull, step_down
from pellucid.interpretation.phenotypes.ratio import ratio_interval
from pellucid.interpretation.phenotypes.scoring import Scorer
from pellucid.intervals import Interval, or_null, share_interval
from pellucid.models import Model, Passes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DOSES", "DoseResponse", "dose_response"]

Array = NDArray[np.float64]

DOSES = (-2.0, -1.0, 1.0, 2.0)
"""Standard deviations by which phenotypes are changed."""

_MOVED = 0.2
"""Measured standard deviations a nominal one below which a phenotype counts as not moved."""

_COLLINEAR = 0.9
_SLIGHT = 0.25
"""Share of what meaningless directions do under which a slope is too slight to be called a cause, however sure it is."""

_LENGTH = 1.0
"""Mahalanobis length of the moves that are held against meaningless ones."""


@dataclass(frozen=True, eq=False)
class DoseResponse:
    """How the model's score follows each measured phenotype.

    Attributes
    ----------
    table
        One row a phenotype and target: ``phenotype``, ``same`` (those it cannot be told from), ``unit``, ``sd`` (over the
        real images, in the unit), ``target``, ``slope`` with ``low`` and ``high`` (change of the score a measured
        standard deviation), ``null`` (size of slope that 95 % of meaningless directions stay under), ``moved`` (measured
        standard deviations a nominal one), ``held`` (R² in the latents, groups left out), ``p``, ``q``, ``agreeing`` (groups whose
        slope has the same sign), ``groups``, ``images``, ``verdict`` (``moves``, ``not separable``, ``no effect seen``,
        ``not moved``, ``not held``).
    curves
        One row an image, phenotype, target and dose: ``image``, ``group``, ``phenotype``, ``target``, ``dose``, ``value`` (the
        phenotype measured on the generated image, in its unit), ``change`` (in standard deviations) and ``score``.
    responses
        One row a phenotype and measure: what one measured standard deviation of ``phenotype`` brings with it in ``measure``, in
        standard deviations of that, ``value`` with ``low`` and ``high``.
    left_out
        Phenotypes that were not tried, and why.
    unit
        What scores are measured in.
    failed
        Share of generated images without an object to measure.
    """

    table: pa.Table
    curves: pa.Table
    responses: pa.Table
    left_out: Mapping[str, str]
    unit: str
    failed: Interval

    def moving(self) -> list[dict[str, Any]]:
        """Return the rows of phenotypes that move the score, the steepest first."""
        rows = [row for row in self.table.to_pylist() if row["verdict"] in {"moves", "not separable"}]
        return sorted(rows, key=lambda row: -abs(row["slope"]))

    def changed_measures(self) -> dict[str, float]:
        """Return for each phenotype how many measures change with it: 1 is it alone (M38: participation ratio)."""
        found = {}
        for name in dict.fromkeys(self.responses["phenotype"].to_pylist()):
            sizes = np.array(
                [row["value"] for row in self.responses.to_pylist() if row["phenotype"] == name], dtype=float
            )
            squares = sizes[np.isfinite(sizes)] ** 2
            found[name] = float(squares.sum() ** 2 / (squares**2).sum()) if squares.any() else np.nan
        return found

    def plot(self, *, target: str | None = None, most: int = 9) -> "Figure":
        """Draw the curves of the steepest phenotypes with what meaningless directions do."""
        from pellucid.show import plot_dose_response  # noqa: PLC0415  # pictures know results, not the reverse

        return plot_dose_response(self, target=target, most=most)


def dose_response(
    model: Model | Callable[..., Any],
    atlas: Atlas,
    images: Tensor,
    *,
    groups: Sequence[Hashable] | None = None,
    ids: Sequence[str] | None = None,
    targets: Sequence[str | int] | None = None,
    doses: Sequence[float] = DOSES,
    permutations: int = 400,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = False,
) -> DoseResponse:
    """Move each phenotype of real images up and down, measure what came of it, and read the model.

    The slope is the score's change over the phenotype's measured change, both summed over images (doses are the instrument,
    so that noise of the measurement does not flatten it), with a bootstrap over groups. Its p-value holds the score's
    change along the phenotype's way against those along meaningless ways of equal length, learnt from phenotypes dealt out
    to the images of other groups, in rounds (see `step_down`), with Benjamini and Hochberg's q-value over all phenotypes
    and targets.

    Parameters
    ----------
    model
        The explained model.
    atlas
        Where the phenotypes lie.
    images
        Real images ``(N, C, *S)`` to move, best not those that the model was trained on.
    groups, ids
        The independent unit and the name of each image.
    targets
        Classes by name or number; default: the second of two, else all.
    doses
        Standard deviations to move by.
    permutations
        Meaningless directions.
    seed, batch_size, progress
        As everywhere.

    Raises
    ------
    ShapeError
        When groups or ids do not fit.
    CannotExplain
        When the model has no such target.
    """
    names = [f"image {row}" for row in range(len(images))] if ids is None else list(ids)
    units = [str(one) for one in (names if groups is None else groups)]
    if len(names) != len(images) or len(units) != len(images):
        raise ShapeError(f"{len(names)} ids and {len(units)} groups were given for {len(images)} images")
    with Passes(Model.of(model), batch_size=batch_size) as passes:
        scorer = Scorer.of(passes, images, targets)
        run = _Run(atlas, scorer, images.cpu(), atlas.space.encode(images), names, units, tuple(doses), seed)
        moves = [
            run.move(place)
            for place in track(range(len(atlas.names)), "moving phenotypes", disable=not progress, transient=True)
        ]
        ways = [atlas.directions.unit(run.start, place) for place in range(len(moves))]
        own = pull(atlas.space, scorer, run.images, ways, _LENGTH)
        null = null_pulls(
            atlas, scorer, run.images, length=_LENGTH, permutations=permutations,
            random=np.random.default_rng([seed, 1]), progress=progress,
        )  # fmt: skip
    p, q = step_down(own, null, atlas.directions.heads.kernels, atlas.directions.heads.r2 >= HELD)
    rows = [row for place, move in enumerate(moves) for row in run.rows(place, move, own, null)]
    for row, *told in zip(rows, p.ravel(), q.ravel(), strict=True):
        row["p"], row["q"] = (or_null(one) for one in told)
    for row in rows:
        row["verdict"] = _verdict(row)
    _mark_collinear(rows, atlas.names, ways)
    return DoseResponse(
        pa.Table.from_pylist(rows, schema=_TABLE),
        pa.Table.from_pylist([row for place, move in enumerate(moves) for row in run.curve(place, move)]),
        pa.Table.from_pylist([row for place, move in enumerate(moves) for row in run.responses(place, move)]),
        atlas.left_out, scorer.unit, _failures(moves),
    )  # fmt: skip


_TABLE = pa.schema([
    ("phenotype", pa.string()), ("same", pa.string()), ("unit", pa.string()), ("sd", pa.float64()), ("target", pa.string()),
    ("slope", pa.float64()), ("low", pa.float64()), ("high", pa.float64()), ("null", pa.float64()), ("moved", pa.float64()),
    ("moved_low", pa.float64()), ("held", pa.float64()), ("p", pa.float64()), ("q", pa.float64()), ("agreeing", pa.int64()),
    ("groups", pa.int64()), ("images", pa.int64()), ("verdict", pa.string()),
])  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Move:
    """What came of moving one phenotype: ``(N, doses + 1, P)`` measured and ``(N, doses + 1, T)`` scores, dose 0 first."""

    doses: Array
    measured: Array
    scores: Array

    def trends(self, values: Array) -> Array:
        """Return the rise of ``(N, doses, K)`` a nominal standard deviation ``(N, K)``, over the doses that are known."""
        known = np.isfinite(self.measured).all(2) & np.isfinite(self.scores).all(2)
        weight = known / np.maximum(known.sum(1, keepdims=True), 1)
        centred = np.where(known, self.doses - (weight * self.doses).sum(1, keepdims=True), 0.0)
        spread = (centred**2).sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            rise = (centred[:, :, None] * np.where(known[:, :, None], values, 0.0)).sum(1) / spread[:, None]
        rise[spread <= 0] = np.nan
        return np.asarray(rise)


@dataclass(frozen=True, eq=False)
class _Run:
    atlas: Atlas
    scorer: Scorer
    images: Tensor
    start: Tensor
    ids: list[str]
    groups: list[str]
    doses: tuple[float, ...]
    seed: int

    def move(self, place: int) -> _Move:
        """Move one phenotype of every image by every dose; what leaves the range of real images is left out."""
        space, points = self.atlas.space, self.atlas.directions.path(self.start, place, self.doses)
        measured, scores = [self.atlas.measured(self.images)], [self.scorer(self.images)]
        for dose in range(len(self.doses)):
            with torch.no_grad():
                changed = space.moved(self.images, self.start, points[:, dose])
            outside = ~space.inside(self.start, points[:, dose]).numpy()
            for kept, found in ((measured, self.atlas.measured(changed)), (scores, self.scorer(changed))):
                found[outside] = np.nan
                kept.append(found)
        return _Move(np.array([0.0, *self.doses]), np.stack(measured, 1), np.stack(scores, 1))

    def rows(self, place: int, move: _Move, pulls: Pulls, null: Mapping[str, Pulls]) -> list[dict[str, Any]]:
        """Return what the table says of one phenotype, without q and verdict."""
        atlas, heads = self.atlas, self.atlas.directions.heads
        own = move.trends(move.measured)[:, place]
        moved = ratio_interval(own, np.where(np.isfinite(own), 1.0, np.nan), self.groups, seed=self.seed)
        rises = move.trends(move.scores)
        rows = []
        for column, target in enumerate(self.scorer.names):
            slope = ratio_interval(rises[:, column], own, self.groups, seed=self.seed)
            drawn = np.abs(null[heads.kernels[place]].changes[:, :, column].mean(1))
            size = abs(float(pulls.changes[place, :, column].mean()))
            agreeing = self._agreeing(rises[:, column], own, slope.value)
            rows.append({
                "phenotype": atlas.names[place], "same": ", ".join(atlas.clusters[place].others), "unit": atlas.units[place],
                "sd": float(atlas.sd[place]), "target": target, "slope": or_null(slope.value), "low": or_null(slope.low),
                "high": or_null(slope.high), "null": or_null(abs(slope.value) * float(np.quantile(drawn, 0.95)) / max(size, 1e-12)),
                "moved": or_null(moved.value), "moved_low": or_null(moved.low), "held": or_null(float(heads.r2[place])),
                "p": None, "q": None, "agreeing": agreeing, "groups": slope.groups, "images": slope.n,
                "verdict": "",
            })  # fmt: skip
        return rows

    def _agreeing(self, rises: Array, own: Array, slope: float) -> int:
        known = np.isfinite(rises) & np.isfinite(own)
        names = np.array(self.groups)
        signs = [
            np.sign(rises[known & (names == name)].sum() * own[known & (names == name)].sum())
            for name in sorted(set(names[known]))
        ]
        return int(sum(sign == np.sign(slope) for sign in signs))

    def curve(self, place: int, move: _Move) -> list[dict[str, Any]]:
        """Return the measured curve of one phenotype, a row an image, target and dose."""
        atlas = self.atlas
        rows = []
        for row, dose in np.ndindex(len(self.ids), len(move.doses)):
            change = move.measured[row, dose, place]
            for column, target in enumerate(self.scorer.names):
                rows.append({
                    "image": self.ids[row], "group": self.groups[row], "phenotype": atlas.names[place], "target": target,
                    "dose": float(move.doses[dose]), "value": or_null(change * atlas.sd[place] + atlas.mean[place]),
                    "change": or_null(change - move.measured[row, 0, place]), "score": or_null(move.scores[row, dose, column]),
                })  # fmt: skip
        return rows

    def responses(self, place: int, move: _Move) -> list[dict[str, Any]]:
        """Return what else changes when one phenotype does."""
        trends, rows = move.trends(move.measured), []
        for measure, name in enumerate(self.atlas.names):
            found = ratio_interval(trends[:, measure], trends[:, place], self.groups, seed=self.seed)
            rows.append({"phenotype": self.atlas.names[place], "measure": name, "value": or_null(found.value),
                         "low": or_null(found.low), "high": or_null(found.high)})  # fmt: skip
        return rows


def _verdict(row: Mapping[str, Any]) -> str:
    if row["held"] is None or row["held"] < HELD:
        return "not held"
    least = row["moved"] if row["moved_low"] is None else row["moved_low"]
    if row["slope"] is None or least is None or least < _MOVED:
        return "not moved"
    across = row["low"] is not None and row["low"] <= 0 <= row["high"]
    slight = abs(row["slope"]) < _SLIGHT * row["null"]
    return "moves" if row["q"] is not None and row["q"] <= RATE and not (across or slight) else "no effect seen"


def _mark_collinear(rows: list[dict[str, Any]], names: Sequence[str], ways: Sequence[Tensor]) -> None:
    """Say of phenotypes that move the score along the same way that these data cannot separate them."""
    for row in rows:
        place = names.index(row["phenotype"])
        alike = [
            other["phenotype"]
            for other in rows
            if other["target"] == row["target"] and other is not row and other["verdict"] in {"moves", "not separable"}
            and float((ways[place] * ways[names.index(other["phenotype"])]).sum(1).mean().abs()) >= _COLLINEAR
        ]  # fmt: skip
        if row["verdict"] == "moves" and alike:
            row["verdict"] = "not separable"
            row["same"] = ", ".join(filter(None, [row["same"], *alike]))


def _failures(moves: Sequence[_Move]) -> Interval:
    lost = [np.isnan(move.measured).all(2) & np.isfinite(move.scores).all(2) for move in moves]
    made = [np.isfinite(move.scores).all(2) for move in moves]
    total, failed = sum(int(one[:, 1:].sum()) for one in made), sum(int(one[:, 1:].sum()) for one in lost)
    return share_interval(failed, total)
