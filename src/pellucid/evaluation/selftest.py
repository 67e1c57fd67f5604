"""Metrics tested before they judge: on a linear probe where the truth is known, and on the user's own model.

A metric that cannot tell an exact map from a random one, or whose numbers wander under noise that nobody would notice,
has no vote in a ranking.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from pellucid.attribution import Method
from pellucid.errors import PellucidError, ShapeError
from pellucid.evaluation.evaluate import PANEL, evaluate
from pellucid.evaluation.masks import Masks, Regions
from pellucid.evaluation.metaevaluation import LEAST, Consistency, consistency
from pellucid.evaluation.metric import METRICS, Metric
from pellucid.evaluation.probes import probe
from pellucid.models import Model

__all__ = ["SELF_TEST", "SelfTest", "self_test"]

METHODS = ("gradient", "input_x_gradient", "integrated_gradients(steps=8)")
"""Methods whose scores are watched on the user's model; all need gradients and cost little."""

MOST = 16
"""Images that are enough to tell an exact map from a random one."""

WINS = 0.75
"""Share of images on which the exact map must beat the random ones."""

SELF_TEST = pa.schema(
    [
        pa.field("metric", pa.string(), nullable=False),
        pa.field("family", pa.string(), nullable=False),
        pa.field("definition", pa.string(), nullable=False),
        pa.field("passed", pa.bool_()),
        pa.field("exact", pa.float64()),
        pa.field("random", pa.float64()),
        pa.field("negated", pa.float64()),
        pa.field("wins", pa.float64()),
        pa.field("resilience", pa.float64()),
        pa.field("reactivity", pa.float64()),
        pa.field("consistency", pa.float64()),
        pa.field("images", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ],
    metadata={"pellucid.self_test": "1"},
)


@dataclass(frozen=True, eq=False)
class SelfTest:
    """Which metrics can be believed on this model and these images.

    Attributes
    ----------
    table
        One line a metric. ``exact``, ``random``, ``negated``: its mean on the linear probe; ``wins``: of the
        images on which exact and random differ, the share that exact wins; ``resilience``, ``reactivity``, ``consistency``: the meta-evaluation on the model, 0
        to 1 (null where it could not be done); ``passed``: whether it may vote, null where it gave no score to judge by;
        ``reason``: why not.
    """

    table: pa.Table

    @property
    def passed(self) -> tuple[str, ...]:
        """The metrics that may vote."""
        return tuple(row["metric"] for row in self.table.to_pylist() if row["passed"])

    def says(self, metric: Metric) -> bool | None:
        """Say whether a metric, as it is defined now, passed; None where it was not tested or gave no score."""
        known = {row["definition"]: row["passed"] for row in self.table.to_pylist()}
        return known.get(metric.definition)

    @property
    def failed(self) -> dict[str, str]:
        """The metrics that must not vote, or could not be tested, and why."""
        return {row["metric"]: row["reason"] for row in self.table.to_pylist() if not row["passed"]}

    def __repr__(self) -> str:
        return f"SelfTest({len(self.passed)} of {self.table.num_rows} metrics passed; not: {', '.join(self.failed) or 'none'})"


def self_test(
    model: Model | Callable[..., Any],
    x: Tensor | Sequence[Tensor],
    metrics: Sequence[str | Metric] | None = None,
    *,
    methods: Sequence[str | Method] = METHODS,
    masks: Masks = None,
    regions: Regions = None,
    models: Sequence[Model | Callable[..., Any]] = (),
    seed: int = 0,
    least: float = LEAST,
) -> SelfTest:
    """Test metrics before they judge methods.

    On a linear model of the images' own shape, whose exact explanations are known, exact must beat random on three
    quarters of the images on which they differ, and its negative on average. On the user's model the scores of `methods` must stay put under
    noise that nobody would notice and react to noise that destroys the image.

    Parameters
    ----------
    model
        The user's model.
    x
        The user's images ``(N, C, *S)``, 16 of which are used; a tuple for several inputs.
    metrics
        Texts or values; default: the panel of `evaluate`.
    methods
        Methods whose scores are watched on the user's model, two or more; none leaves that test out.
    masks, regions, models
        As `evaluate` takes them, for metrics that need them; the probe has its own.
    seed
        Of everything random.
    least
        The lowest consistency, from 0 to 1, with which a metric passes; the two halves of the test average to about a
        half for a metric that never moves and for one that only wanders.

    Returns
    -------
    SelfTest
        With one line a metric.

    Raises
    ------
    BadRecipe, ShapeError
        When a metric, method or shape does not fit.

    References
    ----------
    Hedström et al. 2023, The meta-evaluation problem in explainable AI, TMLR.
    """
    model = Model.of(model)
    chosen = [METRICS.parse(metric) for metric in (PANEL if metrics is None else metrics)]
    if not chosen:
        raise ShapeError("there is no metric to test: name at least one")
    inputs = (x,) if isinstance(x, Tensor) else tuple(x)
    rows = np.unique(np.linspace(0, len(inputs[0]) - 1, min(MOST, len(inputs[0]))).astype(int)).tolist()
    kept = tuple(part[rows] for part in inputs)
    more = {"regions": _rows_of(regions, rows, inputs), "models": models, "masks": _masks_of(masks, rows)}
    watched = consistency(model, kept, chosen, methods, more, seed=seed) if len(methods) > 1 else {}
    prepared = model.prepare(kept)
    lines = [_line(metric, _on_probe(metric, prepared, seed), watched, least) for metric in chosen]
    return SelfTest(pa.Table.from_pylist([line | {"images": len(rows)} for line in lines], schema=SELF_TEST))


def _masks_of(masks: Masks, rows: list[int]) -> Masks:
    if masks is None:
        return None
    if isinstance(masks, dict):
        return {name: [given[row] for row in rows] for name, given in masks.items()}
    return [masks[row] for row in rows]  # type: ignore[index]  # a sequence or tensor by now


def _rows_of(regions: Regions, rows: list[int], inputs: tuple[Tensor, ...]) -> Regions:
    per_image = regions is not None and np.ndim(regions) == inputs[0].ndim - 1
    return np.asarray(regions)[rows] if per_image else regions


@dataclass(frozen=True)
class _Seen:
    """Means on the probe by role, the share that exact wins of the images on which the two differ, or why it has none."""

    means: dict[str, float]
    wins: float | None = None
    reason: str = ""


def _on_probe(metric: Metric, inputs: tuple[Tensor, ...], seed: int) -> _Seen:
    try:
        found = probe(metric, inputs, seed)
        x = inputs[0] if len(inputs) == 1 else inputs
        scores = evaluate(found.model, x, found.explanations, metric, seed=seed, **found.more)
    except PellucidError as error:
        return _Seen({}, reason=f"the probe refused: {error}")
    values = np.array([np.nan if value is None else value for value in scores.table["value"].to_pylist()])
    values = values.reshape(len(found.explanations), -1)
    sign = 1.0 if metric.profile.direction == "higher" else -1.0
    roles = np.array(found.roles)
    by_role: dict[str, Any] = {
        role: values[roles == role] for role in ("exact", "random", "negated") if role in found.roles
    }
    known = ~np.isnan(values[(roles == "exact") | (roles == "random")]).any(0)
    if not known.any():
        reasons = [reason for reason in scores.table["reason"].to_pylist() if reason]
        return _Seen({}, reason=f"no score on the probe: {reasons[0]}" if reasons else "no score on the probe")
    ahead = sign * (by_role["exact"].mean(0) - by_role["random"].mean(0))[known]
    means: dict[str, float] = {
        role: float(np.nanmean(part)) for role, part in by_role.items() if not np.isnan(part).all()
    }
    won, lost = (int((side * ahead > metric.profile.resolution).sum()) for side in (1, -1))
    return _Seen(means, wins=won / max(1, won + lost))


def _line(metric: Metric, seen: _Seen, watched: dict[str, Consistency], least: float) -> dict[str, Any]:
    own = watched.get(str(metric))
    passed, reason = _verdict(metric, seen, own, least)
    scored = own if own is not None and own.value is not None else None
    return {
        "metric": str(metric), "family": metric.profile.family, "definition": metric.definition,
        **{role: seen.means.get(role) for role in ("exact", "random", "negated")}, "wins": seen.wins,
        "resilience": scored and scored.resilience, "reactivity": scored and scored.reactivity,
        "consistency": scored and scored.value, "passed": passed, "reason": reason,
    }  # fmt: skip


def _verdict(metric: Metric, seen: _Seen, own: Consistency | None, least: float) -> tuple[bool | None, str]:
    if seen.wins is None:
        return None, seen.reason
    sign = 1.0 if metric.profile.direction == "higher" else -1.0
    if seen.wins < WINS or sign * (seen.means["exact"] - seen.means["random"]) <= 0:
        return False, f"on a linear probe the exact map beats random ones on {seen.wins:.0%} of the images only"
    if "negated" in seen.means and sign * (seen.means["exact"] - seen.means["negated"]) <= 0:
        return False, "on a linear probe the exact map does not beat its negative"
    if own is not None and own.value is not None and own.value < least:
        return False, f"on this model its scores are hardly better than noise: consistency {own.value:.2f}"
    return True, own.reason if own is not None and own.value is None else ""
