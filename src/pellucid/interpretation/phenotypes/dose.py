"""Phenotype dose–response: change one measured phenotype of real images, measure it again, and read the model."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike
from rich.progress import track
from torch import Tensor

from pellucid.interpretation.phenotypes.atlas import Atlas
from pellucid.interpretation.phenotypes.calls import CALLED, UNSPECIFIC, Caller
from pellucid.interpretation.phenotypes.moving import Mover, unmeasured
from pellucid.interpretation.phenotypes.scoring import Scorer
from pellucid.intervals import Interval
from pellucid.models import Model, Passes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DOSES", "DoseResponse", "dose_response", "participation"]

DOSES = (-2.0, -1.0, 1.0, 2.0)
"""Standard deviations by which phenotypes are changed."""


@dataclass(frozen=True, eq=False)
class DoseResponse:
    """How the model's score follows each measured phenotype.

    Attributes
    ----------
    table
        One row a phenotype and target: ``phenotype``, ``same`` (those it cannot be told from), ``unit``, ``sd`` (over the
        real images, in the unit), ``target``, ``spread`` (standard deviation of the score over the moved images), ``slope`` with ``low`` and ``high`` (change of the score a measured
        standard deviation), ``null`` (size of slope that 95 % of permuted phenotypes stay under), ``alone`` (slope along the
        phenotype's own pattern, others left free), ``moved`` (measured standard deviations a nominal one), ``held`` (R² in the latents, groups left out), ``p``, ``q``, ``agreeing`` (groups whose
        slope has the same sign), ``groups``, ``images``, ``verdict`` (``moves``, ``not separable``, ``with others held``,
        ``no more than any way``, ``no effect seen``, ``not moved``, ``not held``).
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
        """Return the rows of phenotypes that move the score, first the one that passes permuted phenotypes farthest.

        Slopes alone are no order: that of a phenotype which the generator moves but little is large by that.
        """
        return self._steepest([row for row in self.table.to_pylist() if row["verdict"] in CALLED])

    def unspecific(self) -> list[dict[str, Any]]:
        """Return the rows of phenotypes that the score follows, yet no more than arbitrary ways; in the order of `moving`."""
        return self._steepest([row for row in self.table.to_pylist() if row["verdict"] == UNSPECIFIC])

    @staticmethod
    def _steepest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return sorted(rows, key=lambda row: -abs(row["slope"]) / max(row["null"], 1e-12))

    def changed_measures(self) -> dict[str, float]:
        """Return for each phenotype how many measures change with it: 1 is it alone (M38: participation ratio)."""
        found = {}
        for name in dict.fromkeys(self.responses["phenotype"].to_pylist()):
            sizes = np.array(
                [row["value"] for row in self.responses.to_pylist() if row["phenotype"] == name], dtype=float
            )
            found[name] = participation(sizes)
        return found

    def plot(self, *, target: str | None = None, most: int = 9) -> "Figure":
        """Draw the curves of the steepest phenotypes with what meaningless directions do."""
        from pellucid.show import plot_dose_response  # noqa: PLC0415  # pictures know results, not the reverse

        return plot_dose_response(self, target=target, most=most)


def participation(sizes: ArrayLike) -> float:
    """Return how many of some measures change, by the sizes of their changes: 1 is one alone; NaN where none does."""
    known = np.asarray(sizes, dtype=float)
    squares = known[np.isfinite(known)] ** 2
    return float(squares.sum() ** 2 / (squares**2).sum()) if squares.any() else np.nan


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
    with Passes(Model.of(model), batch_size=batch_size) as passes:
        scorer = Scorer.of(passes, images, targets)
        mover = Mover.of(atlas, scorer, images, ids=ids, groups=groups, doses=doses, seed=seed)
        turns = track(range(len(atlas.names)), "moving phenotypes", disable=not progress, transient=True)
        moves = [mover.move(place) for place in turns]
        caller = Caller.of(mover, permutations=permutations, random=np.random.default_rng([seed, 1]), progress=progress)
    return DoseResponse(
        pa.Table.from_pylist(caller.rows(moves), schema=_TABLE),
        pa.Table.from_pylist([row for place, move in enumerate(moves) for row in mover.curve(place, move)]),
        pa.Table.from_pylist([row for place, move in enumerate(moves) for row in mover.responses(place, move)]),
        atlas.left_out, scorer.unit, unmeasured(moves),
    )  # fmt: skip


_TABLE = pa.schema([
    ("phenotype", pa.string()), ("same", pa.string()), ("unit", pa.string()), ("sd", pa.float64()), ("target", pa.string()),
    ("spread", pa.float64()), ("slope", pa.float64()), ("low", pa.float64()), ("high", pa.float64()), ("null", pa.float64()),
    ("alone", pa.float64()), ("moved", pa.float64()),
    ("moved_low", pa.float64()), ("held", pa.float64()), ("p", pa.float64()), ("q", pa.float64()), ("agreeing", pa.int64()),
    ("groups", pa.int64()), ("images", pa.int64()), ("verdict", pa.string()),
])  # fmt: skip
