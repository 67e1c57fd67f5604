"""What changes in measured terms: arrows for every two classes, and a dial of the phenotypes under each strip."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.images import ImageRecord
from pellucid.interpretation.phenotypes.dose import participation
from pellucid.measure.words import in_words

__all__ = ["Dial", "Hand", "Mark", "arrows", "dial", "medians"]

_ARROWS, _HANDS = 4, 4
_FULL = 3.0
"""Standard deviations that get full colour."""

_UP, _DOWN = "240,160,122", "111,163,210"


@dataclass(frozen=True)
class Mark:
    """One phenotype at one dose: its value, how far from the image as it is, and the colour of that."""

    value: str
    change: str
    colour: str


@dataclass(frozen=True)
class Hand:
    """One phenotype over the doses of a strip; `same` names those that it cannot be told from."""

    name: str
    same: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Dial:
    """The phenotypes that change most from one end of a strip to the other.

    Attributes
    ----------
    hands
        Largest change first.
    number
        How many phenotypes change, in effect: 1 is one alone; NaN where none does.
    known
        Of how many.
    lost
        Doses at which no object could be outlined.
    """

    hands: tuple[Hand, ...]
    number: float
    known: int
    lost: int


def arrows(rows: Sequence[dict[str, Any]], source: str, target: str) -> tuple[str, ...]:
    """Return a line for each phenotype that surely changes between two classes, the largest changes first."""
    own = [row for row in _of(rows, source, target) if row["low"] is not None and (row["low"] > 0 or row["high"] < 0)]
    own.sort(key=lambda row: -abs(row["median"]))
    return tuple(
        f"{'↑' if row['median'] > 0 else '↓'} {in_words(row['phenotype'])} {abs(row['median']):.1f} SD (n = {row['n']})"
        for row in own[:_ARROWS]
    )


def medians(rows: Sequence[dict[str, Any]], record: ImageRecord) -> list[dict[str, Any]]:
    """Return every row of the table of phenotypes in words, the largest changes of each two classes first."""
    pairs = list(dict.fromkeys((row["source"], row["target"]) for row in rows))
    ordered = [
        row for pair in pairs for row in sorted(_of(rows, *pair), key=lambda row: -abs(row["median"] or 0.0))
    ]  # fmt: skip
    return [row | {"name": in_words(row["phenotype"], record), "same": _words(row["same"])} for row in ordered]


def dial(rows: Sequence[dict[str, Any]], doses: Sequence[float], record: ImageRecord) -> Dial | None:
    """Return the dial of one strip from its rows of the table of measures; None where nothing was measured of it."""
    told: dict[str, dict[float, dict[str, Any]]] = {}
    for row in rows:
        told.setdefault(row["phenotype"], {})[row["dose"]] = row
    sizes = {name: _travelled([own[dose]["change"] for dose in doses]) for name, own in told.items()}
    known = {name: size for name, size in sizes.items() if size is not None}
    if not known:
        return None
    chosen = sorted((name for name, size in known.items() if size > 0), key=lambda name: -known[name])[:_HANDS]
    lost = sum(all(own[dose]["value"] is None for own in told.values()) for dose in doses)
    hands = tuple(_hand(name, [told[name][dose] for dose in doses], record) for name in chosen)
    return Dial(hands, participation(list(known.values())), len(known), lost)


def _of(rows: Sequence[dict[str, Any]], source: str, target: str) -> list[dict[str, Any]]:
    return [row for row in rows if (row["source"], row["target"]) == (source, target)]


def _travelled(changes: Sequence[float | None]) -> float | None:
    """Return how far apart the two ends are that were measured; to and fro between them does not count."""
    known = [change for change in changes if change is not None]
    return abs(known[-1] - known[0]) if known else None


def _hand(name: str, rows: Sequence[dict[str, Any]], record: ImageRecord) -> Hand:
    return Hand(in_words(name, record), _words(rows[0]["same"]), tuple(_mark(row) for row in rows))


def _mark(row: dict[str, Any]) -> Mark:
    value, change = row["value"], row["change"]
    if value is None or change is None:
        return Mark("–" if value is None else _number(value), "", "transparent")
    strength = float(np.clip(abs(change) / _FULL, 0, 1))
    told = _signed(f"{change:+.1f}") if row["dose"] else ""
    return Mark(_number(value), told, f"rgba({_UP if change > 0 else _DOWN},{strength:.2f})")


def _number(value: float) -> str:
    return _signed(f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}")


def _signed(number: str) -> str:
    return number.replace("-", "−")


def _words(columns: str) -> str:
    return ", ".join(in_words(column) for column in columns.split(", ") if column)
