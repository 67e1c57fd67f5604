"""What the scores say of each method, check by check: the one place where scores become words about a method.

No check needs an expert. The findings, the verdict and the report all read them here, so that none can say otherwise.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from pellucid.intervals import Interval, mean_interval

__all__ = ["Check", "Judged", "Word", "check_methods", "overall"]

INSENSITIVE = 0.5
"""A map whose similarity to that of a randomised model lies above this does not depend on what was learnt."""

UNSTABLE = 1.0
"""A map that changes by more than its own norm under slight noise is unstable."""

OPEN_GAP = 0.05
"""Part of f(x) − f(reference) that may be missing before the sum is called incomplete."""

SIDE = "faithfulness-side"

NAMED = {"random_map": "a map of random numbers", "edge_map": "the edges of the image itself"}
"""What each control is, in words."""

Word = Literal["passed", "failed", "unclear"]
Standing = Literal["believed", "doubtful", "not believed", "not tested"]
Groups = Callable[[Sequence[str]], Sequence[str]]


@dataclass(frozen=True)
class Check:
    """One check of one method.

    Attributes
    ----------
    name
        ``"randomisation"``, ``"noise"``, ``"completeness"``, ``"controls"``, ``"shuffled labels"`` or ``"retraining"``.
    word
        ``"unclear"`` where the interval reaches the limit.
    sentence
        What it means, with the number.
    found
        The mean score with its interval; None of the controls, which are beaten in the ranking.
    """

    name: str
    word: Word
    sentence: str
    found: Interval | None = None


@dataclass(frozen=True)
class Judged:
    """One method with all that was checked of it."""

    method: str
    checks: tuple[Check, ...]

    def check(self, name: str) -> Check | None:
        """Return the check of a name, None where it was not made."""
        return next((check for check in self.checks if check.name == name), None)

    @property
    def standing(self) -> Standing:
        """Whether to believe the method here: that takes beating the controls and no check against it."""
        words = {check.name: check.word for check in self.checks}
        if "failed" in (words.get(name) for name in ("randomisation", "noise", "controls")):
            return "not believed"
        if "controls" not in words:
            return "not tested"
        return "believed" if set(words.values()) == {"passed"} else "doubtful"

    @property
    def against(self) -> tuple[str, ...]:
        """What speaks against it, in sentences."""
        return tuple(check.sentence for check in self.checks if check.word != "passed")


def check_methods(
    scores: pa.Table, ranking: pa.Table, methods: Iterable[str], *, groups: Groups | None = None, seed: int = 0
) -> list[Judged]:
    """Check every method with the scores that there are; what was not scored is not checked.

    Parameters
    ----------
    scores, ranking
        The tables of `Scores` and `Ranking`.
    methods
        Their texts.
    groups
        Ids of images to their independent units; default: the groups of the score table.
    seed
        Of the intervals.
    """
    rows = {row["method"]: row for row in overall(ranking, SIDE)}
    base = pc.list_element(pc.split_pattern(scores["metric"], "("), 0)
    known = scores.append_column("name", base).filter(pc.is_valid(scores["value"]))
    found = partial(_mean, known, groups=groups, seed=seed)
    return [
        Judged(method, tuple(check for check in (
            _learnt(found("parameter_randomisation", method)), _stable(found("max_sensitivity", method)),
            _complete(found("completeness_gap", method)), _beats(rows.get(method)),
        ) if check is not None))
        for method in methods
    ]  # fmt: skip


def overall(ranking: pa.Table, family: str) -> list[dict[str, Any]]:
    """Return the rows of one overall ranking, best first."""
    kept = pc.and_(pc.equal(ranking["metric"], "overall"), pc.equal(ranking["family"], family))
    rows: list[dict[str, Any]] = ranking.filter(pc.and_(kept, pc.is_valid(ranking["rank"]))).to_pylist()
    return sorted(rows, key=lambda row: float(row["rank"]))


def _mean(scores: pa.Table, metric: str, method: str, *, groups: Groups | None, seed: int) -> Interval | None:
    """Return the mean over images, of each image over the settings under which the metric was used."""
    rows = scores.filter(pc.and_(pc.equal(scores["name"], metric), pc.equal(scores["method"], method)))
    means = rows.group_by("image", use_threads=False).aggregate([("value", "mean"), ("group", "first")])
    if not means.num_rows:
        return None
    told = means["group_first"].to_pylist() if groups is None else groups(means["image"].to_pylist())
    return mean_interval(means["value_mean"].to_numpy(), groups=told, seed=seed)


def _learnt(found: Interval | None) -> Check | None:
    if found is None:
        return None
    if found.low > INSENSITIVE:
        told = f"It draws much the same map for random weights (similarity {found}): it shows the image more than what was learnt."
        return Check("randomisation", "failed", told, found)
    if found.high < INSENSITIVE:
        told = f"Its map changes when the weights are randomised (similarity {found}), as it must."
        return Check("randomisation", "passed", told, found)
    told = f"Whether its map depends on the learnt weights is not clear (similarity {found})."
    return Check("randomisation", "unclear", told, found)


def _stable(found: Interval | None) -> Check | None:
    if found is None:
        return None
    if found.low > UNSTABLE:
        told = f"Slight noise changes its map by more than the map's own size ({found})."
        return Check("noise", "failed", told, found)
    word: Word = "passed" if found.high < UNSTABLE else "unclear"
    return Check("noise", word, f"Slight noise changes its map by {found} of the map's size.", found)


def _complete(found: Interval | None) -> Check | None:
    if found is None:
        return None
    if found.low > OPEN_GAP:
        told = f"Its values do not add up to what they promise: the completeness gap is {found}."
        return Check("completeness", "failed", told, found)
    return Check("completeness", "passed", f"Its values add up as promised (completeness gap {found}).", found)


def _beats(row: dict[str, Any] | None) -> Check | None:
    if row is None or row["control"] or row["below_control"] is None:
        return None
    if row["below_control"]:
        told = "It is not shown to be better than a map of random numbers on these images."
        return Check("controls", "failed", told)
    others = [NAMED.get(name, name) for name in row["unbeaten"] or ()]
    if others:
        told = f"It beats a map of random numbers, but is not shown to beat {' and '.join(others)} on these images."
        return Check("controls", "unclear", told)
    return Check("controls", "passed", "It beats a map of random numbers on these images.")
