"""Do maps reveal bugs that were planted: a spurious cue, wrong labels, images of another kind; and do they tell models apart?

    python benchmarks/debugging.py OUT [IMAGES]

Six small nets learn from phantoms: cells by their spots (two seeds), the same with a fifth of the training labels wrong, cells
whose labels follow a tag and nothing else, cells by the shading behind them, and kernels. Then, method by method: how dense is
|attribution| under the tag, over the image's mean, and what share of it lies there (a net that has only the tag to go by: dataset
modification); how alike are the maps of the mislabelled training images by the net that learnt them wrong and by a clean one, beside
two clean ones; how alike the maps of kernels by the net of kernels and by that of cells; and BAM's model contrast and input
independence. Nets are kept in OUT. After Adebayo et al. 2020 (Debugging tests for model explanations), Zhou et al. 2022 (Do feature
attribution methods correctly attribute features?), Yang and Kim 2019 (BAM).
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr
from torch import Tensor

from pellucid import explain
from pellucid.evaluation import input_independence, model_contrast
from pellucid.images import ImageSet, phantoms
from pellucid.images.phantoms import Phantom, Shortcut
from pellucid.intervals import Interval, mean_interval
from pellucid.models import Model, Passes, fit, load_model, save_model

SIZE = (48, 48)
METHODS = (
    "saliency", "input_x_gradient", "integrated_gradients(steps=16)", "smoothgrad(samples=8)", "guided_backprop", "deeplift",
    'lrp(composite="epsilon_plus_flat")', "gradcam", "occlusion(window=6, stride=3)", "edge_map", "random_map",
)  # fmt: skip
WRONG = 0.2
TRIED = 24


@dataclass(frozen=True)
class Bench:
    """The phantoms and the nets."""

    out: Path
    count: int

    @cached_property
    def cells(self) -> Phantom:
        return phantoms.cells(self.count, SIZE, 0, shortcut=Shortcut(correlation=0.0, shape="disc", place=40.0))

    @cached_property
    def kernels(self) -> Phantom:
        return phantoms.grains(self.count // 2, SIZE, 0)

    def test(self, phantom: Phantom) -> list[str]:
        images = phantom.images
        return [one for one, split in zip(images.ids, images.column("split"), strict=True) if split == "test"]

    @cached_property
    def mislabelled(self) -> tuple[str, ...]:
        images = self.cells.images
        train = [one for one, split in zip(images.ids, images.column("split"), strict=True) if split == "train"]
        return tuple(np.random.default_rng(0).permutation(train)[: int(WRONG * len(train))])

    def by(self, factor: str) -> ImageSet:
        """Return the cells labelled by another factor than the spots."""
        values = np.array(self.cells.factors[factor].to_pylist(), dtype=float)
        return replace(
            self.cells.images,
            labels=tuple((values > np.median(values) if len(set(values)) > 2 else values > 0.5).astype(int).tolist()),
        )

    def wrong(self) -> ImageSet:
        images, turned = self.cells.images, set(self.mislabelled)
        return replace(
            images,
            labels=tuple(
                1 - label if one in turned else label
                for one, label in zip(images.ids, images.labels or (), strict=True)
            ),
        )

    def net(self, name: str) -> Model:
        """Return a net, trained once."""
        sets: dict[str, Callable[[], ImageSet]] = {
            "spots": lambda: self.cells.images, "spots again": lambda: self.cells.images, "wrong labels": self.wrong,
            "tag": lambda: self.by("shortcut"), "shading": lambda: self.by("background_shading"), "kernels": lambda: self.kernels.images,
        }  # fmt: skip
        path = self.out / f"{name.replace(' ', '_')}.safetensors"
        if not path.is_file():
            fitted = fit(
                sets[name](),
                seed=int(name == "spots again"),
                epochs=40 if name == "wrong labels" else 14,
                augment=name != "wrong labels",
            )
            print(f"{name}: accuracy {fitted.performance.accuracy}")
            save_model(fitted.model, path)
        return load_model(path)


def maps(model: Model, x: Tensor, method: str) -> Tensor:
    """Explain the first class's logit against nothing: the same target for every net."""
    found = explain(model, x, f"{method}", 1).values
    assert isinstance(found, Tensor)
    return found.sum(1, keepdim=True)


def alike(one: Tensor, other: Tensor) -> Interval:
    """Return the mean rank correlation of |attribution|, image by image."""
    pairs = zip(one.abs().flatten(1).numpy(), other.abs().flatten(1).numpy(), strict=True)
    return mean_interval([spearmanr(left, right).statistic for left, right in pairs], bounds=(-1.0, 1.0))


def inert(model: Model, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return images with the least moving of some random patches, and where it lies."""
    random = np.random.default_rng(0)
    images, places = [], []
    with Passes(model) as passes:
        for row in x:
            tried, masks = row.repeat(TRIED, 1, 1, 1), torch.zeros(TRIED, *SIZE, dtype=torch.bool)
            for place in range(TRIED):
                top, left = random.integers(0, SIZE[0] - 6, 2)
                masks[place, top : top + 6, left : left + 6] = True
                tried[place, :, top : top + 6, left : left + 6] = torch.from_numpy(
                    random.uniform(0, 1, (3, 1, 1))
                ).float()
            before, after = passes.outputs(model.prepare(row[None])), passes.outputs(model.prepare(tried))
            best = int((after - before).abs().sum(1).argmin())
            images.append(tried[best])
            places.append(masks[best])
    return torch.stack(images), torch.stack(places)


def main(out: Path, count: int) -> None:
    """Print one row a method."""
    out.mkdir(parents=True, exist_ok=True)
    bench = Bench(out, count)
    cells, kernels = bench.cells, bench.kernels
    test = bench.test(cells)
    tagged = [one for one in test if cells.factors["shortcut"][cells.images.ids.index(one)].as_py() > 0.5][:40]
    x, region = cells.images.tensor(tagged), cells.factor_mask("shortcut", tagged)
    without = torch.stack([cells.render(one, shortcut=0) for one in tagged])
    with Passes(bench.net("tag")) as passes:
        calls = [passes.outputs(passes.model.prepare(images)).argmax(1).float().mean() for images in (x, without)]
    print(
        f"the net of the tag calls {calls[0]:.2f} of {len(x)} images with it and {calls[1]:.2f} of the same without it class 1"
    )
    table = Table("method", "tag: density, net of the tag", "net of the spots", "share under the tag", "wrong labels: clean–wrong", "clean–clean",
                  "kernels: own–foreign net", "model contrast, cell", "inert patch: same")  # fmt: skip
    wrong, foreign = cells.images.tensor(bench.mislabelled[:40]), kernels.images.tensor(bench.test(kernels)[:40])
    cell, spots = cells.factor_mask("object", test[:40]), cells.images.tensor(test[:40])
    patched, patch = inert(bench.net("spots"), spots)
    for method in METHODS:
        table.add_row(method, *map(str, row(bench, method, x, region, wrong, foreign, spots, cell, patched, patch)))
    Console(width=220).print(table)


def row(bench: Bench, method: str, x: Tensor, region: Tensor, wrong: Tensor, foreign: Tensor, spots: Tensor, cell: Tensor,
        patched: Tensor, patch: Tensor) -> Sequence[Interval]:  # fmt: skip
    """Return the numbers of one method."""

    def own(name: str, images: Tensor) -> Tensor:
        found = maps(bench.net(name), images, method)
        return (
            found
            if found.shape[2:] == images.shape[2:]
            else torch.nn.functional.interpolate(found, images.shape[2:], mode="bilinear")
        )

    def inside(found: Tensor) -> Tensor:
        return (found.abs() * region[:, None]).flatten(1).sum(1) / found.abs().flatten(1).sum(1)

    part = region.flatten(1).float().mean(1)
    by_tag, by_spots = own("tag", x), own("spots", x)
    return (
        mean_interval((inside(by_tag) / part).numpy()), mean_interval((inside(by_spots) / part).numpy()),
        mean_interval(inside(by_tag).numpy(), bounds=(0.0, 1.0)),
        alike(own("spots", wrong), own("wrong labels", wrong)), alike(own("spots", wrong), own("spots again", wrong)),
        alike(own("kernels", foreign), own("spots", foreign)),
        model_contrast(own("spots", spots), own("shading", spots), cell),
        input_independence(own("spots", spots), own("spots", patched), patch),
    )  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 900)
