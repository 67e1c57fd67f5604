"""What the scores say of the methods: which passed the sanity checks, which beat chance, which can be told apart."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pellucid.interpretation.evidence import Evidence
from pellucid.interpretation.finding import Finding, Kind
from pellucid.intervals import mean_interval

__all__ = ["find_trust"]

INSENSITIVE = 0.5
"""A map whose similarity to that of a randomised model lies above this does not depend on what was learnt."""

UNSTABLE = 1.0
"""A map that changes by more than its own norm under slight noise is unstable."""


def find_trust(evidence: Evidence) -> list[Finding]:
    """Turn performance, scores and ranking into statements about model and methods."""
    return [
        *_performance(evidence),
        *_over(evidence, "parameter_randomisation", INSENSITIVE, "failed_sanity",
               "{method} draws much the same map when the model's weights are randomised: it shows the image more than what "
               "was learnt.",
               "Rank correlation of the maps before and after randomising the weights"),
        *_over(evidence, "max_sensitivity", UNSTABLE, "unstable",
               "{method} is unstable here: slight noise changes its map by more than the map's own size.",
               "Largest relative change of the map under slight noise"),
        *_beaten_by_control(evidence),
        *_separability(evidence),
    ]  # fmt: skip


def _performance(evidence: Evidence) -> list[Finding]:
    """Warn where the model is no better than always naming the commonest class."""
    labelled = evidence.predictions.filter(pc.is_valid(evidence.predictions["label"]))
    if not labelled.num_rows:
        return []
    labels, groups = labelled["label"].to_pylist(), evidence.groups(labelled["image"].to_pylist())
    right = np.array(pc.equal(labelled["label"], labelled["predicted"]).to_pylist(), dtype=float)
    accuracy = mean_interval(right, groups=groups, bounds=(0.0, 1.0), seed=evidence.seed)
    commonest = max(labels.count(label) for label in set(labels)) / len(labels)
    level = accuracy.value if np.isnan(accuracy.low) else accuracy.low
    if level > commonest:
        return []
    return [Finding(
        id="model-at-chance", kind="gate", subject="model",
        statement="The model is not clearly better than always naming the commonest class: its explanations may describe noise.",
        evidence=f"Accuracy {accuracy} on {accuracy.n} images against {commonest:.2f} for the commonest class.",
        value=accuracy.value, low=accuracy.low, high=accuracy.high,
    )]  # fmt: skip


def _values(scores: pa.Table, metric: str, method: str) -> tuple[list[str], NDArray[np.float64]]:
    """Return one value an image: the mean over the settings under which the metric was used."""
    base = pc.list_element(pc.split_pattern(scores["metric"], "("), 0)
    rows = scores.filter(
        pc.and_(pc.and_(pc.equal(base, metric), pc.equal(scores["method"], method)), pc.is_valid(scores["value"]))
    )
    means = rows.group_by("image", use_threads=False).aggregate([("value", "mean")])
    return means["image"].to_pylist(), means["value_mean"].to_numpy()


def _over(evidence: Evidence, metric: str, limit: float, kind: Kind, statement: str, measured: str) -> list[Finding]:
    findings = []
    for method in evidence.judged:
        images, values = _values(evidence.scores, metric, method)
        interval = mean_interval(values, groups=evidence.groups(images), seed=evidence.seed)
        if interval.low > limit:
            findings.append(Finding(
                id=f"{kind}-{method}", kind=kind, subject=method, statement=statement.format(method=method),
                evidence=f"{measured}: {interval} on {interval.n} images (limit {limit:g}).",
                value=interval.value, low=interval.low, high=interval.high,
            ))  # fmt: skip
    return findings


def _overall(evidence: Evidence) -> list[dict[str, Any]]:
    """Return the faithfulness-side standing of every method that is no control, best first."""
    rows = [row for row in evidence.ranking.to_pylist() if row["metric"] == "overall" and row["rank"] is not None]
    return sorted((row for row in rows if row["family"] == "faithfulness-side"), key=lambda row: float(row["rank"]))


def _standing(row: dict[str, Any]) -> str:
    return f"{row['rank']:.1f} [{_spelt(row['low'])}, {_spelt(row['high'])}]"


def _spelt(bound: float | None) -> str:
    return "?" if bound is None else f"{bound:.1f}"


def _first(share: float | None) -> str:
    return "" if share is None else f"; it comes first in {100 * share:.0f} % of resampled image sets"


def _beaten_by_control(evidence: Evidence) -> list[Finding]:
    rows = _overall(evidence)
    control = next((_standing(row) for row in rows if row["method"] == "random_map"), "")
    return [
        Finding(
            id=f"below_control-{row['method']}",
            kind="below_control",
            subject=row["method"],
            statement=f"{row['method']} is not shown to be better than a map of random numbers on these images.",
            evidence=f"Mean faithfulness-side rank {_standing(row)} against {control} of the random map (1 is best).",
            value=row["rank"],
            low=row["low"],
            high=row["high"],
        )
        for row in rows
        if row["below_control"] and not row["control"]
    ]


def _separability(evidence: Evidence) -> list[Finding]:
    rows = [row for row in _overall(evidence) if not row["control"]]
    if not rows:
        return []
    if all(row["below_control"] for row in rows):
        return [_nothing_separable(rows)]
    best, *others = rows
    level = [row["method"] for row in others if row["tied_with_best"]]
    if not level:
        return []
    return [
        Finding(
            id="inseparable",
            kind="inseparable",
            subject=best["method"],
            statement=f"{best['method']} ranks first on the faithfulness side, but cannot be told apart from "
            f"{', '.join(level)} on these images.",
            evidence=f"Its mean rank is {_standing(best)} on {best['n']} images{_first(best['p_best'])}.",
            value=best["p_best"],
        )
    ]


def _nothing_separable(rows: list[dict[str, Any]]) -> Finding:
    return Finding(
        id="inseparable",
        kind="inseparable",
        subject="all methods",
        statement="No method is separable from a map of random numbers here: the maps support no statement.",
        evidence=f"The best, {rows[0]['method']}, has mean rank {_standing(rows[0])} on {rows[0]['n']} images.",
        verdict="undecided",
    )
