"""The confounder court on rendered cells: nets that read the class, the batch or both, where the two cross.

    python benchmarks/court.py OUT [--seeds 0 1 2]

The class follows the size of the cell, the batch the shading of its background, which is drawn independently: in every class
there are images of both batches. One net is taught the class, one the batch, one whether both together are large. All three are
asked in the court about their way to the other answer, its overlap with the batch's way and what both change. The truth is
known: the first is apart from the batch, the others share its way. One JSON a net is kept in OUT.
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from keeping import kept
from phenotypes import PHENOTYPES, Scale, split

from pellucid.counterfactual import GENERATORS
from pellucid.images import ImageSet, phantoms
from pellucid.interpretation.phenotypes import Atlas, court
from pellucid.measure import Profiler
from pellucid.models import fit, load_model, save_model

READS = {"the class": "apart", "the batch": "shared", "both": "shared"}
"""What each net is taught, and what the court should find."""

MEASURED = ("AreaShape_Area", "Intensity_StdIntensity_blue", "Background_Slope")


def labels_of(factors: dict[str, np.ndarray], reads: str) -> tuple[int, ...]:
    """Return the labels that a net is taught."""
    size, shading = (
        (factors[name] - factors[name].mean()) / factors[name].std() for name in ("cell_size", "background_shading")
    )
    values = {"the class": size, "the batch": shading, "both": size + shading}[reads]
    return tuple((values > np.median(values)).astype(int).tolist())


def asked(reads: str, seed: int, images: ImageSet, factors: dict[str, np.ndarray], out: Path) -> dict[str, Any]:
    """Train a net and ask the court."""
    scale, name = Scale(), f"{reads.replace(' ', '_')}-{seed}"
    kept = out / f"{name}.safetensors"
    if not kept.is_file():
        save_model(fit(replace(images, labels=labels_of(factors, reads)), epochs=scale.epochs, seed=seed).model, kept)
    model, train, test = load_model(kept), split(images, "train"), split(images, "test")[:40]
    generator = GENERATORS.parse(f"faithful_autoencoder(steps={scale.steps})")
    fitted = generator.fit(images.tensor(train), model, seed=seed, checkpoint=out / f"{name}.generator")
    profiler = Profiler(record=images.record, names=MEASURED)
    atlas = Atlas.of(fitted, images.tensor(train), profiler, groups=images.column("group", train), seed=seed)
    rows = [images.ids.index(one) for one, whole in zip(train, atlas.whole, strict=True) if whole]
    classes, batches = (np.array(labels_of(factors, kind))[rows].tolist() for kind in ("the class", "the batch"))
    found = court(
        model, atlas, images.tensor(test), classes=classes, batches=[f"plate {one}" for one in batches],
        groups=images.column("group", test), seed=seed,
    )  # fmt: skip
    return {"reads": reads, "seed": seed, "verdict": found.verdict, **found.table.to_pylist()[0]}


def main() -> None:
    """Ask about every net that is not kept yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    print(
        "| net reads | seed | overlap [95 %] | dealt-out batches stay under | pull | p | both change | verdict | right |"
    )
    print("|" + "---|" * 9)
    for seed in given.seeds:
        phantom = phantoms.cells(Scale().images, (32, 32), seed, rule="cell_size")
        pixels = dict(zip(phantom.images.ids, phantom.images.tensor(), strict=True))
        images = replace(phantom.images, load=pixels.__getitem__)
        factors = {name: np.array(phantom.factors[name].to_pylist(), dtype=float) for name in PHENOTYPES}
        for reads, expected in READS.items():
            path = given.out / f"{reads.replace(' ', '_')}-{seed}.json"
            row = kept(path, partial(asked, reads, seed, images, factors, given.out))
            bounds = "" if row["low"] is None else f" [{row['low']:.2f}, {row['high']:.2f}]"
            print(
                f"| {reads} | {seed} | {row['overlap']:+.2f}{bounds} | {row['null']:.2f} | {row['pull']:+.2f} | {row['pull_p']:.3f} | "
                f"{row['shared'] or 'none'} | {row['verdict']} | {'yes' if row['verdict'] == expected else 'no'} |", flush=True,
            )  # fmt: skip


if __name__ == "__main__":
    main()
