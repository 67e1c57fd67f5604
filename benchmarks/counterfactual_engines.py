"""Generators of counterfactuals side by side: the same images, the same model, one run, one row each.

    python benchmarks/counterfactual_engines.py OUT [--quick] [--seed N] [--write]

Cells of 32 pixels are told apart by their size alone; shape, spots, brightness and background vary and decide nothing. A small
network learns the classes; every generator learns the training images; on images that nobody saw it is measured how long
fitting took, how well images and the model's answers survive the round trip, what the gate says, how often the change that was
searched for flips the model (validity) and a second network of other width and seed, how large the change is (proximity, 1 is
the difference between two real images), and by how much the measured area moves for each spread that the other phenotypes
move (specificity; area and others are measured on the shown image, segmented anew). The first row generates nothing: it is the
nearest real image of the other class. One JSON a generator is kept in OUT, so that a run that was stopped goes on; --quick
trains each on 12,800 images (800 steps of 16) and draws fewer samples. --write puts the table into docs/generators.md.
"""

import argparse
import re
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from keeping import kept
from numpy.typing import NDArray
from torch import Tensor

from pellucid.counterfactual import (
    GENERATORS,
    Counterfactuals,
    Measured,
    counterfactual,
    gate,
    score_counterfactuals,
    summarise,
)
from pellucid.counterfactual.engines import natural_counterfactuals, phenotype_space, pixel_space
from pellucid.errors import PellucidError
from pellucid.images import ImageRecord, ImageSet, phantoms
from pellucid.intervals import Interval, mean_interval, or_null, share_interval
from pellucid.measure import measure_images, phenotypes, segment
from pellucid.models import Passes, fit, load_model, save_model

DOCUMENT = Path(__file__).parent.parent / "docs" / "generators.md"
SIZE = (32, 32)
CAUSAL = "AreaShape_Area"
OTHERS = (
    "AreaShape_Eccentricity",
    "Intensity_MeanIntensity_blue",
    "Spots_Count",
    "Background_MeanIntensity",
    "Background_Slope",
)
ENGINES: dict[str, tuple[str, str]] = {
    "faithful autoencoder, optimised": ("faithful_autoencoder()", "latent_optimisation"),
    "attack on the pixels": ("faithful_autoencoder()", "pixel_attack"),
    "plain autoencoder, latent shift": ("variational_autoencoder(beta=0.0)", "latent_shift"),
    "VAE, optimised": ("variational_autoencoder()", "latent_optimisation"),
    "VAE held to the model, latent shift": ("variational_autoencoder(agreement=0.05)", "latent_shift"),
    "β-VAE, one latent": ("variational_autoencoder(beta=4.0)", "latent_shift(latents=1)"),
    "β-TC-VAE, sparse, one latent": ("variational_autoencoder(total_correlation=5.0, sparsity=0.5)", "latent_shift(latents=1)"),
    "VAE with a critic's similarity, optimised": ("variational_autoencoder(similarity=0.3)", "latent_optimisation"),
    "adversarial, linear discriminant": ("adversarial_autoencoder()", "linear_discriminant"),
    "DISCOVER-like subset, one latent": (
        "adversarial_autoencoder(subset=8, recogniser=0.1, decorrelation=0.1, agreement=0.05)",
        "latent_shift(latents=1)",
    ),
    "conditional by score bins": ("conditional_autoencoder()", "latent_shift"),
    "conditional by class": ('conditional_autoencoder(condition="class")', "class_mean_shift"),
    "diffusion autoencoder, pasted": ("diffusion_autoencoder()", "class_mean_shift"),
    "diffusion autoencoder, own noise": ("diffusion_autoencoder()", "inverted_shift"),
}  # fmt: skip


def sized(text: str, *, quick: bool) -> str:
    """Return a generator's text at the size of the run."""
    generator = GENERATORS.parse(text)
    if not quick:
        return str(generator)
    draws = {"draws": 8} if "draws" in generator.settings else {}
    return str(generator.replace(steps=800, batch_size=16, latents=32, rate=2e-3, **draws))


def prepared(folder: Path, seed: int) -> dict[str, Any]:
    """Return images, the explained model and the one that judges besides, trained once and kept."""
    phantom = phantoms.cells(1200, SIZE, seed, rule="cell_size")
    images = phantom.images
    models = {}
    for name, width, other in (("explained", 8, 0), ("judge", 12, 1)):
        kept = folder / f"{name}.safetensors"
        if not kept.exists():
            fitted = fit(images, epochs=20, seed=seed + other, width=width, depth=3)
            print(f"{name}: {fitted.performance.summary}", flush=True)
            save_model(fitted.model, kept)
        models[name] = load_model(kept)
    split = np.array(images.column("split"))
    parts = {part: [images.ids[row] for row in np.flatnonzero(split == part)] for part in ("train", "test")}
    return {"images": images, "train": parts["train"], "test": parts["test"][:64], **models}


def measured(x: Tensor, record: ImageRecord) -> NDArray[np.float64]:
    """Return the phenotypes ``(N, M)`` of the largest object of images, segmented anew; NaN where none is found."""
    rows = []
    for image in x:
        table = phenotypes(image, segment(image), record)
        areas = [area or 0.0 for area in table[CAUSAL].to_pylist()]
        row = table.to_pylist()[int(np.argmax(areas))] if areas else {}
        rows.append([np.nan if row.get(name) is None else row[name] for name in (CAUSAL, *OTHERS)])
    return np.array(rows, dtype=float)


def engine_row(name: str, data: dict[str, Any], folder: Path, seed: int, *, quick: bool) -> dict[str, Any]:
    """Fit one generator and measure everything about it."""
    text, search = ENGINES[name]
    generator = GENERATORS.parse(sized(text, quick=quick))
    images, model = data["images"], data["explained"]
    training, unseen = images.tensor(data["train"]), images.tensor(data["test"])
    began = time.process_time()
    slug = re.sub(r"\W+", "_", str(generator))
    fitted = generator.fit(training, model, seed=seed, checkpoint=folder / f"{slug}.pt", progress=True)
    spent = folder / f"{slug}.seconds"  # a generator that two rows share is fitted once
    if not spent.exists():
        spent.write_text(str(time.process_time() - began))
    with torch.no_grad():
        rebuilt = fitted.decode(fitted.encode(unseen))
    told = {"name": name, "generator": str(generator), "search": search, "fit_seconds": float(spent.read_text()),
            "error": float((rebuilt - unseen).abs().mean() / unseen.std())}  # fmt: skip
    verdict = gate(fitted, model, unseen, training=training, search=search, ids=data["test"], seed=seed)
    told |= {check.name: or_null(check.value) for check in verdict.checks}
    told["closed_by"] = [check.name for check in verdict.failed]
    began = time.process_time()
    found = counterfactual(
        model, unseen, generator=fitted, gate=verdict, search=search, doses=5, ids=data["test"], seed=seed
    )
    told["search_seconds"] = (time.process_time() - began) / len(unseen)
    return told | scored(found, data)


def scored(found: Counterfactuals, data: dict[str, Any]) -> dict[str, Any]:
    """Return what counterfactuals are worth, each number with its interval."""
    record = data["images"].record
    before, after = measured(found.images, record), measured(found.changed.detach(), record)
    spread = np.nanstd(measured(data["images"].tensor(data["train"][:100]), record), axis=0)
    table = score_counterfactuals(
        found, others={"judge": data["judge"]}, measured=Measured((CAUSAL, *OTHERS), before, after, spread, (CAUSAL,))
    )
    shares = {f"{score} {model}".strip(): as_list(interval) for (score, model), interval in summarise(table).items()}
    return shares | {"specificity of means": specificity(before, after, spread)}


def specificity(
    before: NDArray[np.float64], after: NDArray[np.float64], spread: NDArray[np.float64]
) -> list[float | None]:
    """Return the mean shift of the area over the mean drift of the others, with a bootstrap interval over images."""
    sizes = np.abs(after - before) / spread
    known = ~np.isnan(sizes).any(1)
    sizes, random = sizes[known], np.random.default_rng(0)
    if len(sizes) < 2:
        return [None, None, None, len(sizes)]
    drawn = random.integers(0, len(sizes), (2000, len(sizes)))
    means = sizes[drawn].mean(1)
    ratios = means[:, 0] / means[:, 1:].mean(1)
    value = sizes[:, 0].mean() / sizes[:, 1:].mean()
    return [float(value), *np.quantile(ratios, [0.025, 0.975]).tolist(), len(sizes)]


def natural_row(space: str, data: dict[str, Any]) -> dict[str, Any]:
    """Return the same numbers for the nearest real training image of the other class."""
    images: ImageSet = data["images"]
    ids = [*data["train"], *data["test"]]
    x = images.tensor(ids)
    began = time.process_time()
    with Passes(data["explained"]) as passes:
        called = passes.outputs(data["explained"].prepare(x)).argmax(1)
    found_in = pixel_space(x) if space == "pixels" else phenotype_space(measure_images(images.select(ids)), ids)
    table = natural_counterfactuals(found_in, called.tolist(), ids, groups=images.column("group", ids), of=data["test"])
    seconds = (time.process_time() - began) / len(data["test"])
    pairs = [(row["image"], row["counterfactual"]) for row in table.to_pylist() if row["counterfactual"]]
    real, other = (images.tensor([pair[side] for pair in pairs]) for side in (0, 1))
    with Passes(data["judge"]) as passes:
        before, after = (passes.outputs(data["judge"].prepare(part)).argmax(1) for part in (real, other))
    target = torch.tensor([int(called[ids.index(name)]) for _, name in pairs])
    open_ = before != target
    training = images.tensor(data["train"])
    typical = float((training - training.roll(len(training) // 2, 0)).abs().flatten(1).mean(1).median())
    spread = np.nanstd(measured(training[:100], images.record), axis=0)
    return {
        "name": f"nearest real image in {space}", "generator": "", "search": "", "fit_seconds": None, "error": None,
        "closed_by": ["no gate: nothing is generated"], "search_seconds": seconds,
        "validity": as_list(share_interval(len(pairs), len(data["test"]))),
        "validity judge": as_list(share_interval(int((after == target)[open_].sum()), int(open_.sum()))),
        "proximity": as_list(mean_interval((real - other).abs().flatten(1).mean(1).numpy() / typical)),
        "specificity of means": specificity(measured(real, images.record), measured(other, images.record), spread),
    }  # fmt: skip


def as_list(found: Interval) -> list[float | None]:
    """Return value, bounds and count."""
    return [or_null(found.value), or_null(found.low), or_null(found.high), found.n]


def kept_row(folder: Path, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return a row from its file, made where there is none; what a generator refuses is a row too."""

    def row() -> dict[str, Any]:
        print(f"{name} ...", flush=True)
        try:
            return make()
        except PellucidError as error:
            return {"name": name, "refused": str(error)}

    return kept(folder / f"{re.sub(r'[^a-z0-9]+', '_', name.lower())}.json", row)


def share(found: Sequence[float | None] | None) -> str:
    """Return k/n with its interval."""
    if not found or found[0] is None:
        return "–"
    return f"{round(found[0] * found[3])}/{found[3]} [{found[1]:.2f}, {found[2]:.2f}]"


def mean(found: Sequence[float | None] | None) -> str:
    """Return a mean with its interval."""
    if not found or found[0] is None:
        return "–"
    return f"{found[0]:.2f} [{found[1]:.2f}, {found[2]:.2f}]" if found[1] is not None else f"{found[0]:.2f}"


def number(value: float | None, digits: int = 2) -> str:
    """Return a number, or a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


HEAD = ("generator, search", "fit, CPU s", "ms an image", "L1 / spread", "class agreement", "logit r", "validity", "judge too",
        "proximity", "specificity", "gate closed by")  # fmt: skip


def line(row: dict[str, Any]) -> str:
    """Return one row of the table."""
    if "refused" in row:
        return f"| {row['name']} | " + " | ".join(["–"] * 9) + f" | refused: {row['refused']} |"
    cells = (
        row["name"], number(row["fit_seconds"], 0), f"{1000 * row['search_seconds']:.0f}", number(row["error"]),
        number(row.get("class_agreement")), number(row.get("score_correlation"), 3), share(row.get("validity")),
        share(row.get("validity judge")), mean(row.get("proximity")), mean(row.get("specificity of means")),
        ", ".join(row["closed_by"]) or "–",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def write(text: str) -> None:
    """Put the table between its marks in docs/generators.md."""
    document = DOCUMENT.read_text(encoding="utf-8")
    begin, end = "<!-- begin benchmark -->", "<!-- end benchmark -->"
    DOCUMENT.write_text(
        re.sub(f"{begin}.*{end}", lambda _: f"{begin}\n{text}\n{end}", document, flags=re.DOTALL), encoding="utf-8"
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="put the table into docs/generators.md")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    given.out.mkdir(parents=True, exist_ok=True)
    data = prepared(given.out, given.seed)
    rows = [
        kept_row(given.out, f"natural {space}", lambda space=space: natural_row(space, data))
        for space in ("pixels", "phenotypes")
    ]
    for name in ENGINES:
        rows.append(
            kept_row(
                given.out, name, lambda name=name: engine_row(name, data, given.out, given.seed, quick=given.quick)
            )
        )
        print(line(rows[-1]), flush=True)
    table = "\n".join(["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD), *map(line, rows)])
    command = f"python benchmarks/counterfactual_engines.py OUT{' --quick' if given.quick else ''} --write"
    print(table)
    if given.write:
        write(f"`{command}`: seed {given.seed}, torch {torch.__version__}, one thread.\n\n{table}")


if __name__ == "__main__":
    main()
