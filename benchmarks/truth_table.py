"""Planted truth, method by method: how much of each map lies where the evidence was planted, over what chance would put there?

    python benchmarks/truth_table.py OUT [--write]

Nets of several layouts learn phantoms whose evidence has exact pixels. A net counts once it is right on nine held-out
images of ten and re-rendering (`flip_matrix`) shows that it relies on the planted factor. Each method then tells why
held-out ill images were called so; a cell is the mean over images of relevance mass inside the truth, divided by the
truth's share of the image, with its interval over slides. One JSON a cell is kept in OUT, so that a run that was stopped
goes on; `--write` puts the table into docs/benchmarks.md.
"""

import argparse
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import harness
import layouts
import torch
from keeping import kept
from rich.console import Console
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pellucid import PellucidError, evaluate, explain, fit_patterns, targets
from pellucid.attribution import METHODS, Method
from pellucid.images import phantoms
from pellucid.images.phantoms import Decoys, Phantom
from pellucid.interpretation import flip_matrix
from pellucid.intervals import Interval, mean_interval, share_interval
from pellucid.models import Augment, Model, Normalise, predict, residual_net

IMAGES, LEAST, LEAST_EFFECT = 24, 0.9, 0.1
WHY = targets.Contrast(1, 0)
"""Why ill rather than healthy: the difference of the two logits, on which the call hangs."""

ANY = (
    "random_map", "edge_map",
    "gradient", "saliency", "input_x_gradient", "smoothgrad(samples=12)", "vargrad(samples=12)",
    "integrated_gradients(steps=16)", "blur_ig(steps=16)", "guided_ig(steps=8)", "expected_gradients(samples=16)",
    "expressive_gradients(steps=16)", "deeplift", "deeplift_reveal_cancel", 'deep_shap(background=("zero", "mean", "blur"))',
    'lrp(composite="epsilon")', 'lrp(composite="epsilon_plus_flat")', 'lrp(composite="epsilon_alpha2_beta1_flat")',
    "attn_lrp", "excitation_backprop", "deconvnet", "guided_backprop",
    "gradcam", "gradcam_plus_plus", "hirescam", "layercam", "xgradcam", "eigencam", "scorecam", "ablationcam", "guided_gradcam",
    "ablation(segments=60)", "lime(segments=60, samples=200)", "kernel_shap(segments=60, samples=300)",
    "shapley_sampling(segments=60, samples=4)", "owen(segments=60, samples=4)", "rise(samples=300)",
    "attention_rollout", "attention_flow", "attention_maps", "chefer", "legrad",
)  # fmt: skip
PLANE = (
    "occlusion(window=4, stride=2)", "sobol(grid=8, samples=4)", "hsic(grid=8, samples=300)",
    "extremal_perturbation(areas=(0.05,), steps=30)",
)  # fmt: skip
SPACE = (
    "occlusion(window=(2, 4, 4), stride=(2, 4, 4))", "sobol(grid=4, samples=4)", "hsic(grid=4, samples=300)",
    "extremal_perturbation(areas=(0.05,), steps=30)",
)  # fmt: skip
BOXED = ('lrp(composite="epsilon_gamma_box", low={low}, high={high})', "deep_taylor(low={low}, high={high})")
FITTED = ("pattern_net", "pattern_attribution")


@dataclass(frozen=True)
class Scene:
    """A phantom, where its evidence lies, and how its images may be turned."""

    title: str
    make: Callable[[], Phantom]
    truth: str
    axes: str = "YX"


@dataclass(frozen=True)
class Net:
    """A layout and how long it learns."""

    build: Callable[[], nn.Module]
    epochs: int
    rate: float
    batch: int = 32


SCENES = {
    "cells": Scene("spots among decoys", lambda: phantoms.cells(1800, (48, 48), decoys=Decoys()), "spot_number"),
    "grains": Scene("fusarium patch", lambda: phantoms.grains(600, (48, 48), defect="fusarium"), "fusarium_area"),
    "volumes": Scene("nodules, 3-D", lambda: phantoms.volumes(700, (12, 28, 28)), "nodule_number", "ZYX"),
}
NETS = {
    "residual": Net(lambda: residual_net(classes=2, width=12), 10, 4e-3),
    "VGG": Net(layouts.vgg, 10, 2e-3),
    "EfficientNet": Net(layouts.efficientnet, 14, 4e-3),
    "ConvNeXt": Net(layouts.convnext, 24, 2e-3),
    "ViT": Net(layouts.vit, 45, 2e-3),
    "CNN 3-D": Net(layouts.voxels, 16, 8e-3, batch=16),
}
COLUMNS = (
    ("cells", "residual"), ("cells", "VGG"), ("cells", "EfficientNet"), ("cells", "ConvNeXt"), ("cells", "ViT"), ("grains", "residual"),
    ("grains", "ConvNeXt"), ("grains", "ViT"), ("volumes", "CNN 3-D"),
)  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One net on one phantom, trained once."""

    scene: Scene
    net: Net
    weights: Path

    @cached_property
    def phantom(self) -> Phantom:
        return self.scene.make()

    def ids(self, split: str) -> list[str]:
        images = self.phantom.images
        return [one for one, own in zip(images.ids, images.column("split"), strict=True) if own == split]

    def labels(self, ids: Sequence[str]) -> Tensor:
        return torch.tensor(self.phantom.images.label(ids))

    @cached_property
    def model(self) -> Model:
        """The trained net, read from its file where there is one."""
        x = self.phantom.images.tensor(self.ids("train"))
        over = (0, *range(2, x.ndim))
        preprocess = Normalise(tuple(x.mean(over).tolist()), tuple(x.std(over).tolist()))
        torch.manual_seed(0)
        network = self.net.build()
        if self.weights.is_file():
            network.load_state_dict(load_file(self.weights))
        else:
            learn(network, preprocess(x), self.labels(self.ids("train")), self.net, self.scene.axes)
            save_file(network.state_dict(), self.weights)
        return Model(network.eval(), classes=self.phantom.images.classes, preprocess=preprocess, task="classification")

    def called(self, ids: Sequence[str]) -> Tensor:
        """Return the class that the net calls each image."""
        return predict(self.model, self.phantom.images, ids).logits.argmax(1)

    def judged(self) -> dict[str, Any]:
        """Say how often the net is right on held-out slides, and how far the planted factor and the next move its call."""
        ids = self.ids("test")
        right = self.called(ids) == self.labels(ids)
        reliance = flip_matrix(self.model, self.phantom, ids[:40])
        effects = {name: [effect.value, effect.low, effect.high] for name, effect in reliance.effects().items()}
        sure = bool(right.float().mean() >= LEAST and self.scene.truth in reliance.used())
        return {"right": int(right.sum()), "images": len(ids), "effects": effects, "counts": sure}

    @cached_property
    def shown(self) -> list[str]:
        """Held-out ill images that the net calls ill, from as many slides as there are."""
        ids = self.ids("test")
        ill = [one for one, own, said in zip(ids, self.labels(ids), self.called(ids), strict=True) if own == 1 == said]
        return ill[:: max(1, len(ill) // IMAGES)][:IMAGES]

    def method(self, text: str) -> Method:
        """Return the method with what it needs of this phantom: the range of its pixels in model space, or patterns."""
        if text in FITTED:
            return METHODS[text](patterns=self.patterns)
        ends = (torch.full((1, self.phantom.images.shape[0], 1), end) for end in (-0.001, 1.001))
        low, high = (tuple(round(one, 3) for one in self.model.preprocess(end).flatten().tolist()) for end in ends)
        return METHODS.parse(text.format(low=low, high=high))

    @cached_property
    def patterns(self) -> Any:
        return fit_patterns(self.model, self.phantom.images.tensor(self.ids("train")[:300]))

    def cell(self, text: str) -> dict[str, Any]:
        """Explain with one method and return mass over chance, image by image, or the sentence that refuses."""
        began = time.process_time()
        x, truth = self.phantom.images.tensor(self.shown), self.phantom.factor_mask(self.scene.truth, self.shown)
        try:
            found = explain(self.model, x, self.method(text), target=WHY, ids=self.shown)
        except PellucidError as refused:
            return {"method": text, "refused": str(refused)}
        rows = evaluate(self.model, x, [found], ["relevance_mass"], masks=truth, ids=self.shown).table.to_pylist()
        known = [row for row in rows if row["value"] is not None and math.isfinite(row["value"])]
        slides = dict(zip(self.shown, self.phantom.images.column("group", self.shown), strict=True))
        return {
            "method": text, "refused": "" if known else rows[0]["reason"], "seconds": time.process_time() - began,
            "gain": [row["value"] / row["chance"] for row in known], "slides": [slides[row["image"]] for row in known],
            "most": [1 / row["chance"] for row in known],
        }  # fmt: skip


def learn(network: nn.Module, x: Tensor, labels: Tensor, net: Net, axes: str) -> None:
    """Train on images in model space, mirrored and shifted at random."""
    optimiser = torch.optim.AdamW(network.parameters(), net.rate, weight_decay=0.05)
    turns = len(x) // net.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, net.rate, total_steps=net.epochs * turns, pct_start=0.2)
    augment, generator = Augment(flip=axes, shift=0.05), torch.Generator().manual_seed(0)
    network.train()
    for _ in range(net.epochs):
        for rows in torch.randperm(len(x), generator=generator).split(net.batch)[:turns]:
            loss = nn.functional.cross_entropy(network(augment(x[rows], axes, generator)), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    network.eval()


def panel(scene: Scene) -> tuple[str, ...]:
    """Return the methods for images of this many axes."""
    return (*ANY, *(PLANE if len(scene.axes) == 2 else SPACE), *BOXED, *FITTED)


def run(
    out: Path, chosen: Sequence[tuple[str, str]]
) -> tuple[dict[tuple[str, str], dict[str, Any]], dict[tuple[str, str], list[dict[str, Any]]]]:
    """Judge every net and explain with every method, where that was not done before."""
    out.mkdir(parents=True, exist_ok=True)
    nets, cells = {}, {}
    for scene, net in chosen:
        stem = f"{scene}-{net.replace(' ', '_')}"
        trial = Trial(SCENES[scene], NETS[net], out / f"{stem}.safetensors")
        nets[scene, net] = kept(out / f"{stem}.json", trial.judged)
        if nets[scene, net]["counts"]:
            cells[scene, net] = [
                kept(out / f"{stem}-{number:02d}.json", lambda text=text, trial=trial: trial.cell(text))
                for number, text in enumerate(track(panel(trial.scene), stem))
            ]
    return nets, cells


def told(cell: Mapping[str, Any]) -> Interval | None:
    """Return the mean gain over chance with its interval over slides, None where the method refuses."""
    return None if cell["refused"] else mean_interval(cell["gain"], groups=cell["slides"], bounds=(0.0, math.inf))


def short(interval: Interval | None, edges: Interval | None) -> str:
    """Return the cell of the table; a dot says that the control that only sees edges may do as well."""
    if interval is None:
        return "–"
    dot = " ·" if edges is not None and interval.low <= edges.value else ""
    return f"{interval.value:.1f} [{interval.low:.1f}, {interval.high:.1f}]{dot}"


def name_of(text: str) -> str:
    """Return a method's name, with the composite where there are several."""
    composite = text.partition('composite="')[2].partition('"')[0]
    return f"`{text.partition('(')[0]}`" + (f" {composite}" if composite else "")


def described(scene: str, net: str, judged: Mapping[str, Any]) -> str:
    """Return a line on one net: how often right, on what it relies, whether it is in the table."""
    right = share_interval(judged["right"], judged["images"])
    uses = [f"{name} {value:.2f}" for name, (value, low, _) in judged["effects"].items() if low > LEAST_EFFECT]
    verdict = "" if judged["counts"] else "; left out"
    return f"- {scene}, {net}: accuracy {right}; moves the call on average by: {', '.join(uses) or 'nothing'}{verdict}"


def report(nets: Mapping[tuple[str, str], Any], cells: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]) -> str:
    """Return the table in Markdown, the methods that do best over all nets first."""
    grid: dict[str, dict[tuple[str, str], Interval | None]] = {}
    for column, found in cells.items():
        for cell in found:
            grid.setdefault(name_of(cell["method"]), {})[column] = told(cell)

    def level(column: tuple[str, str]) -> float:
        return median(one.value for found in grid.values() if (one := found.get(column)) is not None)

    usual = {column: level(column) for column in cells}

    def merit(name: str) -> float:
        known = [
            math.log(max(one.value / usual[column], 0.01)) for column, one in grid[name].items() if one is not None
        ]
        return -sum(known) / len(known) if known else math.inf

    rows = [
        "| "
        + " | ".join([name, *(short(grid[name].get(column), grid["`edge_map`"][column]) for column in cells)])
        + " |"
        for name in sorted(grid, key=merit)
    ]
    head = ["method", *(f"{SCENES[scene].title}: {net}" for scene, net in cells)]
    most = [max(found, key=lambda cell: len(cell.get("most", ())))["most"] for found in cells.values()]
    rows.append("| *all of it inside* | " + " | ".join(f"{sum(one) / len(one):.0f}" for one in most) + " |")
    lines = [described(scene, net, judged) for (scene, net), judged in nets.items()]
    return "\n".join([*lines, "", harness.table(head, rows)])


def main() -> None:
    """Run what is missing, print, and write if asked."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--write", action="store_true", help=f"put the table into {harness.DOCUMENT.name}")
    parser.add_argument("--only", nargs="*", type=int, default=range(len(COLUMNS)), help="numbers of columns, from 0")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # what single maps warn of is not the table's subject
    text = report(*run(given.out, [COLUMNS[number] for number in given.only]))
    Console(width=250).print(text, markup=False)
    if given.write:
        harness.write(
            "truth_table",
            f"`python benchmarks/truth_table.py OUT --write`: {harness.where()}; {IMAGES} images.\n\n{text}",
        )


if __name__ == "__main__":
    main()
