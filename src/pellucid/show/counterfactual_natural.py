"""The first view of what would have to change: each image beside the most similar real image of another answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pellucid.show.counterfactual import view_of
from pellucid.show.counterfactual_pairs import drawable, picture
from pellucid.study import Study
from pellucid.study.counterfactual_search import in_turn

__all__ = ["NaturalPair", "natural_content"]

_EDGE = 112
_PAIRS = 12

_SPACES = {
    "embedding": "what the model itself hardly tells apart",
    "pixels": "what overlaps, pixel by pixel: the model names no inner layer to compare them in",
}
"""In which sense images are alike."""


@dataclass(frozen=True)
class NaturalPair:
    """An image and the nearest real one of another answer; the pictures are "" where images cannot be drawn."""

    row: dict[str, Any]
    before: str
    after: str

    @property
    def ratio(self) -> float | None:
        """How many times as far away it lies as the nearest image of the same answer."""
        own = self.row["own_kind_distance"]
        return self.row["distance"] / own if own else None


def natural_content(study: Study) -> dict[str, Any] | None:
    """Return what the template prints; None where no real case was looked for."""
    rows = study.tables.get("counterfactual_natural", pa.table({})).to_pylist()
    if not rows:
        return None
    told, lost = _nearest(rows), [row for row in rows if row["counterfactual"] is None]
    return {
        "pairs": [_pair(study, rows[place]) for place in in_turn(rows, told, _PAIRS)], "found": len(told),
        "lost": [(reason, sum(row["reason"] == reason for row in lost)) for reason in dict.fromkeys(row["reason"] for row in lost)],
        "alike": _SPACES[rows[0]["space"]], "among": sorted({(row["target"], row["among"]) for row in rows}),
        "drawable": drawable(study),
    }  # fmt: skip


def _nearest(rows: Sequence[dict[str, Any]]) -> list[int]:
    """Return, for each image that has a case, the row of the nearest over all other answers."""
    best: dict[str, int] = {}
    for place, row in enumerate(rows):
        other = best.get(row["image"])
        if row["counterfactual"] is not None and (other is None or row["distance"] < rows[other]["distance"]):
            best[row["image"]] = place
    return sorted(best.values())


def _pair(study: Study, row: dict[str, Any]) -> NaturalPair:
    if not drawable(study):
        return NaturalPair(row, "", "")
    before, after = (study.images.load(row[name]) for name in ("image", "counterfactual"))
    view = view_of(after - before, study.images.record)
    return NaturalPair(row, *(picture(study, image, view, _EDGE) for image in (before, after)))
