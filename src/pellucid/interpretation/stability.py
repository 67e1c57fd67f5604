"""Whether a method's maps hold for the task or for one net and one setting only."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pellucid.attribution import METHODS, Explanation
from pellucid.evaluation.disagreement import Agreement, agree
from pellucid.evaluation.sweep import several_settings
from pellucid.interpretation.evidence import Evidence
from pellucid.interpretation.finding import Finding
from pellucid.intervals import Interval, mean_interval

__all__ = ["ALIKE", "find_setting_spread", "find_stability", "untested_settings"]

ALIKE = 0.5
"""Rank correlation under which two maps of one image are called different maps, and above which much the same."""

_MEASURES = {
    "l2": "repeat_training",
    "correlation": 'repeat_training(distance="correlation")',
    "density": "region_shares",
    "sum": 'region_shares(of="sum")',
}
_MOST = 64


def find_stability(evidence: Evidence) -> tuple[list[Finding], pa.Table]:
    """Say of each method whether nets that learnt the task again, and as well, get its maps too.

    Parameters
    ----------
    evidence
        Its `repeats` and `nets` say what was trained again.

    Returns
    -------
    findings
        ``unstable`` where the maps of equally accurate nets differ, ``failed_sanity`` where a net that learnt shuffled
        labels gets much the same map; ``refused`` where no net is as accurate as the explained one.
    table
        One row a method and measure (``l2``, ``correlation``, overlap of top regions by ``density`` and by ``sum``,
        ``shuffled``: the correlation with the net of shuffled labels): value, low, high, chance, nets, images.
    """
    if not evidence.nets.num_rows:
        return [], pa.table({})
    nets = evidence.nets.to_pylist()
    equal = [net["model"] for net in nets if net["equal"] and not net["shuffled"]]
    shuffled = [net["model"] for net in nets if net["shuffled"]]
    findings = [] if equal or len(shuffled) == len(nets) else [_no_equal(nets)]
    rows = []
    for method in evidence.judged:
        found = {name: _measured(evidence, method, metric, equal) for name, metric in _MEASURES.items() if equal}
        if shuffled:
            found["shuffled"] = _measured(evidence, method, _MEASURES["correlation"], shuffled)
        rows += [
            _row(method, name, *each, len(shuffled if name == "shuffled" else equal)) for name, each in found.items()
        ]
        findings += _judged(method, {name: interval for name, (interval, _) in found.items()}, len(equal))
    return findings, pa.Table.from_pylist(rows)


def _measured(evidence: Evidence, method: str, metric: str, models: Sequence[str]) -> tuple[Interval, float | None]:
    """Return the mean over images of the mean over models, distances turned into correlations, and its chance level."""
    table = evidence.repeats
    kept = pc.and_(pc.equal(table["method"], method), pc.equal(table["metric"], metric))
    kept = pc.and_(kept, pc.and_(pc.is_in(table["model"], pa.array(models, pa.string())), pc.is_valid(table["value"])))
    rows = table.filter(kept).group_by("image", use_threads=False).aggregate([("value", "mean"), ("chance", "mean")])
    turned = metric == _MEASURES["correlation"]
    values, chance = (np.asarray(rows[name].to_numpy(), dtype=float) for name in ("value_mean", "chance_mean"))
    interval = mean_interval(
        1 - values if turned else values, groups=evidence.groups(rows["image"].to_pylist()), seed=evidence.seed
    )
    return interval, (float(np.mean(1 - chance if turned else chance)) if len(chance) else None)


def _row(method: str, measure: str, interval: Interval, chance: float | None, nets: int) -> dict[str, object]:
    low, high = (None if np.isnan(bound) else bound for bound in (interval.low, interval.high))
    value = None if np.isnan(interval.value) else interval.value
    return {"method": method, "measure": measure, "value": value, "low": low, "high": high, "chance": chance, "nets": nets,
            "images": interval.n}  # fmt: skip


def _judged(method: str, found: dict[str, Interval], nets: int) -> list[Finding]:
    findings = []
    again, shuffled = found.get("correlation"), found.get("shuffled")
    if again is not None and again.high < ALIKE:
        findings.append(_unstable_nets(method, found, nets))
    if shuffled is not None and shuffled.low > ALIKE:
        told = "" if again is None else f"; with nets of the true labels {again}"
        findings.append(Finding(
            id=f"failed_sanity-shuffled-{method}", kind="failed_sanity", subject=method,
            statement=f"{method} draws much the same map for a net that was trained on shuffled labels: it shows the image more "
            "than what was learnt.",
            evidence=f"Rank correlation with the maps of the net of shuffled labels: {shuffled} on {shuffled.n} images{told}.",
            value=shuffled.value, low=shuffled.low, high=shuffled.high,
        ))  # fmt: skip
    return findings


def _unstable_nets(method: str, found: dict[str, Interval], nets: int) -> Finding:
    again, regions = found["correlation"], found["density"]
    reading = (
        f"pixel by pixel, though {100 * regions.value:.0f} % of its top regions stay: read it by region, not by pixel"
        if regions.low > ALIKE
        else "and in other regions: what it shows holds for this net, not for the task"
    )
    return Finding(
        id=f"unstable-nets-{method}", kind="unstable", subject=method,
        statement=f"{method} draws another map for other nets that learnt the same task as well, {reading}.",
        evidence=f"Rank correlation with the maps of {nets} equally accurate nets from other seeds: {again} on {again.n} "
        f"images (the same map: 1, unrelated maps: 0); distance at unit norm {found['l2']}, top regions in common "
        f"{found['density']} by density, {found['sum']} by sum. Nets may rightly differ in what they use.",
        value=again.value, low=again.low, high=again.high,
    )  # fmt: skip


def _no_equal(nets: Sequence[dict[str, object]]) -> Finding:
    told = ", ".join(f"{net['model']} {net['difference']:+.3f}" for net in nets if not net["shuffled"])
    return Finding(
        id="stability-untested",
        kind="refused",
        subject="model",
        statement="Whether the maps hold for other nets of this task was not told: no net that learnt it again is as accurate.",
        evidence=f"Accuracy against the explained net's, paired by image: {told}; no interval holds 0.",
        verdict="undecided",
    )


def find_setting_spread(evidence: Evidence) -> tuple[list[Finding], pa.Table]:
    """Say of each method that a study uses under several settings how far its maps depend on them.

    Returns
    -------
    findings
        ``unstable`` where the maps of two settings have, on the mean over pairs, a rank correlation under `ALIKE`.
    table
        One row a pair of settings: name, first, second, correlation with low and high, overlap of the top tenth, images.
    """
    findings, rows = [], []
    known = [text for text in evidence.judged if text.split("(")[0] in METHODS]  # a given map has no settings
    for name, recipes in several_settings(known).items():
        texts, ids = [str(recipe) for recipe in recipes], evidence.ids[:_MOST]
        found = _agreement(evidence, texts, ids)
        called = dict(zip(found.methods, texts, strict=True))
        pairs = [row | {side: called[row[side]] for side in ("first", "second")} for row in found.table.to_pylist()]
        correlation = [row for row in pairs if row["measure"] == "correlation" and row["value"] is not None]
        overlap = [row for row in pairs if row["measure"] == "feature"]
        by_image = {image: [row["value"] for row in correlation if row["image"] == image] for image in ids}
        means = {image: float(np.mean(values)) for image, values in by_image.items() if values}
        whole = mean_interval(list(means.values()), groups=evidence.groups(list(means)), seed=evidence.seed)
        rows += _pair_rows(evidence, name, correlation, overlap)
        if whole.high < ALIKE:
            findings.append(_unstable_setting(name, texts, whole))
    return findings, pa.Table.from_pylist(rows)


def untested_settings(reason: str) -> Finding:
    """Return the finding that says why nothing can be said."""
    return Finding(
        id="settings-untested",
        kind="refused",
        subject="settings",
        statement="How far the maps depend on the settings of a method was not told.",
        evidence=f"The maps of two settings could not be compared: {reason}.",
        verdict="undecided",
    )


def _agreement(evidence: Evidence, texts: Sequence[str], ids: Sequence[str]) -> Agreement:
    x, classes = evidence.images.tensor(ids), dict(zip(*_columns(evidence, "predicted"), strict=True))
    target = [int(classes[image]) for image in ids]
    given = [
        Explanation.from_values(evidence.maps(text, ids), evidence.model, x, target=target, name=text, ids=ids)
        for text in texts
    ]
    return agree(given, x)


def _columns(evidence: Evidence, name: str) -> tuple[list[str], list[int]]:
    return evidence.predictions["image"].to_pylist(), evidence.predictions[name].to_pylist()


def _pair_rows(
    evidence: Evidence, name: str, correlation: Sequence[dict[str, Any]], overlap: Sequence[dict[str, Any]]
) -> list[dict[str, object]]:
    rows = []
    for first, second in dict.fromkeys((row["first"], row["second"]) for row in correlation):
        own = [row for row in correlation if (row["first"], row["second"]) == (first, second)]
        top = [row["value"] for row in overlap if (row["first"], row["second"]) == (first, second)]
        groups = evidence.groups([str(row["image"]) for row in own])
        found = mean_interval([row["value"] for row in own], groups=groups, seed=evidence.seed)
        low, high = (None if np.isnan(bound) else bound for bound in (found.low, found.high))
        known = [value for value in top if value is not None]
        rows.append({"name": name, "first": first, "second": second, "correlation": found.value,
                     "low": low, "high": high, "overlap": float(np.mean(known)) if known else None,
                     "images": found.n})  # fmt: skip
    return rows


def _unstable_setting(name: str, texts: Sequence[str], whole: Interval) -> Finding:
    return Finding(
        id=f"unstable-settings-{name}", kind="unstable", subject=name,
        statement=f"The map of {name} depends on its settings here: {', '.join(texts)} draw different maps of the same images.",
        evidence=f"Mean rank correlation of every two of them: {whole} on {whole.n} images (limit {ALIKE:g}).",
        value=whole.value, low=whole.low, high=whole.high,
    )  # fmt: skip
