"""What a study says of a model's strategies: how many there are, and whether filling in the place of one moves the call."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from pellucid.attribution.scaling import resized
from pellucid.errors import ShapeError
from pellucid.hashing import hash_seed
from pellucid.interpretation.evidence import Evidence
from pellucid.interpretation.finding import Finding
from pellucid.interpretation.odds import likelier
from pellucid.interpretation.strategies import Named, Strategies, named_strategies
from pellucid.intervals import Interval, mean_interval, share_interval
from pellucid.measure import remove_patch

__all__ = ["find_strategies"]

LEAST_IMAGES = 12
"""Explained images of a class, below which no strategies are sought among them."""

MATTERS = 0.5
"""Change of the log-odds, beyond the null's, by the interval's lower end, that counts as moving the model."""


def find_strategies(
    evidence: Evidence, method: str | None = None, *, frame: str = "image", most: int = 200
) -> tuple[list[Finding], dict[str, pa.Table], dict[str, Strategies]]:
    """Say in how many ways the model decides for each class, and test whether one of them hangs on an artefact.

    Where much of a strategy's evidence lies at one place of the picture off the objects, that place is filled in from its
    surroundings in the strategy's images, beside an equal gap elsewhere.

    Parameters
    ----------
    evidence
        Maps and predictions of explained images.
    method
        Text of one of its methods; default: the first that is no control.
    frame
        See `named_strategies`.
    most
        Images a class at most.

    Returns
    -------
    findings
        Of kind ``strategy``: one a class with several, one for all classes with one, and one a fixed place off the objects.
    tables
        ``strategies``: one row a class and strategy; ``strategy_images``: one row an image.
    found
        Class to `Strategies`.
    """
    chosen = method or (evidence.judged[0] if evidence.judged else None)
    if chosen is None:
        return [_refused("no method but controls has a map of every image")], {}, {}
    called = dict(
        zip(evidence.predictions["image"].to_pylist(), evidence.predictions["predicted"].to_pylist(), strict=True)
    )
    findings: list[Finding] = []
    rows: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    found: dict[str, Strategies] = {}
    for number, label in enumerate(evidence.images.classes):
        ids = [name for name in evidence.ids if called.get(name) == number][:most]
        if len(ids) < LEAST_IMAGES:
            continue
        own = named_strategies(
            _on_grid(evidence, chosen, ids), ids, _outlines(evidence, ids), label=label, frame=frame,
            groups=evidence.groups(ids), seed=evidence.seed,
        )  # fmt: skip
        found[label] = own
        tests = {one.group: _edited(evidence, own, one, number) for one in own.named if one.artefact}
        findings += [_several(own, chosen)] if len(own.named) > 1 else []
        findings += [_artefact(own, one, tests[one.group]) for one in own.named if one.artefact]
        rows += [_row(evidence, own, one, tests.get(one.group), chosen) for one in own.named]
        images += [{"image": own.ids[row], "called": label, "strategy": one.group, "name": one.name, "typical": place}
                   for one in own.named for place, row in enumerate(one.rows)]  # fmt: skip
    if not found:
        return [_refused(f"no class is called in {LEAST_IMAGES} explained images or more")], {}, {}
    single = [own for own in found.values() if len(own.named) == 1]
    findings += [_single(single, chosen)] if single else []
    return findings, {"strategies": pa.Table.from_pylist(rows), "strategy_images": pa.Table.from_pylist(images)}, found


def _on_grid(evidence: Evidence, method: str, ids: Sequence[str]) -> Tensor:
    maps, space = evidence.maps(method, ids), evidence.images.shape[1:]
    if maps.ndim != len(space) + 2:
        raise ShapeError(f"maps of {method} have shape {tuple(maps.shape)} and no place on images of {tuple(space)}")
    return resized(maps.double().sum(1, keepdim=True), tuple(space))


def _outlines(evidence: Evidence, ids: Sequence[str]) -> Tensor | None:
    drawn = [evidence.outline(name) for name in ids]
    return None if any(one is None for one in drawn) else torch.stack([one for one in drawn if one is not None])


def _edited(evidence: Evidence, own: Strategies, one: Named, number: int) -> Interval | None:
    """Return how far the log-odds of the called class fall when the place is filled in, beyond the null's fall."""
    edit, falls, units = remove_patch(), [], []
    for row in one.rows[:24]:
        name = own.ids[row]
        image, outline = evidence.images.tensor([name])[0], evidence.outline(name)
        where = one.where if outline is None else one.where & ~outline
        try:
            versions = [
                change(
                    image, where, generator=torch.Generator().manual_seed(hash_seed(evidence.seed, "strategy", name))
                ).image
                for change in (edit, edit.null)
            ]
        except ShapeError:  # the object covers the place, or there is no room for the null
            continue
        odds = evidence.log_odds(torch.stack([image, *versions]), torch.full((3,), number))
        falls.append(float((odds[0] - odds[1]) - (odds[0] - odds[2])))
        units += evidence.groups([name])
    return mean_interval(falls, groups=units, seed=evidence.seed) if len(falls) > 2 else None


def _several(own: Strategies, method: str) -> Finding:
    size = len(own.ids)
    told = "; ".join(f"{one.name} ({len(one.rows)})" for one in own.named)
    return Finding(
        id=f"strategies-{own.label}",
        kind="strategy",
        subject=own.label,
        statement=f"In {size} images that it calls {own.label}, the model decides in {len(own.named)} ways: {told}.",
        evidence=f"Images whose {method} maps lie alike were grouped; the same groups come back in parts of the images (agreement "
        f"{own.clusters.stability:.2f}, 1 is perfect); images that vary without groups come out as far apart with p = {own.clusters.p:.2f}.",
        value=float(len(own.named)),
    )


def _single(found: Sequence[Strategies], method: str) -> Finding:
    told = "; ".join(f"{own.label}: {own.named[0].name} ({len(own.ids)} images)" for own in found)
    return Finding(
        id="strategies-single",
        kind="strategy",
        subject="maps",
        statement=f"No two ways of deciding were told apart among the images of one call. {told}.",
        evidence=f"Images whose {method} maps lie alike were sought, class by class: there are no groups that come back in parts of the "
        "images and lie farther apart than images do that vary without groups. A way that a few per cent of the images go may be missed.",
        verdict="undecided",
    )


def _artefact(own: Strategies, one: Named, fall: Interval | None) -> Finding:
    moved = fall is not None and fall.low > MATTERS
    told = (
        "too few images had room for the test"
        if fall is None
        else f"{own.label} becomes {likelier(-fall.value, -fall.high, -fall.low)}, what the equal gap does taken off"
    )
    where = f"In {len(one.rows)} of {len(own.ids)} images that it calls {own.label}, much of the evidence lies at {one.name}"
    said = "an artefact: filling it in moves the call." if moved else "filling it in was not seen to move the call."
    return Finding(
        id=f"strategy-artefact-{own.label}-{one.group}",
        kind="strategy",
        subject=own.label,
        statement=f"{where}: {said}",
        evidence=f"{100 * one.held:.0f} % of the evidence lies in {100 * float(one.where.double().mean()):.0f} % of the picture; "
        f"filled in from its surroundings, beside an equal gap elsewhere, {told}.",
        value=None if fall is None else fall.value,
        low=None if fall is None else fall.low,
        high=None if fall is None else fall.high,
        verdict="supported" if moved else "undecided",
    )


def _row(evidence: Evidence, own: Strategies, one: Named, fall: Interval | None, method: str) -> dict[str, Any]:
    ids = [own.ids[row] for row in one.rows]
    size = share_interval(len(ids), len(own.ids))
    number = evidence.images.classes.index(own.label)
    known = evidence.images.label(ids) if evidence.images.labels is not None else ()
    right = sum(label == number for label in known) / len(known) if known else None
    return {
        "called": own.label, "strategy": one.group, "name": one.name, "method": method, "images": len(ids), "of": len(own.ids),
        "share": size.value, "share_low": size.low, "share_high": size.high, "right": right,
        "beyond": None if one.beyond is None else one.beyond.value, "lift": one.lift, "held": one.held,
        "fixed": one.artefact, "artefact": fall is not None and fall.low > MATTERS, "stability": own.clusters.stability, "p": own.clusters.p,
        "fall": None if fall is None else fall.value, "fall_low": None if fall is None else fall.low,
        "fall_high": None if fall is None else fall.high, "exemplars": ids[:6],
    }  # fmt: skip


def _refused(reason: str) -> Finding:
    return Finding(
        id="strategies",
        kind="refused",
        subject="maps",
        statement="Whether the model decides in several ways was not asked.",
        evidence=f"Strategies are sought in the maps of one class; {reason}.",
        verdict="undecided",
    )
