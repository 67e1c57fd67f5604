"""Planted truth, net by net: is the recommended method among the truly best, are causes and shortcuts named, and only those?

    python benchmarks/planted_truth.py OUT [SEEDS]

Each net is trained on a phantom of one family and seed. What it relies on is measured by re-rendering (`flip_matrix`) and
is the truth: a method is truly good as the changes of its maps recover it (`recovered`). Then, from images, labels,
outlines and groups alone, a method is recommended by changes planted in the images (`calibrate`) and, beside it, by the
ranking without masks, and the model is interpreted, on two disjoint draws of images: what is recommended on one draw is
held against the truth of the other. The scores of `calibrate` were chosen on the nets of seeds 0 and 1; its share is of
the others. Nets and one JSON a net and question are kept in OUT, so that a run that was stopped goes on; the table at the end
prints every share as k/n with its Wilson interval over nets or, where a net is asked twice, a bootstrap of nets.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from keeping import kept
from rich.console import Console
from rich.table import Table

from pellucid import Explanation, evaluate, explain, rank
from pellucid.errors import CannotExplain
from pellucid.evaluation import Scores, calibrate
from pellucid.evaluation.scores import SCHEMA
from pellucid.images import phantoms
from pellucid.images.phantoms import Decoys, Phantom, Shortcut, Suppressors
from pellucid.interpretation import Evidence, Finding, find_background_use, find_locality, flip_matrix, recovered
from pellucid.intervals import mean_interval, share_interval
from pellucid.models import Model, fit, load_model, predict, save_model

SIZE = (48, 48)
IMAGES = 900
DRAW = 28
METHODS = (
    "saliency", "input_x_gradient", "smoothgrad(samples=12)", "integrated_gradients(steps=16)", "guided_backprop", "deeplift",
    'lrp(composite="epsilon_plus_flat")', "gradcam", "occlusion(window=8, stride=4)",
    "random_map", "edge_map",
)  # fmt: skip
METRICS = ("faithfulness_correlation", "sensitivity_n", "pixel_flipping", "insertion", "deletion")
MATTERS = 0.02
"""Difference of mean cosines below which two methods are equally good, whatever their ranks."""

LOCAL = {
    "spot_number", "spot_size", "spot_brightness", "nucleus_size", "membrane_ring", "shortcut", "abnormal_cell", "decoy_number",
}  # fmt: skip
"""Factors that a map of places can show."""

SPREAD = {
    "cell_size",
    "eccentricity",
    "texture_grain",
    "background_shading",
    "illumination",
    "stain",
    "correlated_noise",
}


@dataclass(frozen=True)
class Family:
    """One kind of planted truth."""

    make: Callable[[int], Phantom]
    local: bool = True
    epochs: int = 14


def cells(**settings: Any) -> Callable[[int], Phantom]:
    """Return a maker of cells."""
    return lambda seed: phantoms.cells(IMAGES, SIZE, seed, **settings)


IGNORED = Shortcut(correlation={"train": 0.0, "val": 0.0, "test": 1.0})
FAMILIES = {
    "spots": Family(cells()),
    "decoy": Family(cells(decoys=Decoys())),
    "suppressors": Family(cells(suppressors=Suppressors())),
    "ring": Family(cells(rule="membrane_ring")),
    "size (distributed)": Family(cells(rule="cell_size"), local=False),
    "shape (distributed)": Family(cells(rule="eccentricity", margin=0.2), local=False, epochs=30),
    "size and shape (distributed)": Family(cells(rule="cell_size + eccentricity"), local=False, epochs=20),
    "interaction": Family(cells(rule="spot_number xor nucleus_size")),
    "conditional": Family(cells(rule="spot_number if nucleus_size else membrane_ring")),
    "dose": Family(cells(rule="spot_brightness", levels=4, margin=0.05)),
    "fields (multiple instance)": Family(lambda seed: phantoms.fields(IMAGES, (64, 64), seed)),
    "shortcut, ρ = 1": Family(cells(shortcut=Shortcut())),
    "shortcut, ρ = 0.9": Family(cells(shortcut=Shortcut(correlation={"train": 0.9, "val": 0.9, "test": 0.0}))),
    "cue ignored": Family(cells(shortcut=IGNORED)),
}
TAGGED = {
    f"tag beside {rule}": Family(cells(rule=rule, shortcut=Shortcut()))
    for rule in ("membrane_ring", "nucleus_size", "cell_size", "spot_brightness")
}
"""More nets with a tag that decides all: only whether it is named is asked of them."""

TAGS = 12


@dataclass(frozen=True)
class Net:
    """A trained net with the phantom that it learnt from."""

    name: str
    seed: int
    model: Model
    phantom: Phantom
    test: list[str]

    @classmethod
    def learnt(cls, name: str, seed: int, weights: Path) -> "Net":
        """Train it where that has not been done."""
        family = (FAMILIES | TAGGED)[name]
        phantom = family.make(seed)
        images = phantom.images
        if not weights.is_file():
            save_model(fit(images, epochs=family.epochs, patience=family.epochs, seed=seed).model, weights)
        test = [one for one, split in zip(images.ids, images.column("split"), strict=True) if split == "test"]
        return cls(name, seed, load_model(weights), phantom, test)


def reliance(net: Net) -> dict[str, Any]:
    """Return how often a net is right on held-out images and which factors move it, by re-rendering."""
    right = predict(net.model, net.phantom.images, net.test).table
    found = flip_matrix(net.model, net.phantom, net.test[:40])
    return {
        "family": net.name, "seed": net.seed, "used": found.used(),
        "accuracy": float(np.mean(np.array(right["label"]) == np.array(right["predicted"]))),
        "effects": {factor: [effect.value, effect.low, effect.high] for factor, effect in found.effects().items()},
    }  # fmt: skip


def ranked(net: Net, used: Sequence[str]) -> dict[str, Any]:
    """Return what is recommended and what is truly best, on two draws of images."""
    causes = [factor for factor in used if factor in LOCAL]
    draws = net.test[:DRAW], net.test[-DRAW:]
    return {"draws": [ranks(net.model, net.phantom, draw, causes, net.seed) for draw in draws]}


def interpreted(net: Net, _used: Sequence[str]) -> dict[str, Any]:
    """Return what is found of the places that a net reads."""
    evidence = evidence_of(net)
    return {"findings": spelt([*find_background_use(evidence)[0], *find_locality(evidence, most=40)[0]])}


def suspected(net: Net, _used: Sequence[str]) -> dict[str, Any]:
    """Return what is found of the background."""
    return {"findings": spelt(find_background_use(evidence_of(net))[0])}


def clocked(make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what is made, with the seconds that it took."""
    began = time.perf_counter()
    return make() | {"seconds": time.perf_counter() - began}


def answers(
    name: str, seed: int, stem: Path, questions: Sequence[Callable[[Net, Sequence[str]], dict[str, Any]]]
) -> dict[str, Any]:
    """Return all that is kept of one net; it is opened only where an answer is missing."""
    net = cache(lambda: Net.learnt(name, seed, stem.with_suffix(".safetensors")))
    told = kept(stem.with_suffix(".json"), lambda: clocked(lambda: reliance(net())))
    found = [
        kept(stem.with_suffix(f".{ask.__name__}.json"), lambda ask=ask: clocked(lambda: ask(net(), told["used"])))
        for ask in questions
    ]
    seconds = sum(one["seconds"] for one in (told, *found))
    return {"draws": []} | told | {key: value for one in found for key, value in one.items()} | {"seconds": seconds}


def chosen_by_edits(model: Model, phantom: Phantom, ids: Sequence[str], seed: int) -> str | None:
    """Return the method that planted changes choose; None where the model does not answer to them."""
    x, outlines = phantom.images.tensor(ids), phantom.factor_mask("object", ids)
    try:
        return calibrate(model, x, outlines, METHODS, ids=ids, seed=seed).chosen
    except CannotExplain:
        return None


def ranks(model: Model, phantom: Phantom, ids: Sequence[str], causes: Sequence[str], seed: int) -> dict[str, Any]:
    """Rank methods without masks, and by the truth where the used factors have places."""
    x = phantom.images.tensor(ids)
    maps: list[Explanation] = [explain(model, x, method, ids=ids, seed=seed) for method in METHODS]
    blind = rank(evaluate(model, x, maps, METRICS, seed=seed, ids=ids), draws=500, seed=seed)
    told: dict[str, Any] = {"ranked": blind.order(), "abstains": blind.abstains(), "truth": None, "recommended": None}
    if causes:
        told["recommended"] = chosen_by_edits(model, phantom, ids, seed)
        table = recovered(model, phantom, METHODS, ids[::2], seed=seed)
        rows = [
            row for row in rank(judged(table), draws=500, seed=seed).table.to_pylist() if row["metric"] == "overall"
        ]
        told["truth"] = [[row["method"], row["rank"], row["tied_with_best"]] for row in rows]
        told["cosine"] = {method: mean_of(table, method) for method in METHODS}
    return told


def judged(table: pa.Table) -> Scores:
    """Return the cosines with the flip matrix as scores, to rank by them."""
    fixed = {"metric": "flips recovered", "chance": 0.0, "family": "faithfulness", "direction": "higher", "resolution": 0.0,
             "definition": "", "target": "", "step": "", "seed": 0}  # fmt: skip
    rows = [
        {**fixed, "image": row["image"], "group": row["group"], "method": row["method"], "value": row["cosine"],
         "reason": "no factor moves the score" if row["cosine"] is None else "", "control": row["method"].endswith("_map")}
        for row in table.to_pylist()
    ]  # fmt: skip
    return Scores(pa.Table.from_pylist(rows, schema=SCHEMA))


def mean_of(table: pa.Table, method: str) -> float:
    """Return the mean cosine of a method."""
    known = [row["cosine"] for row in table.to_pylist() if row["method"] == method and row["cosine"] is not None]
    return sum(known) / max(1, len(known))


def evidence_of(net: Net) -> Evidence:
    """Return what interpretations may look at: images, labels, outlines and groups."""
    model, images = net.model, net.phantom.images
    return Evidence(
        model=model, images=images, ids=tuple(net.test), predictions=predict(model, images, net.test).table,
        methods=METHODS[:-1], maps=lambda method, some: explain(model, images.tensor(some), method, ids=some).values,
        scores=None, ranking=None, object_mask="object", group="group", seed=net.seed,
    )  # fmt: skip


def spelt(found: Sequence[Finding]) -> list[list[str]]:
    """Return kind, subject and verdict of each finding."""
    return [[finding.kind, finding.subject, finding.verdict] for finding in found]


def share(right: int, trials: int) -> str:
    """Return k/n with its interval."""
    if not trials:
        return "–"
    found = share_interval(right, trials)
    return f"{right}/{trials} [{found.low:.2f}, {found.high:.2f}]"


def share_by_net(hits: Mapping[str, list[bool]]) -> str:
    """Return k/n over the draws of all nets with an interval that resamples whole nets."""
    flat = [(net, hit) for net, own in hits.items() for hit in own]
    if not flat:
        return "–"
    found = mean_interval([float(hit) for _, hit in flat], groups=[net for net, _ in flat], bounds=(0.0, 1.0))
    return f"{sum(hit for _, hit in flat)}/{len(flat)} [{found.low:.2f}, {found.high:.2f}]"


def truly_best(draw: dict[str, Any]) -> set[str]:
    """Return the methods that are not separable from the truly best of a draw, or by less than matters."""
    level = {method for method, _, tied in draw["truth"] if tied}
    least = max(draw["cosine"][method] for method in level) - MATTERS
    return level | {method for method, cosine in draw["cosine"].items() if cosine >= least}


def among(result: dict[str, Any], how: str) -> list[bool]:
    """Say for both draws whether the method that one recommends is level with the truly best of the other."""
    firsts = [draw["ranked"][0] if how == "ranked" else draw["recommended"] for draw in result["draws"]]
    return [
        first in truly_best(other)
        for first, other in zip(firsts, result["draws"][::-1], strict=True)
        if other["truth"] and first
    ]


def by_net(results: Sequence[dict[str, Any]], how: str) -> dict[str, list[bool]]:
    """Return `among` of every net by its name."""
    return {f"{result['family']} {result['seed']}": among(result, how) for result in results}


def summary(results: Sequence[dict[str, Any]]) -> Table:
    """Return a table by family, and all together."""
    table = Table(
        "family",
        "nets",
        "accuracy",
        "relies on",
        "recommended among the best",
        "ranked first among the best",
        "not localised",
        "shortcut named",
    )
    for name in [*FAMILIES, *TAGGED, "all"]:
        own = [result for result in results if name in {result["family"], "all"}]
        if not own:
            continue
        local = [result for result in own if result["draws"] and FAMILIES[result["family"]].local]
        tuned, hits = (by_net(local, how) for how in ("recommended", "ranked"))
        kinds = [{kind for kind, _, verdict in result["findings"] if verdict == "supported"} for result in own]
        used: dict[str, int] = {}
        for result in own:
            for factor in result["used"]:
                used[factor] = used.get(factor, 0) + 1
        table.add_row(
            name, str(len(own)), f"{sum(result['accuracy'] for result in own) / len(own):.2f}",
            ", ".join(f"{factor} {count}" for factor, count in used.items()) if name != "all" else "",
            share_by_net(tuned), share_by_net(hits), share(sum("not_localised" in one for one in kinds), len(own)),
            share(sum("shortcut" in one for one in kinds), len(own)),
        )  # fmt: skip
    return table


def verdicts(results: Sequence[dict[str, Any]]) -> list[str]:
    """Return the promised shares, with truth from the measured reliance."""

    def named(result: dict[str, Any], kind: str) -> bool:
        return any(own == kind and verdict == "supported" for own, _, verdict in result["findings"])

    def spread(result: dict[str, Any]) -> bool:
        return bool(set(result["used"]) & SPREAD) and not set(result["used"]) & LOCAL

    local = [result for result in results if result["draws"] and result["used"] and set(result["used"]) <= LOCAL]
    tagged = [result for result in results if "shortcut" in result["used"]]
    clean = [result for result in results if "shortcut" not in result["used"]]
    global_ = [result for result in results if result["draws"] and spread(result)]
    judging = [result for result in local if result["seed"] > 1]
    tuned, hits = (by_net(judging, how) for how in ("recommended", "ranked"))
    return [
        f"recommended method among the truth-best: {share_by_net(tuned)} (nets that rely on local factors only, two draws each)",
        f"method ranked first by metrics alone among the truth-best: {share_by_net(hits)}",
        f"distributed cause called not localised: {share(sum(named(one, 'not_localised') for one in global_), len(global_))}",
        f"local cause called not localised: {share(sum(named(one, 'not_localised') for one in local), len(local))}",
        f"shortcut in use named: {share(sum(named(one, 'shortcut') for one in tagged), len(tagged))}",
        f"shortcut named where none is in use: {share(sum(named(one, 'shortcut') for one in clean), len(clean))}",
        f"seconds a net: {sum(one['seconds'] for one in results) / max(1, len(results)):.0f}",
    ]


def main(out: Path, seeds: int) -> None:
    """Run what is missing, print what is there."""
    out.mkdir(parents=True, exist_ok=True)
    asked = [
        (name, seed, f"{number:02d}-{seed}", (ranked, interpreted))
        for seed in range(seeds) for number, name in enumerate(FAMILIES)
    ] + [
        (name, seed, f"tag{number}-{seed}", (suspected,)) for seed in range(TAGS) for number, name in enumerate(TAGGED)
    ]  # fmt: skip
    results = [answers(name, seed, out / stem, questions) for name, seed, stem, questions in asked]
    console = Console(width=170)
    console.print(summary(results))
    for line in verdicts(results):
        console.print(line)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 4)
