"""Interpretations on planted truth: does edit-and-test rank the factor that a net reads first, and how often does it err?

    python benchmarks/interpretations.py OUT [--quick] [--seeds N]

A net learns a phantom whose label follows from one factor (size, eccentricity, texture, number or brightness of spots,
the ring, colour, a tag). It counts once it is right on nine held-out images of ten and re-rendering with only that factor
changed moves its call most. Eight interpretations, each one or two edits, then compete on held-out images that know
nothing of the phantom's dials. Printed: how often the true one comes first, alone and among all; how many edits of factors
that the net does not answer to are called used (false discovery rate 5 %, and
a fifth of a standard deviation of the score or more); and how often associations of nothing are
found, with and without a confounder. One JSON a net is kept in OUT, so that a run that was stopped goes on.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from pellucid.hashing import hash_seed
from pellucid.images import ImageSet
from pellucid.images.phantoms import Phantom, Shortcut, cells
from pellucid.interpretation import associate, edit_and_test, flip_matrix
from pellucid.interpretation.claims import MATTERS
from pellucid.interpretation.evidence import Case
from pellucid.intervals import share_interval
from pellucid.models import Model, Passes, fit, load_model, save_model
from pellucid.models.predict import calibrated_logits

SIZE, LEAST_RIGHT, LEAST_EFFECT, NO_EFFECT = (48, 48), 0.9, 0.2, 0.05
TINT = np.array([0.08, 0.0, -0.08], dtype=np.float32)

INTERPRETATIONS: Mapping[str, tuple[str, ...]] = {
    "size": ("resize_object(factor=1.25)", "resize_object(factor=0.8)"),
    "eccentricity": ("stretch_object(factor=1.3)", "stretch_object(factor=0.8)"),
    "texture": ("blur_texture(scale=1.0)",),
    "spot count": ("add_spots(number=4)", "remove_spots(share=0.7)"),
    "spot brightness": ("scale_spots(factor=1.6)", "scale_spots(factor=0.5)"),
    "ring": ("brighten_rim(amount=0.2)", "brighten_rim(amount=-0.2)"),
    "colour": ("recolour(shift=(1.0, 0.0, -1.0), amount=0.1)", "recolour(shift=(-1.0, 0.0, 1.0), amount=0.1)"),
    "tag": ("replace_background",),
}
DIALS = {
    "size": "cell_size", "eccentricity": "eccentricity", "texture": "texture_grain", "spot count": "spot_number",
    "spot brightness": "spot_brightness", "ring": "membrane_ring", "tag": "shortcut",
}  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """Images whose label follows from one factor."""

    factor: str
    phantom: Phantom
    images: ImageSet

    @classmethod
    def of(cls, factor: str, count: int, seed: int) -> "Scene":
        """Make the phantom; colour, which it has no dial for, is laid on by hand, at random and then as the label says."""
        if factor == "colour":
            phantom = cells(count, SIZE, seed, rule="spot_number")
            return cls(factor, phantom, _tinted(phantom, seed))
        tag = Shortcut(correlation=1.0, contrast=0.3) if factor == "tag" else None
        phantom = cells(count, SIZE, seed, rule="nucleus_size" if factor == "tag" else DIALS[factor], shortcut=tag)
        return cls(factor, phantom, phantom.images)


def _tinted(phantom: Phantom, seed: int) -> ImageSet:
    """Return the phantom's images with a colour of the cell that decides a label of its own."""
    labels = tuple(hash_seed(seed, name) % 2 for name in phantom.images.ids)
    sign = dict(zip(phantom.images.ids, (2 * label - 1 for label in labels), strict=True))
    return replace(phantom.images, labels=labels, load=lambda name: tinted(phantom, name, sign[name]))


def tinted(phantom: Phantom, name: str, sign: int) -> Tensor:
    """Return one cell, reddish or bluish."""
    inside = phantom.factor_mask("object", [name])[0]
    return phantom.images.load(name) + sign * torch.from_numpy(TINT)[:, None, None] * inside


def effects(scene: Scene, model: Model, ids: Sequence[str]) -> dict[str, float]:
    """Return how far each factor moves the net's probability when it alone is re-rendered: the truth."""
    if scene.factor == "colour":
        with Passes(model) as passes:
            one, other = (
                calibrated_logits(passes, torch.stack([tinted(scene.phantom, name, sign) for name in ids])).softmax(1)[
                    :, 1
                ]
                for sign in (1, -1)
            )
        return {"colour": float((one - other).abs().mean())}
    dials = {dial: name for name, dial in DIALS.items()}
    found = flip_matrix(model, scene.phantom, ids).effects()
    return {dials.get(dial, dial): effect.value for dial, effect in found.items()}


def item(factor: str, count: int, seed: int, weights: Path, epochs: int) -> dict[str, Any]:
    """Train a net, measure what it relies on, and let the interpretations compete."""
    scene = Scene.of(factor, count, seed)
    images = scene.images
    if weights.is_file():
        model = load_model(weights)
    else:
        model = fit(images, epochs=epochs, seed=seed, width=12, depth=3, learning_rate=4e-3).model
        save_model(model, weights)
    ids = [name for name, part in zip(images.ids, images.column("split"), strict=True) if part == "test"]
    x, labels = images.tensor(ids), np.array(images.label(ids))
    with Passes(model) as passes:
        right = int((calibrated_logits(passes, x).argmax(1).numpy() == labels).sum())
        own = effects(scene, model, ids[:30])
        cases = [
            Case(name, image, outline, int(label), str(group))
            for name, image, outline, label, group in zip(
                ids, x, scene.phantom.factor_mask("object", ids), labels, images.column("group", ids), strict=True
            )
        ]  # fmt: skip

        def score(batch: Tensor) -> Tensor:
            logits = calibrated_logits(passes, batch)
            return logits[:, 1] - logits[:, 0]

        spread = float(score(x).std())
        edits = [edit for each in INTERPRETATIONS.values() for edit in each]
        tested = edit_and_test(score, cases[:60], edits, seed=seed).effects.to_pylist()
    return {
        "factor": factor,
        "seed": seed,
        "right": right,
        "images": len(ids),
        "effects": own,
        "edits": tested,
        "spread": spread,
    }


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what is in the file, made first where it is not there yet."""
    if not path.is_file():
        begun = path.with_suffix(".part")
        begun.write_text(json.dumps(make(), ensure_ascii=False))
        begun.replace(path)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def counts(one: Mapping[str, Any]) -> bool:
    """Say whether the net learnt its task and reads the planted factor most."""
    first = max(one["effects"], key=one["effects"].get)
    return (
        one["right"] >= LEAST_RIGHT * one["images"] and first == one["factor"] and one["effects"][first] >= LEAST_EFFECT
    )


def strengths(one: Mapping[str, Any]) -> dict[str, float]:
    """Return how far each interpretation's better edit goes beyond its null."""
    beyond = {row["edit"]: row["beyond"] for row in one["edits"]}
    known = {name: [beyond[edit] for edit in edits if edit in beyond] for name, edits in INTERPRETATIONS.items()}
    return {name: max(values) for name, values in known.items() if values}


def false_calls(one: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return edits called used (q ≤ 0.05 and surely beyond what matters), of those the ones whose factor the net does not answer to, and how many such there are."""
    names = {edit: name for name, edits in INTERPRETATIONS.items() for edit in edits}
    idle = [name for name, effect in one["effects"].items() if effect < NO_EFFECT]
    called = [row["edit"] for row in one["edits"] if row["q"] <= 0.05 and row["beyond_low"] > MATTERS * one["spread"]]
    silent = [row["edit"] for row in one["edits"] if names[row["edit"]] in idle]
    return len(called), len(set(called) & set(silent)), len(silent)


def nulls(rounds: int, *, confounded: bool) -> tuple[int, int, int, int]:
    """Return single associations found at 5 %, of how many; and false ones among those found at a false discovery rate of 5 %.

    Twenty measures, five of which go with the score; images of twelve smears, whose batch shifts measures and score alike.
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
    return found, tested, false, discovered


def _share(hits: int, of: int) -> str:
    found = share_interval(hits, of)
    return (
        f"{hits}/{of} ({100 * found.value:.0f} %, {100 * found.low:.0f} to {100 * found.high:.0f} %)" if of else "0/0"
    )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--quick", action="store_true", help="one small net a factor")
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    count, epochs, seeds, rounds = (700, 14, 1, 50) if given.quick else (1500, 16, given.seeds, 200)
    given.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    console = Console(width=150)
    items = []
    for factor, seed in track([(factor, seed) for seed in range(seeds) for factor in INTERPRETATIONS], "nets"):
        stem = given.out / f"{factor.replace(' ', '_')}-{count}-{seed}"
        weights = stem.with_suffix(".safetensors")
        items.append(kept(stem.with_suffix(".json"), lambda f=factor, s=seed, w=weights: item(f, count, s, w, epochs)))  # type: ignore[misc]
    console.print(
        "| factor | seed | right | relies on (change of probability) | first by edit-and-test (log-odds beyond the null) | second |"
    )
    console.print("|---|---|---|---|---|---|")
    for one in items:
        order = sorted(strengths(one).items(), key=lambda pair: -pair[1])
        first = max(one["effects"], key=one["effects"].get)
        told = [f"{name} {value:.2f}" for name, value in order[:2]]
        own = f"{first} {one['effects'][first]:.2f}" + ("" if counts(one) else ", does not count")
        console.print(
            f"| {one['factor']} | {one['seed']} | {one['right']}/{one['images']} | {own} | {told[0]} | {told[1]} |"
        )
    valid = [one for one in items if counts(one)]
    first_right = sum(max(strengths(one), key=strengths(one).__getitem__) == one["factor"] for one in valid)
    called, wrong, silent = (
        (sum(column) for column in zip(*map(false_calls, valid), strict=True)) if valid else (0, 0, 0)
    )
    console.print(
        f"\ntrue factor first: {_share(first_right, len(valid))} of the nets that count ({len(items)} trained)"
    )
    console.print(
        f"edits of factors that the net does not answer to, called used: {_share(wrong, silent)}; {called} called in all"
    )
    for confounded in (False, True):
        found, tested, false, discovered = nulls(rounds, confounded=confounded)
        name = "with a batch held fixed" if confounded else "without a confounder"
        console.print(
            f"associations {name}: nothing found at p ≤ 0.05 {_share(found, tested)}; false among found at q ≤ 0.05 {_share(false, discovered)}"
        )


if __name__ == "__main__":
    main()
