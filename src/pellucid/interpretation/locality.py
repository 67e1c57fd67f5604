"""Find out whether a map of places can show what drives this model, or whether it is a property of the whole object.

Two edits are held against each other on the same images: changing the object as a whole (size, brightness, colour,
texture), and in-painting only the places where a map puts its mass. Where the first moves the model and the second does
not, no local map can show the cause. Nothing here knows the name of a planted factor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import interpolate

from pellucid.attribution import METHODS
from pellucid.interpretation.evidence import Case, Evidence
from pellucid.interpretation.finding import Finding
from pellucid.intervals import Interval, mean_interval
from pellucid.measure import EDITS, Edit

__all__ = ["WHOLE_OBJECT_EDITS", "find_locality"]

WHOLE_OBJECT_EDITS = (
    "resize_object(factor=1.25)", "resize_object(factor=0.8)", "brighten(amount=0.15)", "brighten(amount=-0.15)",
    "recolour", "blur_texture",
)  # fmt: skip

SHARE = 0.1
"""Share of the object's area that is in-painted where a map puts most mass."""

MATTERS = 0.5
"""Change of the log-odds, beyond the null's, by the interval's lower end, that counts as moving the model."""

LEAST_CASES = 10


@dataclass(frozen=True)
class Effect:
    """How far one change moves the model's log-odds beyond its null, one number an image."""

    name: str
    moved: np.ndarray


def _log_odds(evidence: Evidence, images: Tensor, classes: Tensor) -> np.ndarray:
    chance = evidence.probabilities(images).double().clamp(1e-6, 1 - 1e-6)
    own = chance.gather(1, classes[:, None])[:, 0]
    return torch.logit(own).numpy()


def _generator(evidence: Evidence, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(int(evidence.random(purpose).integers(2**31)))


def _edit_effect(evidence: Evidence, cases: Sequence[Case], classes: Tensor, text: str, before: np.ndarray) -> Effect:
    edit: Edit = EDITS.parse(text)
    changed, null = (
        torch.stack([
            apply(case.image, case.outline, generator=_generator(evidence, f"{text} {case.id}")).image for case in cases
        ])
        for apply in (edit, edit.null)
    )  # fmt: skip
    after, idle = _log_odds(evidence, changed, classes), _log_odds(evidence, null, classes)
    return Effect(text, np.abs(after - before) - np.abs(idle - before))


def _places(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Return how much of the map lies at each position of the image: |channel sum|, at the image's resolution."""
    summed = values.sum(1, keepdim=True)
    if summed.shape[2:] != torch.Size(shape):
        mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(shape)]
        summed = interpolate(summed, size=tuple(shape), mode=mode, align_corners=False)
    return summed[:, 0].abs()


def _highest(strength: Tensor, count: int) -> Tensor:
    chosen = torch.zeros(strength.numel(), dtype=torch.bool)
    chosen[strength.flatten().topk(count).indices] = True
    return chosen.view_as(strength)


def _blob(outline: Tensor, count: int, random: np.random.Generator) -> Tensor:
    """Return `count` pixels of the object in random clumps: what in-painting does wherever it is done."""
    field = torch.from_numpy(ndimage.gaussian_filter(random.standard_normal(tuple(outline.shape)), 2.0))
    return _highest(field.masked_fill(~outline, -torch.inf), count)


def _map_effect(evidence: Evidence, cases: Sequence[Case], classes: Tensor, method: str, before: np.ndarray) -> Effect:
    strength = _places(evidence.maps(method, [case.id for case in cases]), cases[0].outline.shape)
    random = evidence.random(f"null of {method}")
    counts = [max(1, round(SHARE * int(case.outline.sum()))) for case in cases]
    chosen = [_highest(map_, count) for map_, count in zip(strength, counts, strict=True)]
    nulls = [_blob(case.outline, count, random) for case, count in zip(cases, counts, strict=True)]
    fill = EDITS.parse("remove_patch")
    after, idle = (
        _log_odds(
            evidence,
            torch.stack([
                fill(case.image, hole, generator=_generator(evidence, f"{method} {case.id}")).image
                for case, hole in zip(cases, holes, strict=True)
            ]),
            classes,
        )
        for holes in (chosen, nulls)
    )  # fmt: skip
    return Effect(method, np.abs(after - before) - np.abs(idle - before))


def _best(effects: Mapping[str, Effect], rows: np.ndarray) -> Effect:
    return max(effects.values(), key=lambda effect: float(effect.moved[rows].mean()))


def find_locality(evidence: Evidence, *, most: int = 60) -> tuple[list[Finding], pa.Table]:
    """Say whether the maps can show what drives the model on these images.

    The strongest whole-object edit and the best map are chosen on one half of the images and judged on the other.

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
        One row a change: change, kind (edit or map), effect, low, high: log-odds beyond the null.
    """
    cases = evidence.cases(most, evidence.ids)
    if len(cases) < LEAST_CASES:
        return [_untested(evidence, len(cases))], pa.table({})
    images = torch.stack([case.image for case in cases])
    classes = evidence.probabilities(images).argmax(1)
    before = _log_odds(evidence, images, classes)
    groups = [case.group for case in cases]
    methods = [text for text in evidence.methods if METHODS.parse(text).taxonomy.family != "control"]
    edits = {text: _edit_effect(evidence, cases, classes, text, before) for text in WHOLE_OBJECT_EDITS}
    maps = {text: _map_effect(evidence, cases, classes, text, before) for text in methods}
    rows = [(effect, kind, mean_interval(effect.moved, groups=groups, seed=evidence.seed))
            for kind, effects in (("edit", edits), ("map", maps)) for effect in effects.values()]  # fmt: skip
    table = pa.table({
        "change": [effect.name for effect, _, _ in rows], "kind": [kind for _, kind, _ in rows],
        "effect": [interval.value for _, _, interval in rows], "low": [interval.low for _, _, interval in rows],
        "high": [interval.high for _, _, interval in rows],
    })  # fmt: skip
    return [_verdict(edits, maps, groups, evidence.seed)], table


def _verdict(edits: Mapping[str, Effect], maps: Mapping[str, Effect], groups: Sequence[str], seed: int) -> Finding:
    count = len(groups)
    choose, judge = np.arange(0, count, 2), np.arange(1, count, 2)
    edit, best = _best(edits, choose), _best(maps, choose)
    judged = list(groups)[1::2]
    whole = mean_interval(edit.moved[judge], groups=judged, seed=seed)
    local = mean_interval(best.moved[judge], groups=judged, seed=seed)
    short = mean_interval(0.5 * edit.moved[judge] - best.moved[judge], groups=judged, seed=seed)
    if whole.low > MATTERS and short.low > 0:
        return _not_localised(edit, best, whole, local)
    shown = local.low > MATTERS
    return Finding(
        id="locality",
        kind="localised",
        subject="maps",
        statement=f"Maps can show at least part of what drives the model here: in-painting the places that {best.name} "
        "ranks highest moves the call."
        if shown
        else "Whether a map of places can show what drives the model stays open on these images.",
        evidence=_evidence(edit, best, whole, local),
        value=local.value,
        low=local.low,
        high=local.high,
        verdict="supported" if shown else "undecided",
    )


def _not_localised(edit: Effect, best: Effect, whole: Interval, local: Interval) -> Finding:
    return Finding(
        id="locality",
        kind="not_localised",
        subject="maps",
        statement="No local map can show what drives this model here: changing the object as a whole "
        f"({edit.name}) moves the call, in-painting the places where any map puts its mass does not.",
        evidence=_evidence(edit, best, whole, local),
        value=whole.value,
        low=whole.low,
        high=whole.high,
    )


def _evidence(edit: Effect, best: Effect, whole: Interval, local: Interval) -> str:
    return (
        f"Log-odds beyond the null's, on {whole.n} images that did not choose the edit or the map: {edit.name} {whole}; "
        f"in-painting {100 * SHARE:.0f} % of the object's area where {best.name} puts most mass {local} (95 % intervals)."
    )


def _untested(evidence: Evidence, cases: int) -> Finding:
    reason = f"{cases} explained images have an outline of {evidence.outlined}"
    return Finding(
        id="locality",
        kind="refused",
        subject="maps",
        statement="Whether a map of places can show what drives this model was not tested.",
        evidence=f"Editing whole objects needs {LEAST_CASES} labelled, outlined, explained images; {reason}.",
        verdict="undecided",
    )
