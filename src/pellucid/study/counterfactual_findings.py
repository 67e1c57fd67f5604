"""What is concluded from the counterfactuals of a study: the gate's verdict, and for how many images a change was found."""

from collections.abc import Sequence

import pyarrow as pa

from pellucid.counterfactual import GateVerdict
from pellucid.interpretation import Finding
from pellucid.intervals import share_interval
from pellucid.study.counterfactual_search import Sought

__all__ = ["NOT_MEASURED", "counterfactual_findings", "not_measured"]

NOT_MEASURED = "counterfactual-phenotypes"
"""Id of the finding that says why changed images were not measured."""


def counterfactual_findings(verdict: GateVerdict, found: Sequence[Sought], scores: pa.Table) -> list[Finding]:
    """Return the findings; `scores` are those of the report, without rows where nothing was searched."""
    return [_gate_finding(verdict), *([_validity(verdict, found, scores)] if found else [])]


def _validity(verdict: GateVerdict, found: Sequence[Sought], scores: pa.Table) -> Finding:
    good = sum(len(one.valid) for one in found)
    tried = sum(status != "already there" for one in found for status in one.found.status)
    share = share_interval(good, tried)
    statement = (
        f"For {good} of {tried} images a small change was found that makes the model answer otherwise and that resembles the "
        "training images; for the others none was found, and none is claimed"
    )
    return Finding(
        id="counterfactual-validity", kind="gate", subject="counterfactuals", statement=statement + ".",
        evidence="The model was asked about the very image that is shown. " + _transfer(scores),
        value=share.value, low=share.low, high=share.high, verdict="supported" if verdict.passed else "undecided",
    )  # fmt: skip


def _transfer(scores: pa.Table) -> str:
    rows = [row for row in scores.to_pylist() if row["score"] == "validity" and row["model"]]
    if not rows:
        return "No other net judged them."
    return (
        "Other nets agree: "
        + "; ".join(f"{row['model']} on {100 * row['value']:.0f} % of {row['n']}" for row in rows)
        + "."
    )


def _gate_finding(verdict: GateVerdict) -> Finding:
    agreement = verdict["class_agreement"]
    told = "; ".join(map(str, verdict.checks)) + "."
    if verdict.passed:
        statement = "Images made by the generator may be read: the model answers its copies as it answers the images, and the changes look like real ones."
    else:
        names = ", ".join(check.name.replace("_", " ") for check in verdict.failed)
        statement = (
            f"Images made by the generator must not be read as explanations, and none is shown: it failed {names}."
        )
    return Finding(
        id="counterfactual-gate", kind="gate", subject=verdict.generator, statement=statement, evidence=told,
        value=agreement.value, low=agreement.low, high=agreement.high, verdict="supported" if verdict.passed else "refuted",
    )  # fmt: skip


def not_measured(reason: str) -> Finding:
    """Say why the phenotypes of changed images were not measured."""
    return Finding(
        id=NOT_MEASURED, kind="refused", subject="counterfactuals", verdict="undecided",
        statement=f"What changes in measured terms is not told: {reason}.",
        evidence="Counterfactuals are shown without the phenotypes that change.",
    )  # fmt: skip
