"""Counterfactuals of phantom cells, whose nine factors are independent and whose true counterfactuals can be rendered.

    python benchmarks/counterfactual.py [--out DIR] [--rules RULE ...] [--seeds N] [--size 32] [--quick] [--train]

For each rule and seed: a net is explained, judged by the same net trained again and by another architecture; the default
generator is fitted and passes the gate; counterfactuals of held-out images are scored, beside the true ones that the phantom
renders and beside an attack on the pixels as a control. Factors are read on every image, real or made, by one instrument
that knows nothing of the models, see factor_reader.py. A run is one JSON in DIR, nets and generators are kept too, so that a
killed run goes on where it stopped; at the end all runs are counted together.
"""

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from factor_reader import FACTORS, FactorReader, factor_reader
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pellucid.counterfactual import (
    Counterfactuals,
    FittedGenerator,
    Measured,
    counterfactual,
    faithful_autoencoder,
    gate,
    score_counterfactuals,
)
from pellucid.counterfactual.strip import along, rank_correlation
from pellucid.images.phantoms import Phantom, cells
from pellucid.intervals import share_interval
from pellucid.models import Model, Normalise, Passes, fit, load_model, save_model

RULES = ("eccentricity + nucleus_size", "membrane_ring", "cell_size")
MONOTONE = 0.9


def plain_net(classes: int) -> nn.Sequential:
    """Return another architecture: plain convolutions with pooling, no shortcuts, no normalisation."""
    torch.manual_seed(7)
    widths = (3, 16, 32, 48)
    stages = [
        part
        for before, after in pairwise(widths)
        for part in (nn.Conv2d(before, after, 5, padding=2), nn.ELU(), nn.MaxPool2d(2))
    ]
    return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * widths[-1], classes))


def train_plain(x: Tensor, y: Tensor, epochs: int) -> Model:
    """Train the other architecture without anything that the explained net was trained with."""
    normalise = Normalise(tuple(x.mean((0, 2, 3)).tolist()), tuple(x.std((0, 2, 3)).tolist()))
    net, random = plain_net(2), torch.Generator().manual_seed(11)
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    for epoch in range(epochs):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * (1 - epoch / epochs)
        for rows in torch.randperm(len(x), generator=random).split(64):
            batch = normalise(x[rows])
            axes = [axis for axis in (2, 3) if float(torch.rand((), generator=random)) < 0.5]
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(batch.flip(axes)), y[rows]).backward()
            optimiser.step()
    return Model(net.eval(), classes=("control", "treated"), preprocess=normalise, task="classification")


def painted(phantom: Phantom) -> Phantom:
    """Return a phantom whose images are rendered once and kept."""
    pixels = dict(zip(phantom.images.ids, phantom.images.tensor(), strict=True))
    return replace(phantom, images=replace(phantom.images, load=pixels.__getitem__))


def nets(phantom: Phantom, out: Path, epochs: int, train: list[str]) -> dict[str, Model]:
    """Return the explained net, the same trained again, and the other architecture; each is trained once."""
    found = {}
    for name, seed in (("explained", 0), ("trained again", 1)):
        path = out / f"{name.replace(' ', '_')}.safetensors"
        if not path.is_file():
            save_model(
                fit(
                    phantom.images,
                    epochs=epochs,
                    width=8,
                    depth=3,
                    seed=seed,
                    batch_size=64,
                    checkpoint=path.with_suffix(".pt"),
                ).model,
                path,
            )
        found[name] = load_model(path)
    x, y = phantom.images.tensor(train), torch.tensor(phantom.images.label(train))
    path = out / "plain.safetensors"
    if not path.is_file():
        save_file(train_plain(x, y, epochs).network.state_dict(), path)
    normalise = Normalise(tuple(x.mean((0, 2, 3)).tolist()), tuple(x.std((0, 2, 3)).tolist()))
    net = plain_net(2)
    net.load_state_dict(load_file(path))
    found["another architecture"] = Model(
        net.eval(), classes=("control", "treated"), preprocess=normalise, task="classification"
    )
    return found


def true_counterfactual(phantom: Phantom, image: str) -> Tensor:
    """Render an image with its causes moved across their thresholds, as far as needed and no further than their range."""
    dials = {dial.name: dial for dial in phantom.dials}
    row = phantom.factors.slice(phantom.images.ids.index(image), 1).to_pylist()[0]
    label = phantom.label(image)
    for share in np.linspace(0.05, 1, 39):
        moved = {}
        for name in phantom.causes:
            end = dials[name].high if label == 0 else dials[name].low
            moved[name] = row[name] + share * (end - row[name])
            if dials[name].whole:
                moved[name] = float(round(moved[name]))
        if phantom.label(image, **moved) != label:
            break
    return phantom.render(image, **moved)


def measured(reader: FactorReader, before: Tensor, after: Tensor, causes: tuple[str, ...]) -> Measured:
    """Return what the reader reads of pairs."""
    return Measured(FACTORS, reader(before), reader(after), np.ones(len(FACTORS)), causal=causes)


def unexplained(phantom: Phantom, ids: list[str], after: Tensor, measures: Measured) -> np.ndarray:
    """Return how far changed images are from renderings with the factors that are read, in shares of two images' difference."""
    dials, table = {dial.name: dial for dial in phantom.dials}, phantom.factors.to_pylist()
    rendered = []
    for image, change in zip(ids, np.asarray(measures.after) - np.asarray(measures.before), strict=True):
        row, moved = table[phantom.images.ids.index(image)], {}
        for name, step in zip(FACTORS, change, strict=True):
            dial = dials[name]
            value = min(max(row[name] + step * (dial.high - dial.low) / 12**0.5, dial.low), dial.high)
            moved[name] = float(round(value)) if dial.whole else value
        rendered.append(phantom.render(image, **moved))
    real = phantom.images.tensor(list(phantom.images.ids[:512]))
    typical = (real - real.roll(256, 0)).abs().flatten(1).mean(1).median()
    return ((after.cpu() - torch.stack(rendered)).abs().flatten(1).mean(1) / typical).double().numpy()


def specific(phantom: Phantom, ids: list[str], after: Tensor, measures: Measured) -> dict[str, list[float]]:
    """Return specificity and its parts, one number an image, without and with what no factor explains among the drift."""
    parts = measures.parts()
    rest = unexplained(phantom, ids, after, measures)
    both = parts["causal_shift"] / np.maximum(parts["nuisance_drift"] + rest, 0.01)
    return {
        "specificity": parts["specificity"].tolist(), "specificity, the unexplained counted": both.tolist(),
        "causal_shift": parts["causal_shift"].tolist(), "nuisance_drift": parts["nuisance_drift"].tolist(),
        "unexplained": rest.tolist(),
    }  # fmt: skip


def shares(found: Counterfactuals, others: Mapping[str, Model]) -> dict[str, Any]:
    """Return the numbers of one kind of counterfactual: counts as [k, n], else one value an image."""
    rows = [row for row in score_counterfactuals(found, others=others).to_pylist() if row["value"] is not None]

    def column(score: str, model: str = "") -> list[float]:
        return [row["value"] for row in rows if row["score"] == score and row["model"] == model]

    strip = found.exaggerate()
    sign = found.aim.direction.double()
    whole = rank_correlation(strip.doses, strip.scores) * sign
    with Passes(found.stripper.model) as passes:
        stretched = rank_correlation(strip.doses, along(passes, found.move, found.aim, strip.doses)[1]) * sign
    within = strip.spearman * sign
    return {
        "gate closed by": [check.name for check in found.gate.failed],
        "valid on the explained net": counted(column("validity")),
        **{f"valid on {name}": counted(column("validity", name)) for name in others},
        "within the support": counted(found.valid.tolist()),
        "path monotone": counted(value > MONOTONE for value in column("monotonicity")),
        "strip monotone within the support": counted((within[~within.isnan()] > MONOTONE).tolist()),
        "strip monotone from -3 to 3": counted((whole > MONOTONE).tolist()),
        "shown within the support, of the strips' images": counted((strip.strain <= 1).flatten().tolist()),
        "one change at -3 to 3 times its size, monotone": counted((stretched > MONOTONE).tolist()),
        **{name: column(name) for name in ("proximity", "sparsity", "grain")},
    }


def counted(good: Any) -> list[int]:
    """Return how many of how many."""
    kept = [bool(one) for one in good]
    return [sum(kept), len(kept)]


def truth_of(
    phantom: Phantom, ids: list[str], x: Tensor, reader: FactorReader, judges: Mapping[str, Model]
) -> dict[str, Any]:
    """Return what the true counterfactuals give: the most that can be expected of any."""
    truth = torch.stack([true_counterfactual(phantom, image) for image in ids])
    wanted = 1 - torch.tensor(phantom.images.label(ids))
    valid = {f"valid on {name.replace('explained', 'the explained net')}": counted((called(judge, truth) == wanted).tolist())
             for name, judge in judges.items()}  # fmt: skip
    return valid | specific(phantom, ids, truth, measured(reader, x, truth, phantom.causes))


def called(model: Model, x: Tensor) -> Tensor:
    """Return the classes that a model gives."""
    with torch.no_grad():
        return torch.cat([model.network(model.prepare(part)[0]).argmax(1) for part in x.split(64)])


def generator(args: argparse.Namespace, x: Tensor, model: Model, out: Path) -> tuple[FittedGenerator, dict[str, float]]:
    """Return the fitted generator and what fitting cost, kept in a file."""
    recipe = faithful_autoencoder(steps=args.steps)
    clock = out / f"generator_{args.steps}.json"
    path = clock.with_suffix(".safetensors")
    if not clock.is_file():
        wall, cpu = time.perf_counter(), time.process_time()
        fitted = recipe.fit(x, model, checkpoint=path.with_suffix(".pt"))
        spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        save_file(dict(fitted.tensors()), path)
        clock.write_text(json.dumps(spent))
    return recipe.restore(load_file(path), tuple(x.shape[1:])), json.loads(clock.read_text())


def run(rule: str, seed: int, args: argparse.Namespace, reader: FactorReader, out: Path) -> dict[str, Any] | None:
    """Return everything that is measured of one rule and seed; None where only training was asked for."""
    phantom = painted(cells(args.images, size=(args.size, args.size), seed=seed, rule=rule))
    split = dict(zip(phantom.images.ids, phantom.images.column("split"), strict=True))
    train, test = ([name for name in phantom.images.ids if split[name] == part] for part in ("train", "test"))
    judges = nets(phantom, out, args.epochs, train)
    model, x, unseen = judges["explained"], phantom.images.tensor(train), phantom.images.tensor(test)
    others = {name: judge for name, judge in judges.items() if name != "explained"}
    labels = torch.tensor(phantom.images.label(test))
    fitted, spent = generator(args, x, model, out)
    if args.train:
        return None
    ids, few, tried = test[: args.explained], unseen[: args.explained], unseen[args.explained :][:200]
    told: dict[str, Any] = {
        "rule": rule, "seed": seed, "size": args.size, "training images": len(train), "generator": str(fitted.generator), "fit": spent,
        "accuracy": {name: counted((called(judge, unseen) == labels).tolist()) for name, judge in judges.items()},
        "true": truth_of(phantom, ids, few, reader, judges),
    }  # fmt: skip
    for name, search in (("counterfactuals", None), ("attack", "pixel_attack")):
        verdict = gate(fitted, model, tried, training=x, search=search, ids=test[args.explained :][:200])
        cpu = time.process_time()
        found = counterfactual(model, few, generator=fitted, gate=verdict, search=search, ids=ids)
        seconds = (time.process_time() - cpu) / len(ids)
        told[name] = {"seconds an image": seconds, "gate": {check.name: check.value for check in verdict.checks}}
        told[name] |= shares(found, others)
        told[name] |= specific(phantom, ids, found.changed, measured(reader, few, found.changed, phantom.causes))
        if search is None:
            found.plot(most=8, record=phantom.images.record).savefig(out / "counterfactuals.png", dpi=110)
    return told


def kept(rule: str, seed: int, args: argparse.Namespace, reader: FactorReader) -> dict[str, Any] | None:
    """Return a run from its file, made where there is none."""
    out = args.out / f"{rule.replace(' ', '_')}_{args.size}_{seed}_{args.images}"
    out.mkdir(parents=True, exist_ok=True)
    path = out / "run.json"
    if not path.is_file():
        partial = path.with_suffix(".partial")
        told = run(rule, seed, args, reader, out)
        if told is None:
            return None
        partial.write_text(json.dumps(told, indent=1))
        partial.replace(path)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def total(runs: list[dict[str, Any]], kind: str, name: str) -> str:
    """Return what was counted over runs, or the median over images of what was measured."""
    values = [run[kind][name] for run in runs if name in run[kind]]
    if not values:
        return ""
    if name == "gate closed by":
        closed = sum(bool(value) for value in values)
        return f"closed in {closed}/{len(values)}" + (f": {', '.join(sorted(set().union(*values)))}" if closed else "")
    if name == "seconds an image":
        return f"{max(values):.3f} at most"
    if isinstance(values[0][0], int):
        good, of = (sum(value[place] for value in values) for place in (0, 1))
        return f"{good}/{of} [{share_interval(good, of).low:.3f}, {share_interval(good, of).high:.3f}]"
    medians = [float(np.median(value)) for value in values]
    every = f" (runs: {min(medians):.2f} to {max(medians):.2f})" if len(medians) > 1 else ""
    return f"{float(np.median(np.concatenate(values))):.2f}{every}"


def table(runs: list[dict[str, Any]]) -> str:
    """Return the table of all runs."""
    kinds = {"counterfactuals": "counterfactuals", "true": "true ones (rendered)", "attack": "attack on the pixels"}
    names = [name for name in runs[0]["counterfactuals"] if name != "gate"]
    lines = ["| | " + " | ".join(kinds.values()) + " |", "|" + "---|" * 4]
    return "\n".join(
        lines + [f"| {name} | " + " | ".join(total(runs, kind, name) for kind in kinds) + " |" for name in names]
    )


def main() -> None:
    """Read the arguments and run the rules."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("counterfactual_benchmark"))
    parser.add_argument("--rules", nargs="+", default=None)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--train", action="store_true", help="train what is missing and score nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.rules = args.rules or (RULES[:1] if args.quick else RULES)
    args.images, args.epochs, args.steps, args.explained = (2500, 6, 1000, 60) if args.quick else (3600, 6, 4500, 60)
    args.out.mkdir(parents=True, exist_ok=True)
    reader = factor_reader(args.out, args.size)
    print("R² of the reader: " + ", ".join(f"{name} {r2:.2f}" for name, r2 in reader.r2.items()), flush=True)
    runs = []
    for seed in range(args.seeds):
        for rule in args.rules:
            last = kept(rule, seed, args, reader)
            if last is None:
                continue
            runs.append(last)
            accuracy = ", ".join(f"{name} {right}/{of}" for name, (right, of) in last["accuracy"].items())
            print(
                f"\n{rule}, seed {seed}, {args.size} px, {last['training images']} training images; accuracy: {accuracy}"
            )
            print(f"{last['generator']}: {last['fit']['cpu']:.0f} s of CPU to fit\n{table([last])}", flush=True)
    if runs:
        print(f"\nall {len(runs)} runs\n{table(runs)}")


if __name__ == "__main__":
    main()
