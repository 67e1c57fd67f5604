"""Repeat-training stability on aligned volumes: are maps of gradient methods nearer to each other than those of occlusion?

    python benchmarks/stability.py [SEEDS]

After Eitel and Ritter 2019: one small 3-D network a seed learns to tell atrophied from healthy phantoms of a head that
all lie alike; every method explains the same held-out patients on every network; average maps are compared over networks
of equal accuracy. Their inequality (gradient methods and LRP about ten times below occlusion) is tested, not assumed.
"""

import sys

import numpy as np
import pyarrow as pa
import torch
from rich.console import Console
from rich.table import Table
from scipy import ndimage
from torch import Tensor

from pellucid import explain
from pellucid.evaluation import average_distances, compare_models, equally_accurate
from pellucid.evaluation.stability import REPEATED, box_atlas
from pellucid.images import ImageRecord, ImageSet
from pellucid.models import Fitted, Model, fit, predict

SHAPE = (12, 20, 20)
COUNT = 160
METHODS = ("input_x_gradient", "guided_backprop", 'lrp(composite="epsilon_plus_flat")', "occlusion(window=4, stride=4)")


def heads(count: int) -> ImageSet:
    """Draw heads on one grid; patients have lost half of the volume of two small nuclei, and everybody's anatomy varies."""
    random = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(size) - (size - 1) / 2 for size in SHAPE], indexing="ij"))
    pixels = []
    for row in range(count):
        skull = np.linalg.norm(grid / np.array([5.5, 9, 9])[:, None, None, None], axis=0) + random.normal(0, 0.02)
        image = 0.4 * (skull < 1) + 0.05 * ndimage.gaussian_filter(random.standard_normal(SHAPE), 1.5)
        for side in (-4, 4):
            centre = np.array([0, 2, side])[:, None, None, None] + random.normal(0, 0.3, (3, 1, 1, 1))
            radius = (2.4 if row % 2 == 0 else 1.9) + random.normal(0, 0.15)
            image = image + 0.4 * (np.linalg.norm(grid - centre, axis=0) < radius)
        pixels.append(torch.from_numpy(image + 0.03 * random.standard_normal(SHAPE)).float()[None])
    ids = tuple(f"head {row:03d}" for row in range(count))
    part = ["train" if row < 0.6 * count else "test" for row in range(count)]
    return ImageSet(
        ids=ids, record=ImageRecord("CZYX", ("signal",)), shape=(1, *SHAPE), load=lambda name: pixels[ids.index(name)],
        classes=("healthy", "patient"), labels=tuple(row % 2 for row in range(count)),
        metadata=pa.table({"split": part}), split_column="split",
    )  # fmt: skip


def learnt(images: ImageSet, seeds: int) -> list[Fitted]:
    """Train one network a seed."""
    return [fit(images, seed=seed, epochs=12, width=8, depth=2, batch_size=16, augment=False) for seed in range(seeds)]


def equal(images: ImageSet, nets: list[Fitted], ids: tuple[str, ...]) -> dict[str, Model]:
    """Keep the networks that are as accurate as the first, by name."""
    truth = np.array(images.label(ids))
    right = [np.array(predict(net.model, images, ids).table["predicted"].to_pylist()) == truth for net in nets]
    kept = [place for place, one in enumerate(right) if equally_accurate(right[0], one)[1]]
    print(
        f"accuracy: {', '.join(f'{one.mean():.3f}' for one in right)}; equal to the first: {len(kept)} of {len(nets)}"
    )
    return {f"seed {place}": nets[place].model for place in kept}


def main(seeds: int) -> None:
    """Print one row a method."""
    images = heads(COUNT)
    nets = learnt(images, seeds)
    test = nets[0].split.test
    models = equal(images, nets, test)
    patients = tuple(image for image in test if images.label([image])[0] == 1)
    x = images.tensor(patients)
    table = Table(
        "method", "L2 of average maps", "rank corr. of averages", "L2 an image", "top regions", "L2 / occlusion's"
    )
    rows = {method: measured(models, x, method, patients) for method in METHODS}
    for method, values in rows.items():
        table.add_row(method, *(f"{value:.3f}" for value in (*values, values[0] / rows[METHODS[-1]][0])))
    Console(width=140).print(table)


def measured(
    models: dict[str, Model], x: Tensor, method: str, ids: tuple[str, ...]
) -> tuple[float, float, float, float]:
    """Return distance and correlation of average maps, distance of single maps, and overlap of the densest regions."""
    explained = {name: explain(model, x, method, 1, ids=ids) for name, model in models.items()}
    averages = average_distances({name: one.values for name, one in explained.items()})
    first, *others = models
    scores = compare_models(
        models[first], {name: models[name] for name in others}, x, [explained[first]], regions=box_atlas(SHAPE)
    ).to_pylist()
    single, density = (
        float(np.mean([row["value"] for row in scores if row["metric"] == metric and row["value"] is not None]))
        for metric in (REPEATED[0], REPEATED[2])
    )
    return (
        float(np.mean(averages["l2"].to_numpy())),
        float(np.mean(averages["correlation"].to_numpy())),
        single,
        density,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
