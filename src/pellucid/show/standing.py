"""What the report says of the ranking: the tables, what drives it, and what the sanity checks mean in plain words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pellucid.evaluation import Ranking
from pellucid.evaluation.metric import FAMILIES
from pellucid.interpretation.trust import INSENSITIVE, UNSTABLE
from pellucid.intervals import Interval, mean_interval
from pellucid.show.colour import shade

__all__ = ["Cell", "HeatTable", "Verdict", "left_out", "order_in_words", "overall", "per_metric", "verdicts"]

SIDE = "faithfulness-side"

OPEN_GAP = 0.05
"""Part of f(x) − f(reference) that may be missing before the sum is called incomplete."""


@dataclass(frozen=True)
class Cell:
    """One cell of a table of colours: the number's text and its shade."""

    text: str
    colour: str = ""


@dataclass(frozen=True)
class HeatTable:
    """A table of numbers whose shades let the eye find what drives a result."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    groups: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What the sanity checks say of one method: ``"passed"``, ``"failed"``, ``"unclear"``, ``"not tested"``, ``"control"``."""

    method: str
    word: str
    sentences: tuple[str, ...]


Check = tuple[str, str]
"""A word as in `Verdict`, and the sentence."""


def overall(ranking: pa.Table, family: str) -> list[dict[str, Any]]:
    """Return the rows of one overall ranking, best first."""
    kept = pc.and_(pc.equal(ranking["metric"], "overall"), pc.equal(ranking["family"], family))
    rows: list[dict[str, Any]] = ranking.filter(pc.and_(kept, pc.is_valid(ranking["rank"]))).to_pylist()
    return rows


def order_in_words(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Say what one overall ranking allows one to say: who leads, who is level, and how the controls stand."""
    real = [row for row in rows if not row["control"]]
    if not real:
        return []
    best, told = real[0], []
    level = [row["method"] for row in real[1:] if row["tied_with_best"]]
    told.append(f"{best['method']} ranks first" + (f", not separable from {', '.join(level)}." if level else "."))
    ahead = [row["method"] for row in rows if row["control"] and row["rank"] <= best["rank"]]
    beaten = {
        row["method"]: [one["method"] for one in real if one["rank"] > row["rank"]] for row in rows if row["control"]
    }
    for control, methods in beaten.items():
        if control in ahead:
            told.append(
                f"The control {control}, which never looks at the model, ranks at the top: this ranking says nothing here."
            )
        elif methods:
            told.append(f"The control {control}, which never looks at the model, stands before {', '.join(methods)}.")
    return told


def _order(ranking: pa.Table, methods: Sequence[str]) -> list[str]:
    ranked = [row["method"] for row in overall(ranking, SIDE)]
    return [*ranked, *(method for method in methods if method not in ranked)]


def per_metric(ranking: pa.Table, methods: Sequence[str]) -> HeatTable:
    """Return every method's mean rank under every metric; metrics of one family stand together."""
    rows = [row for row in ranking.to_pylist() if row["metric"] != "overall" and row["rank"] is not None]
    place = {name: number for number, name in enumerate(FAMILIES)}
    columns = sorted({(row["family"], row["metric"]) for row in rows}, key=lambda key: (place.get(key[0], 99), key[1]))
    ranks = {(row["method"], row["metric"]): row["rank"] for row in rows}
    widest = max(ranks.values(), default=1.0)
    families = [family for family, _ in columns]
    return HeatTable(
        tuple(metric for _, metric in columns),
        tuple(
            (method, tuple(_ranked(ranks.get((method, metric)), widest) for _, metric in columns))
            for method in _order(ranking, methods)
        ),
        tuple((family, families.count(family)) for family in dict.fromkeys(families)),
    )


def _ranked(value: float | None, widest: float) -> Cell:
    if value is None:
        return Cell("–")
    return Cell(f"{value:.1f}", shade((widest - value) / max(widest - 1, 1e-9)))


def left_out(ranking: Ranking) -> HeatTable | None:
    """Return each method's overall faithfulness-side rank with all metrics and without each in turn.

    None where fewer than two metrics count, so that none can be left out.
    """
    side = next((one for one in ranking.sides if one.name == SIDE), None)
    if side is None or len(side.metrics) < 2:
        return None
    ranks: dict[str, dict[str, float | None]] = {}
    for row in ranking.without_each(SIDE).to_pylist():
        ranks.setdefault(row["left_out"], {})[row["method"]] = row["rank"]
    whole = {row["method"]: row["rank"] for row in overall(ranking.table, SIDE)}
    widest = max(value for part in ranks.values() for value in part.values() if value is not None)
    names = ["", *sorted(side.metrics)]
    rows = tuple((method, tuple(_ranked(ranks[name].get(method), widest) for name in names)) for method in whole)
    return HeatTable(("all metrics", *names[1:]), rows)


def verdicts(
    scores: pa.Table, ranking: pa.Table, methods: Sequence[str], more: Callable[[str], Sequence[Check]] = lambda _: ()
) -> list[Verdict]:
    """Say of each method, in plain words, what the tests that need no expert mean; `more` adds checks of a method."""
    ranked = {row["method"]: row for row in overall(ranking, SIDE)}
    controls = {row["method"] for row in ranking.to_pylist() if row["control"]}
    return [
        _control(method) if method in controls else _verdict(scores, ranked.get(method), method, more(method))
        for method in _order(ranking, methods)
    ]


def _control(method: str) -> Verdict:
    return Verdict(method, "control", ("A control that knows nothing of the model: what the others must beat.",))


def _verdict(scores: pa.Table, row: dict[str, Any] | None, method: str, more: Sequence[Check]) -> Verdict:
    checks = [
        check
        for check in (
            _learnt(_mean(scores, method, "parameter_randomisation")),
            _stable(_mean(scores, method, "max_sensitivity")),
            _complete(_mean(scores, method, "completeness_gap")),
            _beats(row),
            *more,
        )
        if check is not None
    ]
    words = {word for word, _ in checks}
    worst = next((word for word in ("failed", "unclear", "passed") if word in words), "not tested")
    return Verdict(method, worst, tuple(sentence for _, sentence in checks))


def _mean(scores: pa.Table, method: str, metric: str) -> Interval | None:
    names = [text for text in set(scores["metric"].to_pylist()) if text.split("(")[0] == metric]
    kept = pc.and_(pc.equal(scores["method"], method), pc.is_in(scores["metric"], pa.array(names, pa.string())))
    rows = scores.filter(pc.and_(kept, pc.is_valid(scores["value"])))
    return mean_interval(rows["value"].to_numpy(), groups=rows["group"].to_pylist()) if rows.num_rows else None


def _learnt(found: Interval | None) -> Check | None:
    if found is None:
        return None
    if found.low > INSENSITIVE:
        return (
            "failed",
            f"It draws much the same map for random weights (similarity {found}): it shows the image more than what was learnt.",
        )
    if found.high < INSENSITIVE:
        return "passed", f"Its map changes when the weights are randomised (similarity {found}), as it must."
    return "unclear", f"Whether its map depends on the learnt weights is not clear (similarity {found})."


def _stable(found: Interval | None) -> Check | None:
    if found is None:
        return None
    if found.low > UNSTABLE:
        return "failed", f"Slight noise changes its map by more than the map's own size ({found})."
    word = "passed" if found.high < UNSTABLE else "unclear"
    return word, f"Slight noise changes its map by {found} of the map's size."


def _complete(found: Interval | None) -> Check | None:
    if found is None:
        return None
    if found.low > OPEN_GAP:
        return "failed", f"Its values do not add up to what they promise: the completeness gap is {found}."
    return "passed", f"Its values add up as promised (completeness gap {found})."


def _beats(row: dict[str, Any] | None) -> Check | None:
    if row is None or row["below_control"] is None:
        return None
    if row["below_control"]:
        return "failed", "It is not shown to be better than a map of random numbers on these images."
    return "passed", "It beats a map of random numbers on these images."


def ordered(ranking: Ranking, methods: Sequence[str]) -> list[str]:
    """Return all methods, those of the faithfulness-side ranking first, best first."""
    return _order(ranking.table, methods)
