"""Which images the gallery shows: by rules that are printed above them, so that nothing is picked for its looks."""

from dataclasses import dataclass
from math import prod
from typing import Any

from pellucid.hashing import hash_key
from pellucid.study import Study

__all__ = ["EACH", "Chapter", "cases_each", "chapters"]

EACH = 6
"""Cases a chapter."""

_VALUES = 100_000_000
"""Values of all maps that are held at once: 0.4 GB."""


@dataclass(frozen=True)
class Chapter:
    """Cases that one rule chose."""

    title: str
    rule: str
    ids: tuple[str, ...]


def cases_each(study: Study) -> int:
    """Return how many cases a chapter has: `EACH`, fewer of large volumes, whose maps would not fit into memory."""
    values = prod(study.images.shape) * max(1, len(study.methods))
    return max(1, min(EACH, _VALUES // (4 * values)))


def chapters(study: Study) -> list[Chapter]:
    """Choose the cases: every image is shown once, wrong calls before confident ones, and random ones before all."""
    each = cases_each(study)
    ranked = study.mapped[: len(study.ranked_images)]
    rows = study.called(ranked).to_pylist()
    seed, count = study.config.seed, len(rows)
    drawn = sorted(rows, key=lambda row: hash_key("gallery", seed, row["image"]))
    sure = sorted(rows, key=lambda row: (-row["confidence"], row["image"]))
    wrong = [row for row in sure if row["label"] is not None and row["label"] != row["predicted"]]
    rules = {
        "Random": (f"of {count} explained images, in the order of a hash of seed and id, whatever they show", drawn),
        "Wrong": (f"of the {len(wrong)} wrong among {count} explained images, most confident first", wrong),
        "Most confident": (f"of {count} explained images, highest probability of the called class first", sure),
        "Least confident": (f"of {count} explained images, lowest probability of the called class first", sure[::-1]),
    }
    shown: set[str] = set()
    made = {title: _chapter(title, *rule, shown, each) for title, rule in rules.items()}
    return [made[title] for title in ("Random", "Most confident", "Least confident", "Wrong")]


def _chapter(title: str, rule: str, candidates: list[dict[str, Any]], shown: set[str], each: int) -> Chapter:
    """Take the first candidates that no other chapter shows, and say how many were passed over."""
    free = [row["image"] for row in candidates if row["image"] not in shown]
    ids = tuple(free[:each])
    last = [row["image"] for row in candidates].index(ids[-1]) + 1 if len(ids) == each else len(candidates)
    passed = last - len(ids)
    shown.update(ids)
    return Chapter(
        title,
        f"{len(ids)} {rule}" + (f"; {passed} that come before are shown in another chapter" if passed else ""),
        ids,
    )
