"""What moved phenotypes, frozen phenotypes and the court allow one to say, in sentences."""

from dataclasses import replace
from typing import Any

from pellucid.interpretation.finding import Finding
from pellucid.interpretation.phenotypes import LEAST_SKILL, Court, DoseResponse, LatentCauses, Necessity
from pellucid.interpretation.phenotypes.necessity import ALL, CONTROL
from pellucid.intervals import Interval

__all__ = ["phenotype_findings"]

_MOST = 8
_NEEDED = 0.2
_OUTLINED = 0.7
_ALONE = " This is of the model alone: nothing follows for its classes."


def phenotype_findings(
    doses: DoseResponse,
    needed: Necessity | None = None,
    causes: LatentCauses | None = None,
    judged: Court | None = None,
    *,
    batch: str | None = None,
    outlines: Interval | None = None,
    learnt: Interval | None = None,
) -> list[Finding]:
    """Turn the phenotypes' numbers into findings, of kind ``interpretation``, ``inseparable``, ``confounder`` or ``refused``.

    Parameters
    ----------
    doses, needed, causes, judged
        Results of `pellucid.interpretation.phenotypes`.
    batch
        Name of the batch's column.
    outlines
        How far the segmentation agrees with the given mask.
    learnt
        By how much the model beats chance, see `skill`; of a model that does not, nothing follows but what it does itself.
    """
    called, shared = doses.moving()[:_MOST], doses.unspecific()
    found = [_moves(doses, row) for row in called] or [_nothing(doses)]
    found += [_shared(doses, row) for row in shared[: _MOST - len(called)]]
    if learnt is not None and not learnt.low > LEAST_SKILL:
        found = [
            _unlearnt(learnt),
            *(replace(one, verdict="undecided", statement=one.statement + _ALONE) for one in found),
        ]
    if outlines is not None and outlines.value < _OUTLINED:
        found.append(_outlined(outlines))
    if needed is not None:
        found += [_needed(needed, row) for row in needed.table.to_pylist() if _is_needed(row)] + [_known(needed)]
    if causes is not None and any(row["correct"] is False for row in causes.causes.to_pylist()):
        found.append(_mistakes(causes))
    if judged is not None:
        found += [_court(row, batch or "the batch") for row in judged.table.to_pylist()]
    return found


def _bounds(low: float | None, high: float | None, groups: int) -> str:
    return (
        f"no interval from {groups} group{'' if groups == 1 else 's'}"
        if low is None
        else f"95 % interval {low:.2g} to {high:.2g}"
    )


def _moves(doses: DoseResponse, row: dict[str, Any]) -> Finding:
    unit = "" if row["unit"] == "1" else f" {row['unit']}"
    one = f"one standard deviation ({row['sd']:.3g}{unit})"
    apart = row["verdict"] != "not separable"
    held = (
        " With the others left free it does not: it may be one of those under another name."
        if row["verdict"] == "with others held" else ""
    )  # fmt: skip
    among = "" if not row["same"] else f" These data cannot tell it from {row['same']}."
    return Finding(
        id=f"phenotype-{row['phenotype']}-{row['target']}", kind="interpretation" if apart else "inseparable",
        subject=row["phenotype"],
        statement=f"The model follows {row['phenotype']}: {one} more of it {'raises' if row['slope'] > 0 else 'lowers'} the {doses.unit} of "
        f"{row['target']} by {abs(row['slope']):.3g}, {abs(row['slope']) / max(row['spread'], 1e-12):.2f} of its spread over images.{held}{among}",
        evidence=f"It was changed in {row['images']} real images of {row['groups']} groups by a generator, measured again, and the model was read: "
        f"slope {row['slope']:+.3g} a measured standard deviation ({_bounds(row['low'], row['high'], row['groups'])}), the same sign in "
        f"{row['agreeing']}/{row['groups']} groups; with the others left free {row['alone']:+.2g}. 95 % of phenotypes dealt out to other images stay "
        f"under {row['null']:.2g}; arbitrary ways of the same length move the score as much with q = {row['q']:.2g} (step-down over all phenotypes).",
        value=row["slope"], low=row["low"], high=row["high"],
    )  # fmt: skip


def _shared(doses: DoseResponse, row: dict[str, Any]) -> Finding:
    told = _moves(doses, row)
    return replace(
        told, verdict="undecided", statement=f"{told.statement} So do ways of the same length that mean nothing: it is one of many, and not called a cause."
    )  # fmt: skip


def _unlearnt(learnt: Interval) -> Finding:
    return Finding(
        id="phenotypes-unlearnt", kind="refused", subject="phenotypes", verdict="undecided",
        statement="The model was not seen to know its classes better than chance on images that it was not trained on: what it follows "
        "says something of the model and nothing of the classes.",
        evidence=f"Balanced accuracy above chance, as a share of what is left above it: {learnt} ({learnt.n} images of {learnt.groups} groups).",
        value=learnt.value, low=learnt.low, high=learnt.high,
    )  # fmt: skip


def _nothing(doses: DoseResponse) -> Finding:
    rows = doses.table.to_pylist()
    stuck = [row["phenotype"] for row in rows if row["verdict"] in {"not moved", "not held"}]
    more = f" Not moved by this generator, so not tested: {', '.join(dict.fromkeys(stuck))}." if stuck else ""
    return Finding(
        id="phenotype-none", kind="interpretation", subject="phenotypes", verdict="undecided",
        statement="No phenotype was seen to move the model more than meaningless directions do.",
        evidence=f"{len(rows)} phenotypes and classes were tried.{more}",
    )  # fmt: skip


def _outlined(outlines: Interval) -> Finding:
    return Finding(
        id="phenotype-outlines", kind="refused", subject="segmentation", verdict="undecided",
        statement="The segmentation that measures generated images does not outline what the mask outlines; sizes and shapes are those of "
        "something else.",
        evidence=f"Overlap over union with the mask on real images: {outlines} ({outlines.n} images).",
        value=outlines.value, low=outlines.low, high=outlines.high,
    )  # fmt: skip


def _is_needed(row: dict[str, Any]) -> bool:
    return row["held"] not in {ALL, CONTROL} and row["needed"] is not None and (row["low"] or 0.0) > _NEEDED


def _needed(needed: Necessity, row: dict[str, Any]) -> Finding:
    control = next(one for one in needed.table.to_pylist() if one["held"] == CONTROL)
    return Finding(
        id=f"needed-{row['held']}", kind="interpretation", subject=row["held"],
        statement=f"The model's answer needs a change of {row['held']}: with it held where it is, {100 * row['needed']:.0f} % of the images "
        "that could be brought to another answer no longer can.",
        evidence=f"{row['images']} images of {row['groups']} groups ({_bounds(row['low'], row['high'], row['groups'])}); with a meaningless "
        f"direction held instead: {100 * control['needed']:.0f} %. Measured again, it changed by {row['drift']:.2g} standard deviations when held, "
        f"{row['drift_free']:.2g} when free.",
        value=row["needed"], low=row["low"], high=row["high"],
    )  # fmt: skip


def _known(needed: Necessity) -> Finding:
    one = needed.known_moves
    return Finding(
        id="phenotypes-known", kind="interpretation", subject="known and new",
        statement=f"The listed measurements tell {100 * max(one.value, 0):.0f} % of the score's movement on the way to another answer; the rest is "
        "something that was not listed.",
        evidence=f"Out of sample, {one.n} images of {one.groups} groups: {one}. Over real images they tell {100 * max(needed.known_real, 0):.0f} % of the "
        f"score's variance; {100 * needed.flips.value:.0f} % of the images were brought to another answer.",
        value=one.value, low=one.low, high=one.high, verdict="supported" if one.value > 0 else "undecided",
    )  # fmt: skip


def _mistakes(causes: LatentCauses) -> Finding:
    wrong = [row for row in causes.causes.to_pylist() if row["correct"] is False]
    names = [row["name"] for row in wrong]
    counts = sorted({name: names.count(name) for name in names}.items(), key=lambda item: -item[1])
    return Finding(
        id="phenotypes-mistakes", kind="interpretation", subject="wrong calls", verdict="undecided",
        statement=f"What speaks most for the model's {len(wrong)} wrong calls among the moved images: "
        f"{', '.join(f'{name} ({count})' for name, count in counts[:4])}.",
        evidence=f"Shapley values of phenotype axes against other real images; {causes.causes.num_rows} images.",
    )  # fmt: skip


def _court(row: dict[str, Any], batch: str) -> Finding:
    name = f"{batch} {row['batch']}"
    if row["verdict"] == "not separable by association":
        return Finding(
            id=f"court-{row['batch']}", kind="confounder", subject=name, verdict="undecided",
            statement=f"Classes and {name} go together in these images: what belongs to which is not separable by association. Only edits of "
            "regions can say more.",
            evidence=f"Classes leave {100 * row['left']:.0f} % of its variation.",
        )  # fmt: skip
    if row["verdict"] == "not readable":
        return Finding(
            id=f"court-{row['batch']}", kind="confounder", subject=name, verdict="refuted",
            statement=f"Within classes, {name} leaves no trace that the generator's latents hold, so the model cannot be seen to follow it.",
            evidence=f"R² {row['readable']:.2f} on groups left out.",
        )  # fmt: skip
    shares = row["verdict"] == "shared"
    with_ = f" Both change {row['shared']}." if row["shared"] else ""
    told = f"runs along that of {name}" if shares else f"was not seen to run along that of {name}"
    return Finding(
        id=f"court-{row['batch']}", kind="confounder", subject=name, verdict="supported" if shares else "refuted",
        statement=f"The model's way from an image to another answer {told}.{with_}",
        evidence=f"Cosine of the two ways {row['overlap']:+.2f} ({_bounds(row['low'], row['high'], row['groups'])}; batches dealt to other groups "
        f"stay under {row['null']:.2f}, p = {row['p']:.2g}), {row['images']} images. A step along the batch's way changes the score by "
        f"{row['pull']:+.2g} (p = {row['pull_p']:.2g}).",
        value=row["overlap"], low=row["low"], high=row["high"],
    )  # fmt: skip
