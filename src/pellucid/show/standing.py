"""What the report says of the ranking: the tables, what drives it, and what the sanity checks mean in plain words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pellucid.evaluation import Ranking
from pellucid.evaluation.metric import FAMILIES
from pellucid.interpretation.checks import SIDE, Check, check_methods, overall
from pellucid.show.colour import shade

__all__ = ["Cell", "HeatTable", "Verdict", "left_out", "means", "order_in_words", "overall", "per_metric", "verdicts"]


@dataclass(frozen=True)
class Cell:
    """One cell of a table of colours: the number's text and its shade, and what is to be said under it."""

    text: str
    colour: str = ""
    lines: tuple[str, ...] = ()


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


def means(table: pa.Table | None, methods: Sequence[str]) -> HeatTable | None:
    """Return the mean score of every metric and method over all explained images with its standard error; None without a table."""
    if table is None:
        return None
    told = {(row["method"], row["metric"]): row for row in table.to_pylist()}
    metrics = tuple(dict.fromkeys(row["metric"] for row in table.to_pylist()))
    return HeatTable(
        metrics, tuple((method, tuple(_mean(told.get((method, metric))) for metric in metrics)) for method in methods)
    )


def _mean(row: dict[str, Any] | None) -> Cell:
    if row is None or row["mean"] is None:
        return Cell("–")
    error = "" if row["deviation"] is None else f" ± {row['deviation'] / row['images'] ** 0.5:.2g}"
    return Cell(f"{row['mean']:.3g}{error}")


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
    controls = {row["method"] for row in ranking.to_pylist() if row["control"]}
    return [
        Verdict(one.method, "control", ("A control that knows nothing of the model: what the others must beat.",))
        if one.method in controls
        else _verdict(one.method, (*one.checks, *more(one.method)))
        for one in check_methods(scores, ranking, _order(ranking, methods))
    ]


def _verdict(method: str, checks: Sequence[Check]) -> Verdict:
    words = {check.word for check in checks}
    worst = next((word for word in ("failed", "unclear", "passed") if word in words), "not tested")
    return Verdict(method, worst, tuple(check.sentence for check in checks))


def ordered(ranking: Ranking, methods: Sequence[str]) -> list[str]:
    """Return all methods, those of the faithfulness-side ranking first, best first."""
    return _order(ranking.table, methods)
