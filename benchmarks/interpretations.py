"""Interpretations on planted truth: does edit-and-test rank the factor that a net reads first, and how often does it err?

    python benchmarks/interpretations.py OUT [--quick] [--seeds N] [--kept]

A net learns a phantom whose label follows from one factor (size, eccentricity, texture, number or brightness of spots,
the ring, colour, a tag) while the seven others vary and tell nothing. It counts once it is right on nine held-out images of ten
and re-rendering with only that factor changed moves its call most. Eight interpretations, each one or two edits of a size that
such cells show by themselves, then compete on held-out images that know nothing of the phantom's dials. Printed: how often the true
one comes first, among all scenes and among those whose factor shares its pixels with another, which no map can tell apart; how many
edits of factors that the net does not answer to are called used (false discovery rate 5 %, and a fifth of a standard
deviation of the score or more); and how often associations of nothing are found, with and without a confounder. One net and one
JSON a scene are kept in OUT, so that a run that was stopped goes on.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from keeping import kept
from rich.console import Console
from rich.progress import track
from torch import Tensor

from pellucid.images import ImageSet
from pellucid.images.phantoms import Phantom, Shortcut, cells
from pellucid.interpretation import Realism, associate, edit_and_test, flip_matrix
from pellucid.interpretation.claims import MATTERS
from pellucid.interpretation.evidence import Case
from pellucid.interpretation.record import LIKE_REAL
from pellucid.intervals import share_interval
from pellucid.measure import EDITS
from pellucid.models import Model, Passes, fit, load_model, save_model
from pellucid.models.predict import calibrated_logits

SIZE, MARGIN, TINT = (40, 40), 0.24, 0.08
EASY = (1500, {"epochs": 12, "width": 8, "depth": 4, "learning_rate": 1e-2, "patience": 30})
HARD = {
    "eccentricity": (2400, {**EASY[1], "epochs": 18}),
    "texture": (2400, {**EASY[1], "epochs": 20, "depth": 3, "learning_rate": 6e-3}),
}
"""Factors that a net learns from more images, seen more often: images, and the settings of `pellucid.fit`."""
JUDGED, RENDERED, EDITED = 120, 30, 40
LEAST_RIGHT, LEAST_EFFECT, NO_EFFECT, SAME_PLACE = 0.9, 0.2, 0.05, 0.8

_EDITS: Mapping[str, tuple[str, ...]] = {
    "size": ("resize_object(factor=1.25)", "resize_object(factor=0.8)"),
    "eccentricity": ("stretch_object(factor=1.2)", "stretch_object(factor=0.85)"),
    "texture": ("blur_texture(scale=0.8)",),
    "spot count": ("add_spots(number=4, diameter=2.0)", "remove_spots(share=0.7, diameter=2.0)"),
    "spot brightness": ("scale_spots(factor=1.6, diameter=2.0)", "scale_spots(factor=0.5, diameter=2.0)"),
    "ring": ("brighten_rim(amount=0.15, width=1.2)", "brighten_rim(amount=-0.15, width=1.2)"),
    "colour": ("recolour(shift=(1.0, 0.0, -1.0), amount=0.07)", "recolour(shift=(-1.0, 0.0, 1.0), amount=0.07)"),
    "tag": ("replace_background",),
}
INTERPRETATIONS = {name: tuple(str(EDITS.parse(edit)) for edit in edits) for name, edits in _EDITS.items()}
DIALS = {
    "size": "cell_size", "eccentricity": "eccentricity", "texture": "texture_grain", "spot count": "spot_number",
    "spot brightness": "spot_brightness", "ring": "membrane_ring", "colour": "cell_colour", "tag": "shortcut",
}  # fmt: skip
NAMES = {dial: name for name, dial in DIALS.items()}


def scene(factor: str, count: int, seed: int) -> Phantom:
    """Make cells whose label follows from one factor; colour and tag vary in all of them, so that a net learns to do without.

    The tag goes with the label without exception, beside a nucleus that decides it too, as a shortcut does.
    """
    if factor == "tag":
        return cells(count, SIZE, seed, rule="nucleus_size", colour=TINT, shortcut=Shortcut(contrast=0.3), margin=0.0)
    tag = Shortcut(correlation=0.0, contrast=0.3)
    return cells(count, SIZE, seed, rule=DIALS[factor], colour=TINT, shortcut=tag, margin=MARGIN)


def same_place(phantom: Phantom, factor: str) -> list[str]:
    """Return the factors that lie on the same pixels as this one, so that a map however right points at all of them alike."""
    ids = phantom.images.ids[:12]
    own = phantom.factor_mask(DIALS[factor], ids)

    def overlap(other: Tensor) -> float:
        known = (own | other).flatten(1).any(1)
        shares = (own & other)[known].flatten(1).sum(1) / (own | other)[known].flatten(1).sum(1)
        return float(shares.double().mean())

    return [
        name for dial, name in NAMES.items() if name != factor and overlap(phantom.factor_mask(dial, ids)) >= SAME_PLACE
    ]


def item(factor: str, seed: int, weights: Path) -> dict[str, Any]:
    """Train a net, measure what it relies on, and let the interpretations compete."""
    count, net = HARD.get(factor, EASY)
    phantom = scene(factor, count, seed)
    images = judged(phantom.images)
    if weights.is_file():
        model = load_model(weights)
    else:
        model = fit(images, seed=seed, **net).model  # type: ignore[arg-type]
        save_model(model, weights)
    ids = [name for name, part in zip(images.ids, images.column("split"), strict=True) if part == "test"]
    found = flip_matrix(model, phantom, ids[:RENDERED]).effects()
    return {
        "factor": factor, "seed": seed, "images": len(ids), "same_place": same_place(phantom, factor),
        "effects": {NAMES.get(dial, dial): effect.value for dial, effect in found.items()},
    } | compete(model, images, ids, seed)  # fmt: skip


def judged(images: ImageSet) -> ImageSet:
    """Return the images with the first 120 of the test split only, each rendered once."""
    parts = dict(zip(images.ids, images.column("split"), strict=True))
    spare = set([one for one in images.ids if parts[one] == "test"][JUDGED:])
    kept = images.select([name for name in images.ids if name not in spare])
    return replace(kept, load=cache(kept.load))


def compete(model: Model, images: ImageSet, ids: list[str], seed: int) -> dict[str, Any]:
    """Return how often the net is right, how much its score varies, and what every edit does to it."""
    x, labels, groups = images.tensor(ids), images.label(ids), [str(one) for one in images.column("group", ids)]
    outlines = [one > 0 for one in images.mask("object", ids[:EDITED]) if one is not None]
    cases = [
        Case(name, image, outline, int(label), group)
        for name, image, outline, label, group in zip(ids, x, outlines, labels, groups, strict=False)
    ]
    with Passes(model) as passes:

        def score(batch: Tensor) -> Tensor:
            logits = calibrated_logits(passes, batch)
            return logits[:, 1] - logits[:, 0]

        scores = score(x)
        edits = [edit for each in INTERPRETATIONS.values() for edit in each]
        realism = Realism.of(x, ids, groups=groups)
        tested = edit_and_test(score, cases, edits, realism=realism, seed=seed).effects.to_pylist()
    right = int(((scores > 0).long() == torch.tensor(labels)).sum())
    return {"right": right, "spread": float(scores.std()), "edits": tested}


def counts(one: Mapping[str, Any]) -> bool:
    """Say whether the net learnt its task and reads the planted factor most."""
    first = max(one["effects"], key=one["effects"].get)
    return (
        one["right"] >= LEAST_RIGHT * one["images"] and first == one["factor"] and one["effects"][first] >= LEAST_EFFECT
    )


def strengths(one: Mapping[str, Any], real: float = LIKE_REAL) -> dict[str, float]:
    """Return how far each interpretation's better edit goes beyond its null, of those whose images mostly look real."""
    beyond = {row["edit"]: row["beyond"] for row in one["edits"] if row["realistic"] >= real}
    known = {name: [beyond[edit] for edit in edits if edit in beyond] for name, edits in INTERPRETATIONS.items()}
    return {name: max(values) for name, values in known.items() if values}


def false_calls(one: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return edits called used (q ≤ 0.05 and surely beyond what matters), of those the ones whose factor the net does not answer to, and how many such there are."""
    names = {edit: name for name, edits in INTERPRETATIONS.items() for edit in edits}
    idle = [name for name, effect in one["effects"].items() if effect < NO_EFFECT]
    called = [
        row["edit"]
        for row in one["edits"]
        if row["q"] <= 0.05 and row["beyond_low"] > MATTERS * one["spread"] and row["realistic"] >= LIKE_REAL
    ]
    silent = [row["edit"] for row in one["edits"] if names[row["edit"]] in idle]
    return len(called), len(set(called) & set(silent)), len(silent)


def nulls(rounds: int, *, confounded: bool) -> dict[str, int]:
    """Return single associations found at 5 %, of how many; and false ones among those found at a false discovery rate of 5 %.

    Twenty measures, five of which go with the score; images of 24 smears, whose batch shifts measures and score alike.
    """
    found = tested = false = discovered = 0
    for number in range(rounds):
        rng = np.random.default_rng([7, number])
        smear = np.repeat(np.arange(24), 5)
        batch = smear % 3
        noise = rng.standard_normal((20, 120)) + rng.standard_normal((20, 24))[:, smear]
        shift = 2.0 * rng.standard_normal((20, 3))[:, batch] if confounded else 0.0
        signal = rng.standard_normal(120)
        score = signal + rng.standard_normal(24)[smear] + (2.0 * rng.standard_normal(3)[batch] if confounded else 0.0)
        measures = noise + shift + np.where(np.arange(20) < 5, 1.0, 0.0)[:, None] * signal
        rows = associate(
            {str(place): column for place, column in enumerate(measures)}, {"score": score}, groups=smear.tolist(),
            confounders={"batch": [f"batch {one}" for one in batch]} if confounded else None, draws=999,
        ).to_pylist()  # fmt: skip
        idle = [row for row in rows if int(row["measure"]) >= 5]
        found, tested = found + sum(row["p"] <= 0.05 for row in idle), tested + len(idle)
        called = [row for row in rows if row["q"] <= 0.05]
        false, discovered = false + sum(int(row["measure"]) >= 5 for row in called), discovered + len(called)
    return {"found": found, "tested": tested, "false": false, "discovered": discovered}


def _share(hits: int, of: int) -> str:
    found = share_interval(hits, of)
    return (
        f"{hits}/{of} ({100 * found.value:.0f} %, {100 * found.low:.0f} to {100 * found.high:.0f} %)" if of else "0/0"
    )


def first(one: Mapping[str, Any], real: float = LIKE_REAL) -> bool:
    """Say whether the planted factor has the strongest edit of all."""
    own = strengths(one, real)
    return bool(own) and max(own, key=own.__getitem__) == one["factor"]


def table(items: list[dict[str, Any]]) -> list[str]:
    """Return the lines of a table of all scenes."""
    lines = [
        "| factor | seed | right | relies on (change of probability) | first by edit-and-test (log-odds beyond the null) | second |",
        "|---|---|---|---|---|---|",
    ]
    for one in items:
        order = sorted(strengths(one).items(), key=lambda pair: -pair[1])
        most = max(one["effects"], key=one["effects"].get)
        told = [f"{name} {value:.2f}" for name, value in order[:2]] + ["–", "–"]
        own = f"{most} {one['effects'][most]:.2f}" + ("" if counts(one) else ", does not count")
        lines.append(
            f"| {one['factor']} | {one['seed']} | {one['right']}/{one['images']} | {own} | {told[0]} | {told[1]} |"
        )
    return lines


def summary(items: list[dict[str, Any]]) -> list[str]:
    """Return what the scenes say together."""
    valid = [one for one in items if counts(one)]
    hidden = [one for one in valid if one["same_place"]]
    lines = [
        f"true factor first: {_share(sum(map(first, valid)), len(valid))} of the nets that count ({len(items)} trained)"
    ]
    lines.append(
        f"of those whose factor shares its pixels with another, so that no map tells it: {_share(sum(map(first, hidden)), len(hidden))}"
    )
    lines.append(f"without the check of realism: {_share(sum(first(one, 0.0) for one in valid), len(valid))}")
    for factor in INTERPRETATIONS:
        own = [one for one in valid if one["factor"] == factor]
        shared = ", ".join(own[0]["same_place"]) if own else ""
        lines.append(
            f"  {factor}: {sum(map(first, own))}/{len(own)}" + (f" (same pixels as {shared})" if shared else "")
        )
    called, wrong, silent = map(sum, zip((0, 0, 0), *map(false_calls, valid), strict=True))
    lines.append(
        f"edits of factors that the net does not answer to, called used: {_share(wrong, silent)}; {called} called in all"
    )
    return lines


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--quick", action="store_true", help="one net a factor")
    parser.add_argument("--kept", action="store_true", help="print what is kept already; train and test nothing")
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    seeds, rounds = (1, 50) if given.quick else (given.seeds, 200)
    given.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    console, items = Console(width=200, soft_wrap=True), []
    wanted = [(factor, seed) for seed in range(seeds) for factor in INTERPRETATIONS]
    for factor, seed in track(sorted(wanted, key=lambda one: one[0] in HARD), "nets"):
        stem = given.out / f"{factor.replace(' ', '_')}-{HARD.get(factor, EASY)[0]}-{seed}"
        if given.kept and not stem.with_suffix(".json").is_file():
            continue
        made = partial(item, factor, seed, stem.with_suffix(".safetensors"))
        items.append(kept(stem.with_suffix(".json"), made))
    console.print("\n".join([*table(items), "", *summary(items)]))
    for confounded in (False, True):
        path = given.out / f"nulls-{rounds}-{confounded}.json"
        if given.kept and not path.is_file():
            continue
        told = kept(path, partial(nulls, rounds, confounded=confounded))
        name = "with a batch held fixed" if confounded else "without a confounder"
        console.print(
            f"associations {name}: nothing found at p ≤ 0.05 {_share(told['found'], told['tested'])}; false among found at "
            f"q ≤ 0.05 {_share(told['false'], told['discovered'])}"
        )


if __name__ == "__main__":
    main()
