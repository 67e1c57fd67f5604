"""Counterfactuals of phantom cells, whose nine factors are independent and whose true counterfactuals can be rendered.

    python benchmarks/counterfactual.py [--out DIR] [--rules RULE ...] [--size 32] [--quick]

For each rule: a net is explained, judged by the same net trained again and by another architecture; the default generator
is fitted and passes the gate; counterfactuals of held-out images are scored, beside the true ones that the phantom renders
and beside an attack on the pixels as a control. Factors are measured on every image, real or made, by one instrument: ridge
regression on pellucid's phenotypes of the segmented image, of which those count that recover their factor (rank correlation
of 0.6 and more on held-out images). What took long is kept in DIR, so that a killed run goes on where it stopped.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import spearmanr
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from torch import Tensor, nn

from pellucid.counterfactual import (
    Counterfactuals,
    Measured,
    counterfactual,
    faithful_autoencoder,
    gate,
    score_counterfactuals,
    summarise,
)
from pellucid.errors import BadImage
from pellucid.images.phantoms import CELL_FACTORS, Phantom, cells
from pellucid.intervals import share_interval
from pellucid.measure import phenotypes, segment
from pellucid.models import Model, Normalise, fit, load_model, save_model

RULES = ("eccentricity + nucleus_size", "membrane_ring", "cell_size")
RECOVERED = 0.6


def plain_net(classes: int) -> nn.Sequential:
    """Return another architecture: plain convolutions with pooling, no shortcuts, no normalisation."""
    torch.manual_seed(7)
    widths = (3, 16, 32, 48)
    stages = [
        part
        for before, after in zip(widths[:-1], widths[1:], strict=True)
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


def nets(phantom: Phantom, out: Path, epochs: int, train: list[str]) -> dict[str, Model]:
    """Return the explained net, the same trained again, and the other architecture; each is trained once."""
    found = {}
    for name, seed in (("explained", 0), ("trained again", 1)):
        path = out / f"{name.replace(' ', '_')}.safetensors"
        if not path.is_file():
            save_model(fit(phantom.images, epochs=epochs, width=12, depth=3, seed=seed, checkpoint=path.with_suffix(".pt")).model, path)
        found[name] = load_model(path)
    x, y = phantom.images.tensor(train), torch.tensor(phantom.images.label(train))
    path = out / "plain.safetensors"
    if not path.is_file():
        save_file(train_plain(x, y, epochs).network.state_dict(), path)
    normalise = Normalise(tuple(x.mean((0, 2, 3)).tolist()), tuple(x.std((0, 2, 3)).tolist()))
    net = plain_net(2)
    net.load_state_dict(load_file(path))
    found["another architecture"] = Model(net.eval(), classes=("control", "treated"), preprocess=normalise, task="classification")
    return found


class Instrument:
    """Measures the nine factors of any image by what pellucid measures of it after segmenting it anew."""

    def __init__(self, phantom: Phantom, ids: list[str]) -> None:
        self.record = phantom.images.record
        rows = dict(zip(phantom.factors["image"].to_pylist(), phantom.factors.to_pylist(), strict=True))
        truth = np.array([[rows[name][factor.name] for factor in CELL_FACTORS] for name in ids], dtype=float)
        seen = self._phenotypes(phantom.images.tensor(ids))
        self.middle = np.nanmedian(seen, axis=0)
        seen, half = self._filled(seen), len(ids) * 2 // 3
        self.fitted = [
            make_pipeline(StandardScaler(), PolynomialFeatures(2, interaction_only=False, include_bias=False), StandardScaler(),
                          RidgeCV(np.logspace(-1, 5, 13))).fit(seen[:half], column[:half])
            for column in truth.T
        ]  # fmt: skip
        guessed = self._read(seen)
        self.recovery = {
            factor.name: float(spearmanr(guessed[half:, place], truth[half:, place]).statistic)
            for place, factor in enumerate(CELL_FACTORS)
        }
        self.names = tuple(name for name, rho in self.recovery.items() if rho >= RECOVERED)
        self.spread = guessed[:, self._kept].std(0)

    @property
    def _kept(self) -> list[int]:
        return [place for place, factor in enumerate(CELL_FACTORS) if factor.name in self.names]

    def _phenotypes(self, images: Tensor) -> np.ndarray:
        rows = []
        for image in images:
            try:
                labels = (segment(image) > 0).long()
                table = phenotypes(image, labels, self.record)
            except BadImage:
                table = None
            rows.append(list(table.to_pylist()[0].values())[1:] if table is not None and table.num_rows else None)
        width = max((len(row) for row in rows if row), default=0)
        return np.array([[np.nan] * width if row is None else [np.nan if v is None else v for v in row] for row in rows])

    def _filled(self, seen: np.ndarray) -> np.ndarray:
        return np.where(np.isnan(seen), self.middle, seen)

    def _read(self, seen: np.ndarray) -> np.ndarray:
        return np.stack([model.predict(seen) for model in self.fitted], axis=1)

    def __call__(self, images: Tensor) -> np.ndarray:
        """Return the recovered factors ``(N, M)``."""
        return self._read(self._filled(self._phenotypes(images)))[:, self._kept]

    def of(self, before: Tensor, after: Tensor, causes: tuple[str, ...]) -> Measured:
        """Return what is measured of pairs."""
        return Measured(self.names, self(before), self(after), self.spread, causal=tuple(c for c in causes if c in self.names))


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
        if phantom.label(image, **moved) != label:
            break
    return phantom.render(image, **moved)


def told(name: str, found: Counterfactuals, measured: Measured, others: dict[str, Model], seconds: float) -> list[str]:
    """Return the lines of one kind of counterfactual."""
    table = score_counterfactuals(found, others=others, measured=measured)
    summary = summarise(table)
    column = lambda score: np.array([r["value"] for r in table.to_pylist() if r["score"] == score and r["value"] is not None])  # noqa: E731
    monotone = int((column("monotonicity") > 0.9).sum())
    lines = [f"  {name}: gate {'open' if found.gate.passed else 'CLOSED (' + ', '.join(c.name for c in found.gate.failed) + ')'}"]
    for model in ("", *others):
        share = summary["validity", model]
        lines.append(f"    validity on {model or 'the explained net'}: {round(share.value * share.n)}/{share.n} = {share}")
    supported = share_interval(int(found.valid.sum()), len(found.ids))
    lines += [
        f"    of them within the support: {int(found.valid.sum())}/{len(found.ids)} = {supported}",
        f"    specificity: median {np.median(column('specificity')):.2f}; causal shift {summary['causal_shift', '']}, nuisance drift {summary['nuisance_drift', '']}",
        f"    Spearman(dose, score) > 0.9: {monotone}/{len(column('monotonicity'))} = {share_interval(monotone, len(column('monotonicity')))}",
        f"    proximity {summary['proximity', '']}, sparsity at 0.05 {summary['sparsity', '']}, grain {summary['grain', '']}",
        f"    {seconds / len(found.ids):.3f} s an image with 9 doses",
    ]
    return lines


def run(rule: str, args: argparse.Namespace) -> None:
    """Run one rule and print its numbers."""
    out = args.out / f"{rule.replace(' ', '_')}_{args.size}"
    out.mkdir(parents=True, exist_ok=True)
    phantom = cells(args.images, size=(args.size, args.size), rule=rule)
    split = dict(zip(phantom.images.ids, phantom.images.column("split"), strict=True))
    train, test = ([name for name in phantom.images.ids if split[name] == part] for part in ("train", "test"))
    judges = nets(phantom, out, args.epochs, train)
    model, x, held_out = judges["explained"], phantom.images.tensor(train), phantom.images.tensor(test)
    others = {name: judge for name, judge in judges.items() if name != "explained"}
    labels = torch.tensor(phantom.images.label(test))
    print(f"{rule}, {args.size} px, {len(train)} training images")
    for name, judge in judges.items():
        right = int((_called(judge, held_out) == labels).sum())
        print(f"  accuracy of {name}: {right}/{len(test)} = {share_interval(right, len(test))}")
    fitted, spent = _generator(args, x, model, out)
    print(f"  {fitted.generator}: {spent['wall']:.0f} s wall, {spent['cpu']:.0f} s CPU to fit")
    verdict = gate(fitted, model, held_out[args.explained :][:200], training=x, ids=test[args.explained :][:200])
    for check in verdict.checks:
        print(f"    {check}")
    ids, few = test[: args.explained], held_out[: args.explained]
    instrument = Instrument(phantom, test[args.explained :][: args.calibration])
    print("  recovered factors: " + ", ".join(f"{name} {rho:.2f}" for name, rho in instrument.recovery.items()))
    begun = time.perf_counter()
    found = counterfactual(model, few, generator=fitted, gate=verdict, ids=ids)
    seconds = time.perf_counter() - begun
    print("\n".join(told("counterfactuals", found, instrument.of(few, found.changed, phantom.causes), others, seconds)))
    strip = found.exaggerate()
    rising = int((strip.spearman * found.aim.direction > 0.9).sum())
    print(f"    Spearman over doses −3 to 3 > 0.9: {rising}/{len(ids)} = {share_interval(rising, len(ids))}")
    found.plot(most=8, record=phantom.images.record).savefig(out / "counterfactuals.png", dpi=110)
    _print_truth(phantom, ids, few, instrument, judges)
    closed = gate(fitted, model, held_out[args.explained :][:200], training=x, search="pixel_attack")
    begun = time.perf_counter()
    attacked = counterfactual(model, few, generator=fitted, gate=closed, search="pixel_attack", ids=ids)
    seconds = time.perf_counter() - begun
    print("\n".join(told("pixel attack", attacked, instrument.of(few, attacked.changed, phantom.causes), others, seconds)))


def _called(model: Model, x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([model.network(model.prepare(part)[0]).argmax(1) for part in x.split(64)])


def _generator(args: argparse.Namespace, x: Tensor, model: Model, out: Path):
    recipe, path, clock = faithful_autoencoder(steps=args.steps), out / f"generator_{args.steps}.safetensors", out / "clock.json"
    if path.is_file():
        return recipe.restore(load_file(path), tuple(x.shape[1:])), json.loads(clock.read_text())
    wall, cpu = time.perf_counter(), time.process_time()
    fitted = recipe.fit(x, model, checkpoint=path.with_suffix(".pt"))
    spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    clock.write_text(json.dumps(spent))
    save_file(dict(fitted.tensors()), path)
    return fitted, spent


def _print_truth(phantom: Phantom, ids: list[str], x: Tensor, instrument: Instrument, judges: dict[str, Model]) -> None:
    """Print what the true counterfactuals give: the ceiling of every number above."""
    truth = torch.stack([true_counterfactual(phantom, image) for image in ids])
    parts = instrument.of(x, truth, phantom.causes).parts()
    print(f"  true counterfactuals (rendered): specificity median {np.nanmedian(parts['specificity']):.2f}, causal shift "
          f"{np.nanmean(parts['causal_shift']):.2f}, nuisance drift {np.nanmean(parts['nuisance_drift']):.2f}")  # fmt: skip
    wanted = 1 - torch.tensor(phantom.images.label(ids))
    for name, judge in judges.items():
        right = int((_called(judge, truth) == wanted).sum())
        print(f"    {name} gives them the other class: {right}/{len(ids)} = {share_interval(right, len(ids))}")


def main() -> None:
    """Read the arguments and run the rules."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("counterfactual_benchmark"))
    parser.add_argument("--rules", nargs="+", default=None)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    quick = args.quick
    args.rules = args.rules or (RULES[:1] if quick else RULES)
    args.images, args.epochs, args.steps = (2000, 12, 2000) if quick else (7200, 25, 4500)
    args.explained, args.calibration = (60, 240) if quick else (240, 600)
    for rule in args.rules:
        run(rule, args)


if __name__ == "__main__":
    main()
