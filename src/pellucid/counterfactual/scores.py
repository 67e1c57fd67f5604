"""How good counterfactuals are: each property by itself, on the shown images, never merged into one number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pellucid.counterfactual.guidance import one_input
from pellucid.counterfactual.realism import RandomFilters, grain
from pellucid.counterfactual.result import Counterfactuals
from pellucid.counterfactual.strip import rank_correlation
from pellucid.errors import ShapeError
from pellucid.intervals import Interval, mean_interval, share_interval
from pellucid.models import Model, Passes

__all__ = ["SCORES", "Measured", "score_counterfactuals", "summarise"]

SCORES: Mapping[str, str] = {
    "validity": "whether the model, or another one, gives the target on the image that is shown",
    "proximity": "mean absolute change, in shares of the difference between two real images",
    "sparsity": "share of pixels that change by more than the threshold",
    "identity": "change seen by fixed random filters, in shares of that between two real images",
    "grain": "share of the change between neighbouring pixels: 1 is noise",
    "monotonicity": "rank correlation of dose and score along the path",
    "outside": "share of the path outside what the generator saw",
    "causal_shift": "mean change of the measures that decide, in their spreads over real images",
    "nuisance_drift": "mean change of the measures that do not decide, in their spreads",
    "specificity": "causal shift over nuisance drift",
}
"""What each score is."""

_BOUNDS = {"validity": (0.0, 1.0), "sparsity": (0.0, 1.0), "outside": (0.0, 1.0), "monotonicity": (-1.0, 1.0)}
_FLOOR = 0.01


@dataclass(frozen=True)
class Measured:
    """What was measured of the images and of the shown images, by the same instrument.

    Attributes
    ----------
    names
        Of the measures.
    before, after
        ``(N, M)``; NaN where one could not be measured.
    spread
        ``(M,)`` standard deviation over real images.
    causal
        Names of those that decide the label.
    """

    names: tuple[str, ...]
    before: ArrayLike
    after: ArrayLike
    spread: ArrayLike
    causal: tuple[str, ...]

    def shifts(self) -> NDArray[np.float64]:
        """Return the size of every change ``(N, M)``, in spreads over real images."""
        before, after, spread = (np.asarray(part, dtype=float) for part in (self.before, self.after, self.spread))
        if before.shape != after.shape or before.shape[1:] != (len(self.names),) or spread.shape != (len(self.names),):
            raise ShapeError(
                f"Measured() has {len(self.names)} names, before {before.shape}, after {after.shape}, spread {spread.shape}"
            )
        sizes: NDArray[np.float64] = np.abs(after - before) / np.where(spread > 0, spread, np.nan)
        return sizes

    def parts(self) -> dict[str, NDArray[np.float64]]:
        """Return causal shift, nuisance drift and their ratio, one number an image."""
        sizes = self.shifts()
        decides = np.array([name in self.causal for name in self.names])
        if decides.all() or not decides.any():
            raise ShapeError(f"Measured(causal={self.causal}) needs measures that decide and others, of {self.names}")
        with np.errstate(invalid="ignore"):
            shift, drift = (np.nanmean(sizes[:, chosen], axis=1) for chosen in (decides, ~decides))
        return {"causal_shift": shift, "nuisance_drift": drift, "specificity": shift / np.maximum(drift, _FLOOR)}


def score_counterfactuals(
    found: Counterfactuals,
    *,
    others: Mapping[str, Model] | None = None,
    threshold: float = 0.05,
    measured: Measured | None = None,
    batch_size: int | None = None,
) -> pa.Table:
    """Score counterfactuals, one row an image, score and judging model.

    Images that had reached the target as they were are left out.

    Parameters
    ----------
    found
        What `counterfactual` gave.
    others
        Models by name that judge the shown images too: one trained again, another architecture. What they already held of
        the image as it is does not count: an image that they put at the target before has no row.
    threshold
        What counts as a changed pixel, as a share of its channel's range over the training images.
    measured
        What was measured of the images and of ``found.changed``.

    Returns
    -------
    pyarrow.Table
        Columns image, score, model (``""`` is the explained one), value, threshold (of sparsity).
    """
    rows = [row for row, status in enumerate(found.status) if status != "already there"]
    columns = {"validity": found.flipped.double().numpy()[rows], **_seen(found, rows, threshold)}
    if measured is not None:
        columns |= {name: numbers[rows] for name, numbers in measured.parts().items()}
    table = [
        _row(found.ids[row], score, "", float(values[place]), threshold)
        for score, values in columns.items()
        for place, row in enumerate(rows)
    ]
    for name, model in (others or {}).items():
        before, after = (_reached(found, model, x, batch_size) for x in (found.images, found.changed))
        table += [
            _row(found.ids[row], "validity", name, float(after[row]), threshold)
            for row in rows
            if not bool(before[row])
        ]
    schema = [
        ("image", pa.string()),
        ("score", pa.string()),
        ("model", pa.string()),
        ("value", pa.float64()),
        ("threshold", pa.float64()),
    ]
    return pa.Table.from_pylist(table, schema=pa.schema(schema))


def _row(image: str, score: str, model: str, value: float, threshold: float) -> dict[str, Any]:
    told = None if np.isnan(value) else value
    return {
        "image": image,
        "score": score,
        "model": model,
        "value": told,
        "threshold": threshold if score == "sparsity" else None,
    }


def _seen(found: Counterfactuals, rows: Sequence[int], threshold: float) -> dict[str, NDArray[np.float64]]:
    """Return what can be said of the shown images without any model or measure."""
    support, change = found.gate.support, (found.changed - found.images)[list(rows)].cpu()
    reach = threshold * (support.high - support.low).cpu()
    eye = RandomFilters(support.low, support.high)
    before, after = (eye(x[list(rows)]) for x in (found.images, found.changed))
    real = eye(found.images)
    typical = (real - real.roll(max(1, len(real) // 2), 0)).norm(dim=1).median().clamp(min=1e-12)
    parts: dict[str, Tensor] = {
        "proximity": change.abs().flatten(1).mean(1) / support.typical_difference,
        "sparsity": (change.abs() > reach).any(1).flatten(1).double().mean(1),
        "identity": (after - before).norm(dim=1) / typical,
        "grain": grain(change),
        "monotonicity": (rank_correlation(found.doses, found.scores) * found.aim.direction.cpu())[list(rows)],
        "outside": (found.strain > 1).double().mean(1)[list(rows)],
    }
    return {name: part.double().numpy() for name, part in parts.items()}


def _reached(found: Counterfactuals, model: Model, x: Tensor, batch_size: int | None) -> Tensor:
    """Say for which images another model gives the target."""
    rows = torch.arange(len(x))
    with Passes(model, batch_size=batch_size) as passes:
        scores = passes.scores((one_input(model, x),), found.aim.read, rows)
    return found.aim.reached(scores.cpu(), rows)


def summarise(
    table: pa.Table, *, groups: Mapping[str, str] | None = None, seed: int = 0
) -> dict[tuple[str, str], Interval]:
    """Return the mean of every score and judging model with its interval; validity as a share of images.

    Parameters
    ----------
    table
        What `score_counterfactuals` gave.
    groups
        The independent unit of each image, by id.
    """
    kept: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for row in table.to_pylist():
        if row["value"] is not None:
            kept.setdefault((row["score"], row["model"]), []).append((row["image"], row["value"]))
    return {key: _interval(key[0], pairs, groups, seed) for key, pairs in kept.items()}


def _interval(score: str, pairs: list[tuple[str, float]], groups: Mapping[str, str] | None, seed: int) -> Interval:
    values = [value for _, value in pairs]
    if score == "validity" and groups is None:
        return share_interval(int(sum(values)), len(values))
    units = None if groups is None else [groups.get(image, image) for image, _ in pairs]
    return mean_interval(values, groups=units, bounds=_BOUNDS.get(score, (0.0, np.inf)), seed=seed)
