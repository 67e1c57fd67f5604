"""What the scores say of the methods: which passed the sanity checks, which beat chance, which can be told apart."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pellucid.attribution import METHODS
from pellucid.interpretation.evidence import Evidence
from pellucid.interpretation.finding import Finding
from pellucid.intervals import mean_interval, share_interval

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
               "{method} draws nearly the same map for a model with random weights: it shows the image, not what was learnt.",
               "Similarity of the maps before and after randomising the weights"),
        *_over(evidence, "max_sensitivity", UNSTABLE, "unstable",
               "{method} is unstable here: slight noise changes its map by more than the map's own size.",
               "Largest relative change of the map under slight noise"),
        *_beaten_by_control(evidence),
        *_separability(evidence),
    ]  # fmt: skip


def _performance(evidence: Evidence) -> list[Finding]:
    """Warn where the model is no better than always naming the commonest class."""
    table = evidence.predictions
    if "label" not in table.column_names or not table.num_rows:
        return []
    labels, predicted = table["label"].to_pylist(), table["predicted"].to_pylist()
    right = np.array([label == call for label, call in zip(labels, predicted, strict=True)], dtype=float)
    accuracy = mean_interval(right, groups=evidence.groups(table["image"].to_pylist()), seed=evidence.seed)
    commonest = share_interval(max(labels.count(label) for label in set(labels)), len(labels))
    if accuracy.low > commonest.value:
        return []
    return [Finding(
        id="model-at-chance", kind="gate", subject="model",
        statement="The model is not clearly better than always naming the commonest class: its explanations describe noise.",
        evidence=f"Accuracy {accuracy} on {accuracy.n} images against {commonest.value:.2f} for the commonest class.",
        value=accuracy.value, low=accuracy.low, high=accuracy.high,
    )]  # fmt: skip


def _values(scores: pa.Table, metric: str, method: str) -> tuple[list[str], np.ndarray]:
    base = pc.list_element(pc.split_pattern(scores["metric"], "("), 0)
    rows = scores.filter(
        pc.and_(pc.and_(pc.equal(base, metric), pc.equal(scores["method"], method)), pc.is_valid(scores["value"]))
    )
    return rows["image"].to_pylist(), rows["value"].to_numpy()


def _over(evidence: Evidence, metric: str, limit: float, kind: str, statement: str, measured: str) -> list[Finding]:
    findings = []
    for method in _judged(evidence):
        images, values = _values(evidence.scores, metric, method)
        if not len(values):
            continue
        interval = mean_interval(values, groups=evidence.groups(images), seed=evidence.seed)
        if interval.low > limit:
            findings.append(Finding(
                id=f"{kind}-{method}", kind=kind, subject=method, statement=statement.format(method=method),  # type: ignore[arg-type]
                evidence=f"{measured}: {interval} on {interval.n} images (limit {limit:g}).",
                value=interval.value, low=interval.low, high=interval.high,
            ))  # fmt: skip
    return findings


def _judged(evidence: Evidence) -> list[str]:
    return [text for text in evidence.methods if METHODS.parse(text).taxonomy.family != "control"]


def _overall(evidence: Evidence) -> list[dict[str, Any]]:
    """Return the faithfulness-side standing of every method that is no control, best first."""
    rows = [row for row in evidence.ranking.to_pylist() if row["metric"] == "overall" and row["rank"] is not None]
    return sorted((row for row in rows if row["family"] == "faithfulness-side"), key=lambda row: float(row["rank"]))


def _standing(row: dict[str, Any]) -> str:
    return f"{row['rank']:.1f} [{_spelt(row['low'])}, {_spelt(row['high'])}]"


def _spelt(bound: float | None) -> str:
    return "?" if bound is None else f"{bound:.1f}"


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
            evidence=f"Its mean rank is {_standing(best)} on {best['n']} images; it comes first in "
            f"{100 * (best['p_best'] or 0):.0f} % of resampled image sets.",
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
