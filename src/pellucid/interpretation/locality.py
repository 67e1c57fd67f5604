"""Find out whether a map of places can show what drives this model, or whether it is a property of the whole object.

Two changes are held against each other on the same images: of the object as a whole (size, shape, brightness, colour,
texture), and of only the places where a map puts its mass. Where the first moves the model and the second does not, no
local map can show the cause. Nothing here knows the name of a planted factor.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rich.progress import Progress

from pellucid.interpretation.effects import Effect, Holes, Panel, edited_there, edited_whole, inpainted, places, usable
from pellucid.interpretation.evidence import Case, Evidence
from pellucid.interpretation.finding import Finding
from pellucid.intervals import Interval, mean_interval

__all__ = ["WHOLE_OBJECT_EDITS", "find_locality", "untested_locality"]

WHOLE_OBJECT_EDITS = (
    "resize_object(factor=1.25)", "resize_object(factor=0.8)", "stretch_object(factor=1.2)", "stretch_object(factor=0.85)",
    "brighten(amount=0.15)", "brighten(amount=-0.15)", "recolour", "blur_texture",
)  # fmt: skip

MATTERS = 0.5
"""Change of the log-odds, beyond the null's, by the interval's lower end, that counts as moving the model."""

LEAST_CASES = 10

Rows = NDArray[np.int64]


def find_locality(evidence: Evidence, *, most: int = 60) -> tuple[list[Finding], pa.Table]:
    """Say whether the maps can show what drives the model on these images.

    The strongest whole-object edit and the best map are chosen on a random half of the images and judged on the other.

    Parameters
    ----------
    evidence
        Needs labels, an object mask and at least `LEAST_CASES` explained images with an outline.
    most
        Images to test at most.

    Returns
    -------
    findings
        One of kind ``localised``, ``not_localised`` or ``refused``.
    table
        One row a change: change, kind (edit or map), effect, low, high: log-odds beyond the null; low and high are
        null where a single group of images cannot tell.
    """
    cases = evidence.cases(most, evidence.ids)
    reason = _lacking(evidence, cases)
    if reason:
        return [untested_locality(reason)], pa.table({})
    panel = Panel.of(evidence, cases)
    holes = {method: places(panel, method) for method in evidence.judged}
    effects, known = usable(_first(panel, holes))
    paired = len(known) if {effect.kind for effect in effects} == {"edit", "map"} else 0
    if paired < LEAST_CASES:
        return [untested_locality(f"{paired} images have both edits that fit the object and maps")], pa.table({})
    drawn = known[evidence.random("halves").permutation(len(known))]
    choose, judge = drawn[::2], drawn[1::2]
    edit = _best(effects, "edit", choose)
    effects += [edited_there(panel, method, each, edit.name) for method, each in holes.items()]
    verdict = _verdict(panel, edit, _best(effects, "map", choose), judge)
    return [verdict], _table(panel, effects, known)


def _lacking(evidence: Evidence, cases: Sequence[Case]) -> str:
    """Say what is missing for a test, or ""."""
    if len(cases) < LEAST_CASES:
        return f"{len(cases)} explained images have an outline of {evidence.outlined}"
    return "" if evidence.judged else "no method but controls has a map of every image"


def untested_locality(reason: str) -> Finding:
    """Return the finding that says why nothing can be said."""
    return Finding(
        id="locality",
        kind="refused",
        subject="maps",
        statement="Whether a map of places can show what drives this model was not tested.",
        evidence=f"Editing whole objects needs a classifier and {LEAST_CASES} labelled, outlined, explained images; {reason}.",
        verdict="undecided",
    )


def _first(panel: Panel, holes: dict[str, Holes]) -> list[Effect]:
    with Progress(transient=True, disable=not panel.evidence.progress) as bar:
        edits = [edited_whole(panel, text) for text in bar.track(WHOLE_OBJECT_EDITS, description="editing objects")]
        maps = bar.track(holes.items(), description="in-painting where maps point")
        return edits + [inpainted(panel, method, each) for method, each in maps]


def _best(effects: Sequence[Effect], kind: str, rows: Rows) -> Effect:
    own = [effect for effect in effects if effect.kind == kind and not np.isnan(effect.moved[rows]).any()]
    return max(own, key=lambda effect: float(effect.moved[rows].mean()))


def _interval(panel: Panel, moved: NDArray[np.float64], rows: Rows) -> Interval:
    groups = [panel.cases[row].group for row in rows]
    return mean_interval(moved[rows], groups=groups, seed=panel.evidence.seed)


def _table(panel: Panel, effects: Sequence[Effect], rows: Rows) -> pa.Table:
    whole = [effect for effect in effects if not np.isnan(effect.moved[rows]).any()]
    found = [_interval(panel, effect.moved, rows) for effect in whole]
    return pa.table({
        "change": [effect.name for effect in whole],
        "kind": [effect.kind for effect in whole],
        "effect": [interval.value for interval in found],
        "low": pa.array([interval.low for interval in found], pa.float64(), from_pandas=True),
        "high": pa.array([interval.high for interval in found], pa.float64(), from_pandas=True),
    })  # fmt: skip


def _verdict(panel: Panel, edit: Effect, best: Effect, judge: Rows) -> Finding:
    whole, local = (_interval(panel, effect.moved, judge) for effect in (edit, best))
    told = (
        f"Log-odds beyond the null's, on {whole.n} images that did not choose the edit or the map: {edit.words} of the whole "
        f"object {whole}; {best.words} {local} (95 % intervals)."
    )
    if whole.low > MATTERS and _interval(panel, 0.5 * edit.moved - best.moved, judge).low > 0:
        return _not_localised(edit, best, whole, told)
    return _localised(best, local, told)


def _not_localised(edit: Effect, best: Effect, whole: Interval, evidence: str) -> Finding:
    return Finding(
        id="locality",
        kind="not_localised",
        subject="maps",
        statement="No local map can show what drives this model here: changing the object as a whole "
        f"({edit.words}) moves its output, and changing the places that maps point to does so less than half as much; "
        f"the most came of {best.words}.",
        evidence=evidence,
        value=whole.value,
        low=whole.low,
        high=whole.high,
    )


def _localised(best: Effect, local: Interval, evidence: str) -> Finding:
    shown = local.low > MATTERS
    return Finding(
        id="locality",
        kind="localised",
        subject="maps",
        statement=f"Maps can show at least part of what drives the model here: {best.words} moves its output more than the "
        "same done to as much of the object elsewhere."
        if shown
        else "Whether a map of places can show what drives the model stays open on these images.",
        evidence=evidence,
        value=local.value,
        low=local.low,
        high=local.high,
        verdict="supported" if shown else "undecided",
    )
