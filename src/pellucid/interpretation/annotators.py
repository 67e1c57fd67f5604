"""Several experts: how far they agree, and what the best of maps could score, since no map agrees with all of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pellucid.attribution import Explanation
from pellucid.evaluation import METRICS, annotator_agreement, evaluate
from pellucid.interpretation.evidence import Evidence
from pellucid.interpretation.finding import Finding
from pellucid.intervals import Interval, mean_interval, or_null

__all__ = ["CEILINGS", "find_annotators"]

CEILINGS = pa.schema(
    [
        pa.field("metric", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("n", pa.int64(), nullable=False),
    ]
)
"""One line a metric: the mean score of one expert's mask, taken as a map, against the masks of the others."""


def find_annotators(
    evidence: Evidence, masks: Sequence[str], metrics: Sequence[str]
) -> tuple[list[Finding], dict[str, pa.Table]]:
    """Compare the experts with each other on the explained images.

    Parameters
    ----------
    evidence
        The explained images.
    masks
        Names of the experts' masks; fewer than two give nothing.
    metrics
        Texts of the study's metrics; those of localisation have a ceiling.

    Returns
    -------
    findings
        One of kind ``annotators``, or none.
    tables
        ``annotators``, columns of `ANNOTATORS`, and ``ceilings``, columns of `CEILINGS`.
    """
    drawn = {name: evidence.images.mask(name, evidence.ids) for name in masks}
    if len(drawn) < 2 or not evidence.ids:
        return [], {}
    agreed = annotator_agreement(drawn, ids=evidence.ids)
    lines = [line for line in agreed.to_pylist() if line["dice"] is not None]
    if not lines:
        return [], {}
    dice, kappa = (_over_images(evidence, lines, name) for name in ("dice", "kappa"))
    ceilings = _ceilings(evidence, drawn, metrics)
    finding = Finding(
        id="annotators", kind="annotators", subject=", ".join(masks),
        statement=f"The {len(drawn)} annotators agree with each other to a Dice of {dice.value:.2f}: no map can be asked to "
        "agree with them better.",
        evidence=f"Mean over pairs and {dice.n} images: Dice {dice}, Cohen's kappa {kappa}. Scores against the masks are "
        "means over the annotators.",
        value=dice.value, low=or_null(dice.low), high=or_null(dice.high),
    )  # fmt: skip
    return [finding], {"annotators": agreed, "ceilings": ceilings}


def _over_images(evidence: Evidence, lines: Sequence[dict[str, Any]], name: str) -> Interval:
    told: dict[str, list[float]] = {}
    for line in lines:
        if line[name] is not None:
            told.setdefault(line["image"], []).append(line[name])
    means = [float(np.mean(values)) for values in told.values()]
    return mean_interval(means, groups=evidence.groups(list(told)), bounds=(-1.0, 1.0), seed=evidence.seed)


def _ceilings(evidence: Evidence, drawn: Mapping[str, Sequence[Tensor | None]], metrics: Sequence[str]) -> pa.Table:
    """Score every expert's masks as maps against the others', image by image."""
    wanted = [metric for metric in metrics if METRICS.parse(metric).profile.family == "localisation"]
    whole = [row for row in range(len(evidence.ids)) if all(masks[row] is not None for masks in drawn.values())]
    if not wanted or not whole:
        return CEILINGS.empty_table()
    ids = [evidence.ids[row] for row in whole]
    x = evidence.images.tensor(ids)
    parts = [_against(evidence, ids, x, {who: [masks[row] for row in whole] for who, masks in drawn.items()}, name, wanted)
             for name in drawn]  # fmt: skip
    rows = pa.concat_tables(parts).to_pylist()
    return pa.Table.from_pylist(
        [line for metric in wanted if (line := _ceiling(evidence, rows, metric))], schema=CEILINGS
    )


def _against(
    evidence: Evidence,
    ids: list[str],
    x: Tensor,
    drawn: Mapping[str, Sequence[Tensor | None]],
    name: str,
    metrics: list[str],
) -> pa.Table:
    maps = torch.stack([mask for mask in drawn[name] if mask is not None]).float()[:, None]
    others = {who: masks for who, masks in drawn.items() if who != name}
    known = Explanation.from_values(maps, evidence.model, x, name=name, ids=ids)
    scores = evaluate(
        evidence.model, x, known, metrics, others, ids=ids, seed=evidence.seed, batch_size=evidence.batch_size
    )
    return scores.table


def _ceiling(evidence: Evidence, rows: Sequence[dict[str, Any]], metric: str) -> dict[str, object] | None:
    """Return the mean over experts, then over images."""
    told: dict[str, list[float]] = {}
    for row in rows:
        if row["metric"] == metric and row["value"] is not None:
            told.setdefault(row["image"], []).append(row["value"])
    if not told:
        return None
    found = mean_interval(
        [float(np.mean(values)) for values in told.values()], groups=evidence.groups(list(told)), seed=evidence.seed
    )
    return {
        "metric": metric,
        "value": found.value,
        "low": or_null(found.low),
        "high": or_null(found.high),
        "n": found.n,
    }
