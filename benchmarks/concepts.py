"""Planted truth for concepts, similar cases and strategies, over seeds.

    python benchmarks/concepts.py [quick | full] [FOLDER]

Each seed trains the reference net on a phantom whose cue is known, and asks what the net then answers: is the planted concept
found and an absent one not, does the layer that reads texture come before the one that reads shape, do parts without labels
lie on the cue, do the nearest cases share it, and does a planted tag come back as a strategy of its own, confirmed by an edit? Prints shares as
k/n and means with 95 % intervals over seeds. Every seed is kept in FOLDER (default ``concepts_benchmark``) as soon as it is
done, so that a run that was cut off goes on.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from keeping import kept

from pellucid.attribution import explain
from pellucid.concepts import Concepts, concept_relevance, discover_concepts
from pellucid.evaluation.ranking import RANKING
from pellucid.evaluation.scores import SCHEMA
from pellucid.examples import similar_cases
from pellucid.images import ImageSet, phantoms
from pellucid.interpretation import Evidence, find_strategies
from pellucid.intervals import mean_interval, share_interval
from pellucid.models import Fitted, fit, predict

SEEDS = {"quick": 1, "full": 5}
CUES = ("membrane_ring", "spot_number", "nucleus_size")
NULLS = 20


def _fitted(images: ImageSet, seed: int) -> Fitted:
    return fit(images, epochs=14, width=8, depth=3, seed=seed)


def _held(images: ImageSet) -> list[str]:
    return [name for name, part in zip(images.ids, images.column("split"), strict=True) if part != "train"]


def _factors(phantom: phantoms.Phantom) -> dict[str, np.ndarray]:
    return {name: np.array(phantom.factors[name].to_pylist(), float) for name in phantom.factors.column_names[1:]}


def cue(seed: int, name: str) -> dict[str, Any]:
    """Train on one cue; ask for it as a set and as a measure, beside columns that are not in the images."""
    phantom = phantoms.cells(600, size=(32, 32), seed=seed, rule=name)
    fitted, factors, ids = _fitted(phantom.images, seed), _factors(phantom), _held(phantom.images)
    random = np.random.default_rng(seed)
    middle = np.median(factors[name])
    columns = {"set": (factors[name] > middle).astype(float), "measure": factors[name]}
    columns |= {f"null {place}": random.normal(size=len(phantom.images)) for place in range(NULLS)}
    columns |= {f"null set {place}": random.integers(0, 2, len(phantom.images)).astype(float) for place in range(NULLS)}
    layers = ("stem", "stages.0", "stages.1", "stages.2")
    found = concept_relevance(
        fitted.model, phantom.images, Concepts.of(phantom.images.ids, columns), layers, ids=ids, classes=[1],
        groups=phantom.images.column("group", ids), runs=999, draws=50, seed=seed,
    ).table.to_pylist()  # fmt: skip
    deep = {row["concept"]: row for row in found if row["layer"] == "stages.2"}
    nulls = [row for row in found if row["concept"].startswith("null")]
    noise = [row for row in found if row["concept"].startswith("null") and row["br"] is not None]
    cases = similar_cases(fitted.model, phantom.images, ids, ids=ids, groups=phantom.images.column("group", ids))
    shared = {factor: dict(zip(phantom.images.ids, values, strict=True)) for factor, values in factors.items()}
    treated = [one for one, label in zip(ids, phantom.images.label(ids), strict=True) if label == 1][:24]
    parts = discover_concepts(fitted.model, phantom.images, "stages.1", ids=treated, target=1, concepts=6, samples=8)
    mask = phantom.factor_mask(name, treated)
    return {
        "accuracy": fitted.performance.accuracy.value,
        "set_score": deep["set"]["score"], "set_called": deep["set"]["significant"],
        "measure_called": deep["measure"]["significant"], "right_sign": deep["measure"]["effect"] > 0,
        "null_called": sum(row["significant"] for row in nulls), "nulls": len(nulls),
        "br_covers_zero": sum(row["br_low"] <= 0 <= row["br_high"] for row in noise), "brs": len(noise),
        "p5_label": _over(cases.precision(dict(zip(ids, map(float, phantom.images.label(ids)), strict=True)))),
        "p5_cue": _over(cases.precision(shared[name], bins=3)),
        "p5_texture": _over(cases.precision(shared["texture_grain"], bins=3)),
        "part_lift": _best_lift(parts, mask),
    }  # fmt: skip


def _over(found: Any) -> float:
    return float(found.value.value - found.chance)


def _lift(shown: torch.Tensor, mask: torch.Tensor) -> float:
    return float((shown & mask).sum() / shown.sum().clamp_min(1) / mask.double().mean())


def _best_lift(parts: Any, mask: torch.Tensor) -> float:
    """Return the best mean lift among the three leading parts that speak for the class."""
    leading = [row["concept"] for row in parts.table.to_pylist() if row["effect"] > 0][:3]
    return max(
        (float(np.mean([_lift(parts.mask(part, row), mask[row]) for row in range(len(mask))])) for part in leading),
        default=0.0,
    )


def depth(seed: int) -> dict[str, Any]:
    """Train on texture or on size; say in which layer each is told best."""
    found = {}
    for name in ("texture_grain", "cell_size"):
        phantom = phantoms.cells(600, size=(32, 32), seed=seed, rule=name)
        fitted, factors, ids = _fitted(phantom.images, seed), _factors(phantom), _held(phantom.images)
        layers = ("stem", "stages.0", "stages.1", "stages.2")
        rows = concept_relevance(
            fitted.model, phantom.images, Concepts.of(phantom.images.ids, {name: factors[name]}), layers, ids=ids, classes=[1],
            runs=19, draws=10, seed=seed,
        ).table.to_pylist()  # fmt: skip
        best = max(row["fit"] for row in rows)
        found[name] = next(row["depth"] for row in rows if row["fit"] >= 0.9 * best)
    return found


def strategy(seed: int) -> dict[str, Any]:
    """Plant two ways of deciding: half of the treated have many spots and no tag, half a tag and few spots."""
    tag = phantoms.Shortcut(shape="square", place=45.0, contrast=0.4, correlation=0.0)
    phantom = phantoms.cells(1200, size=(32, 32), seed=seed, rule="spot_number", shortcut=tag, margin=0.15)
    tagged = dict(zip(phantom.images.ids, _factors(phantom)["shortcut"] > 0, strict=True))
    many = dict(zip(phantom.images.ids, phantom.images.label(), strict=True))
    images = phantom.images.select([name for name in phantom.images.ids if not (many[name] and tagged[name])])
    images = replace(images, labels=tuple(int(many[name] or tagged[name]) for name in images.ids))
    return _ways(images, tagged, seed)


def unused(seed: int) -> dict[str, Any]:
    """Lay a tag on the cells that tells nothing: no way of deciding may be called an artefact."""
    tag = phantoms.Shortcut(shape="square", place=45.0, contrast=0.4, correlation=0.0)
    phantom = phantoms.cells(1200, size=(32, 32), seed=seed, rule="spot_number", shortcut=tag, margin=0.15)
    tagged = dict(zip(phantom.images.ids, _factors(phantom)["shortcut"] > 0, strict=True))
    return _ways(phantom.images, tagged, seed)


def _ways(images: ImageSet, tagged: Mapping[str, bool], seed: int) -> dict[str, Any]:
    """Train, map the held-out images that are called treated, and ask a study's question for strategies of them."""
    fitted = fit(images, epochs=14, width=8, depth=3, seed=seed, learning_rate=6e-3)
    ids = _held(images)
    table = predict(fitted.model, images, ids).table
    text = "occlusion(window=4, stride=2)"
    evidence = Evidence(
        model=fitted.model, images=images, ids=tuple(ids), predictions=table, methods=(text,), scores=SCHEMA.empty_table(),
        maps=lambda method, own: explain(fitted.model, images.tensor(own), method, 1, ids=own, seed=seed).values,
        ranking=RANKING.empty_table(), object_mask="object", group="group", seed=seed,
    )  # fmt: skip
    findings, tables, found = find_strategies(evidence)
    own = found[images.classes[1]]
    groups = [[bool(tagged[own.ids[row]]) for row in one.rows] for one in own.named]
    rows = [row for row in tables["strategies"].to_pylist() if row["called"] == own.label]
    return {
        "accuracy": fitted.performance.accuracy.value, "images": len(own.ids), "ways": len(groups),
        "pure": sum(max(sum(group), len(group) - sum(group)) for group in groups),
        "tagged": [sum(group) / len(group) for group in groups],
        "names": [row["name"] for row in rows], "called": [row["artefact"] for row in rows],
        "falls": [row["fall_low"] for row in rows],
        "told": [one.statement for one in findings if one.id.startswith("strategy-artefact") and one.verdict == "supported"],
    }  # fmt: skip


def _isolated(one: Mapping[str, Any]) -> bool:
    """Say whether exactly the group of the tagged images is called an artefact, and said to be one."""
    right = [share > 0.95 for share in one["tagged"]]
    return one["called"] == right and sum(right) == 1 and len(one["told"]) == 1


def _kept(folder: Path, name: str, seed: int, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    path = folder / f"{name}-{seed}.json"

    def told() -> dict[str, Any]:
        made = work()
        print(f"  {path.name} done", file=sys.stderr)
        return made

    return kept(path, told)


def _share(label: str, told: list[bool]) -> None:
    found = share_interval(sum(told), len(told))
    print(f"{label}: {sum(told)}/{len(told)} [{found.low:.2f}, {found.high:.2f}]")


def _mean(label: str, told: list[float]) -> None:
    print(f"{label}: {mean_interval(told)} (n = {len(told)})")


def main(mode: str, folder: Path) -> None:
    """Run what is missing and print what all seeds say."""
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    seeds = range(SEEDS[mode])
    works: dict[str, Callable[[int], dict[str, Any]]] = {f"cue-{name}": partial(cue, name=name) for name in CUES}
    works |= {"depth": depth, "strategy": strategy, "unused": unused}
    told: dict[str, list[dict[str, Any]]] = {name: [] for name in works}
    for seed in seeds:
        for name, work in works.items():
            told[name].append(_kept(folder, name, seed, partial(work, seed)))
    cues = [one for name in CUES for one in told[f"cue-{name}"]]
    layers, ways = told["depth"], told["strategy"]
    good = [one for one in cues if one["accuracy"] >= 0.75]
    print(f"nets that learnt the cue (accuracy ≥ 0.75): {len(good)}/{len(cues)}")
    _share("planted set: score > 0.9 in the last stage", [one["set_score"] > 0.9 for one in good])
    _share("planted set called", [one["set_called"] for one in good])
    _share("planted measure called", [one["measure_called"] for one in good])
    _share("planted measure with the right sign", [one["right_sign"] for one in good])
    print(
        f"columns that are not in the images called: {sum(o['null_called'] for o in cues)}/{sum(o['nulls'] for o in cues)}"
    )
    print(
        f"Br of a random measure holds 0 in its interval: {sum(o['br_covers_zero'] for o in cues)}/{sum(o['brs'] for o in cues)}"
    )
    _mean("precision@5 over chance, by label", [one["p5_label"] for one in good])
    _mean("precision@5 over chance, by third of the cue", [one["p5_cue"] for one in good])
    _mean("precision@5 over chance, by third of a factor that decides nothing", [one["p5_texture"] for one in good])
    _mean("leading part on the cue, over chance", [one["part_lift"] for one in good])
    _share("texture is told no later than size", [one["texture_grain"] <= one["cell_size"] for one in layers])
    _share(
        "two planted ways told apart, each at least 95 % pure",
        [one["ways"] == 2 and one["pure"] >= 0.95 * one["images"] for one in ways],
    )
    print(
        f"images in the group of their own way: {sum(one['pure'] for one in ways)}/{sum(one['images'] for one in ways)}"
    )
    _share(
        "the tagged way isolated, named and confirmed as an artefact by filling the tag in",
        [_isolated(one) for one in ways],
    )
    print(
        f"such a way is called: {', '.join(sorted({name for one in ways for name, so in zip(one['names'], one['called'], strict=True) if so}))}"
    )
    _share("no artefact called where the tag tells nothing", [not any(one["called"]) for one in told["unused"]])


if __name__ == "__main__":
    asked = sys.argv[1] if len(sys.argv) > 1 else "quick"
    if asked not in SEEDS:
        sys.exit(f"{asked!r} is neither quick nor full")
    main(asked, Path(sys.argv[2] if len(sys.argv) > 2 else "concepts_benchmark"))
