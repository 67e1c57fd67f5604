"""What the scores say of the methods: which passed the sanity checks, which beat chance, which can be told apart."""

from typing import Any

import numpy as np
import pyarrow.compute as pc

from pellucid.evaluation.ranking.sides import SIDES
from pellucid.interpretation.checks import INSENSITIVE, NAMED, SIDE, UNSTABLE, check_methods, overall
from pellucid.interpretation.evidence import Evidence
from pellucid.interpretation.finding import Finding, Kind
from pellucid.intervals import mean_interval

__all__ = ["find_trust"]

_FAILURES: dict[str, tuple[Kind, float, str, str]] = {
    "randomisation": (
        "failed_sanity", INSENSITIVE,
        "{method} draws much the same map when the model's weights are randomised: it shows the image more than what was learnt.",
        "Rank correlation of the maps before and after randomising the weights",
    ),
    "noise": (
        "unstable", UNSTABLE, "{method} is unstable here: slight noise changes its map by more than the map's own size.",
        "Largest relative change of the map under slight noise",
    ),
}  # fmt: skip
"""Checks whose failure is a finding: its kind, the limit, what it means and what was measured."""


def find_trust(evidence: Evidence) -> list[Finding]:
    """Turn performance, scores and ranking into statements about model and methods."""
    return [
        *_performance(evidence),
        *_metrics_failed(evidence),
        *_failed(evidence),
        *_below_control(evidence),
        *_separability(evidence),
    ]


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


def _failed(evidence: Evidence) -> list[Finding]:
    """Name the methods that fail a check of their own scores."""
    judged = check_methods(
        evidence.scores, evidence.ranking, evidence.judged, groups=evidence.groups, seed=evidence.seed
    )
    return [
        Finding(
            id=f"{kind}-{one.method}",
            kind=kind,
            subject=one.method,
            statement=statement.format(method=one.method),
            evidence=f"{measured}: {found} on {found.n} images (limit {limit:g}).",
            value=found.value,
            low=found.low,
            high=found.high,
        )
        for name, (kind, limit, statement, measured) in _FAILURES.items()
        for one in judged
        if (check := one.check(name)) is not None and check.word == "failed" and (found := check.found) is not None
    ]


def _metrics_failed(evidence: Evidence) -> list[Finding]:
    """Name the metrics that failed their own test and have no say."""
    return [
        Finding(
            id=f"metric_failed-{metric}",
            kind="metric_failed",
            subject=metric,
            statement=f"{metric} failed its own test on this model and has no say in the overall ranking.",
            evidence=f"{reason[:1].upper()}{reason[1:]}.",
        )
        for metric, reason in evidence.left_out.items()
    ]


def _standing(row: dict[str, Any]) -> str:
    return f"{row['rank']:.1f} [{_spelt(row['low'])}, {_spelt(row['high'])}]"


def _spelt(bound: float | None) -> str:
    return "?" if bound is None else f"{bound:.1f}"


def _first(share: float | None) -> str:
    return "" if share is None else f"; it comes first in {100 * share:.0f} % of resampled image sets"


def _below_control(evidence: Evidence) -> list[Finding]:
    """Name every method that is not shown to beat a control, and the control."""
    rows = overall(evidence.ranking, SIDE)
    ranks = {row["method"]: _standing(row) for row in rows if row["control"]}
    return [
        Finding(
            id=f"below_control-{row['method']}",
            kind="below_control",
            subject=row["method"],
            statement=f"{row['method']} is not shown to be better than {' or '.join(NAMED.get(name, name) for name in unbeaten)} "
            "on these images.",
            evidence=f"Mean faithfulness-side rank {_standing(row)} against {_against(unbeaten, ranks)} (1 is best).",
            value=row["rank"],
            low=row["low"],
            high=row["high"],
        )
        for row in rows
        if not row["control"] and (unbeaten := _unbeaten(row))
    ]


def _against(controls: list[str], ranks: dict[str, str]) -> str:
    told = [f"{ranks[name]} of the {name.replace('_', ' ')}" for name in controls if name in ranks]
    return " and ".join(told)


def _unbeaten(row: dict[str, Any]) -> list[str]:
    """Return the controls that a method is not shown to beat."""
    return list(row["unbeaten"] or (["random_map"] if row["below_control"] else []))


def _separability(evidence: Evidence) -> list[Finding]:
    found = [_nothing_separable(side, rows) for side in SIDES if (rows := _abstaining(evidence, side))]
    rows = [row for row in overall(evidence.ranking, SIDE) if not row["control"]]
    if not rows or _abstaining(evidence, SIDE):
        return found
    best, *others = rows
    level = [row["method"] for row in others if row["tied_with_best"]]
    return [_no_winner(best, level), *found] if level else found


def _abstaining(evidence: Evidence, side: str) -> list[dict[str, Any]]:
    """Return the methods of a side on which none is shown to beat random numbers; no rows where one is."""
    rows = overall(evidence.ranking, side)
    real = [row for row in rows if not row["control"]]
    return real if len(real) < len(rows) and all(row["below_control"] for row in real) else []


def _no_winner(best: dict[str, Any], level: list[str]) -> Finding:
    return Finding(
        id="inseparable",
        kind="inseparable",
        subject=best["method"],
        statement=f"{best['method']} ranks first on the faithfulness side, but cannot be told apart from "
        f"{', '.join(level)} on these images.",
        evidence=f"Its mean rank is {_standing(best)} on {best['n']} images{_first(best['p_best'])}.",
        value=best["p_best"],
    )


def _nothing_separable(side: str, rows: list[dict[str, Any]]) -> Finding:
    """Return the finding that a side abstains; plausibility says nothing of the model, so it never speaks for the maps."""
    faithful = side == SIDE
    return Finding(
        id="inseparable" if faithful else f"inseparable-{side}",
        kind="inseparable",
        subject="all methods" if faithful else f"all methods, {side}",
        statement="No method is separable from a map of random numbers here: the maps support no statement."
        if faithful
        else f"On {side}, no method is separable from a map of random numbers here: none is shown to point where the masks lie.",
        evidence=f"The best, {rows[0]['method']}, has mean rank {_standing(rows[0])} on {rows[0]['n']} images.",
        verdict="undecided",
    )
