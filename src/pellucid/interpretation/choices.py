"""What each choice of the pipeline changed, in a sentence each: the conclusion that a reader could have drawn instead."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pellucid.evaluation.pipeline import CONSENSUS
from pellucid.interpretation.finding import Finding

__all__ = ["find_choices"]

SIDE = "faithfulness-side"
_STEPS = {
    "pool": "How channels are pooled", "sign": "Which sign is kept", "normalise": "How maps are normalised",
    "align": "How values are aligned", "aggregate": "How maps are aligned before they are averaged",
    "metric": "Which metric judges",
}  # fmt: skip


def find_choices(effects: pa.Table, *, side: str = SIDE) -> list[Finding]:
    """Turn the table of `choice_effects` into one finding a choice: its level that changes most.

    The verdict is "supported" where another level changes the best method of some image or the overall order, "refuted" where
    it changes nothing at all.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in effects.to_pylist():
        if row["side"] == side:
            rows.setdefault(row["factor"], []).append(row)
    chance = rows.pop("images", [])
    merged = rows.pop(CONSENSUS, [])
    found = [_finding(factor, levels, chance) for factor, levels in rows.items()]
    return found + [_consensus(row) for row in merged]


def _changes(row: dict[str, Any]) -> bool:
    return bool(
        row["changed"] or row["winner"] != row["winner_reference"] or (row["tau"] is not None and row["tau"] < 1)
    )


def _finding(factor: str, levels: Sequence[dict[str, Any]], chance: Sequence[dict[str, Any]]) -> Finding:
    most = max(levels, key=lambda row: (row["changed"] / max(1, row["n"]), -(row["tau"] or 0.0)))
    told = _STEPS.get(factor, f"Which {factor}")
    told += _said(most, levels) if any(map(_changes, levels)) else (
        f" changes no place of any method here ({_counted(levels)} than {most['reference']}).")  # fmt: skip
    return Finding(
        id=f"choice-{factor}", kind="choice", subject=factor, statement=told,
        evidence=f"{_counted(levels)} than {most['reference']}; {most['level']} changes most: Kendall's τ between the two "
        f"orders {_number(most['tau'])}{_moved(most)}. The choice makes {_percent(most['share'])} of the variance of places."
        f"{_by_chance(chance)}",
        value=most["changed"] / most["n"] if most["n"] else None, low=most["low"], high=most["high"],
        verdict="supported" if any(map(_changes, levels)) else "refuted",
    )  # fmt: skip


def _said(most: dict[str, Any], levels: Sequence[dict[str, Any]]) -> str:
    first = most["winner_reference"]
    others = {row["winner"]: row["level"] for row in levels if row["winner"] != first}
    after = _listed([f"{winner} with {level}" for winner, level in others.items()])
    whole = (
        f"is first with {most['reference']}, but {after}"
        if others
        else f"stays first with every level ({_counted(levels)})"
    )
    return (f" changes the best method on up to {most['changed']}/{most['n']} images ({most['level']}); over all images "
            f"{first} {whole}.")  # fmt: skip


def _counted(levels: Sequence[dict[str, Any]]) -> str:
    return "1 other level" if len(levels) == 1 else f"{len(levels)} other levels"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "an unknown part" if value is None else f"{100 * value:.1f} %"


def _moved(row: dict[str, Any]) -> str:
    if row["rank"] == row["rank_reference"]:
        return ""
    return f"; {row['moved']} moves from place {row['rank_reference']:.0f} to {row['rank']:.0f}"


def _by_chance(rows: Sequence[dict[str, Any]]) -> str:
    return "".join(f" Two halves of the images alone: τ {_number(row['tau'])}, another first method in {row['changed']}/{row['n']} "
                   "draws." for row in rows)  # fmt: skip


def _consensus(row: dict[str, Any]) -> Finding:
    first = row["winner"] == CONSENSUS
    verb = "ranks before every single method" if first else f"does not rank before {row['winner']}"
    return Finding(
        id=f"choice-{CONSENSUS}", kind="choice", subject=CONSENSUS,
        statement=f"The mean of all methods' maps, {row['level'].removeprefix('with the mean of all ')}, {verb}.",
        evidence=f"It is the best on {row['changed']}/{row['n']} images; without it {row['winner_reference']} is first.",
        value=row["changed"] / row["n"] if row["n"] else None, low=row["low"], high=row["high"],
        verdict="supported" if first else "refuted",
    )  # fmt: skip
