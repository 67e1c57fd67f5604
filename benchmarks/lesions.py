"""Planted lesions: how much of each map lies on them? Expressive gradients against their parts, patterns against gradients.

    python benchmarks/lesions.py [SEEDS]

Each seed makes a phantom of cells whose spots decide the label, or of grains whose lesions do, trains the reference net
on it, and scores the maps of test images against them. Prints means over seeds with their spread; relevance mass is given
over chance, their share of the image.
"""

import sys

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from pellucid import evaluate, explain, fit_patterns
from pellucid.attribution import METHODS, Method
from pellucid.images import phantoms
from pellucid.models import fit

PLAIN = ("gradient", "guided_backprop", "integrated_gradients", "expressive_gradients")
FITTED = ("pattern_net", "pattern_attribution")
PHANTOMS = {
    "spots of the cell phantom": ("spot_number", lambda seed: phantoms.cells(500, size=(48, 48), seed=seed)),
    "fusarium of the grain phantom": (
        "fusarium_area",
        lambda seed: phantoms.grains(500, size=(48, 48), seed=seed, defect="fusarium"),
    ),
}
METRICS = ("relevance_mass", "relevance_rank", "localisation_auc", "pointing_game")


def scores(name: str, seed: int) -> dict[str, dict[str, float]]:
    """Train on one phantom and return the mean score of every method by metric."""
    cause, make = PHANTOMS[name]
    phantom = make(seed)
    images = phantom.images
    model = fit(images, epochs=12, seed=seed).model
    by_part = {part: [image for image, told in zip(images.ids, images.column("split"), strict=True) if told == part]
               for part in ("train", "test")}  # fmt: skip
    patterns = fit_patterns(model, images.tensor(by_part["train"]))
    ids = [image for image in by_part["test"] if bool(phantom.factor_mask(cause, [image]).any())][:40]
    x, spots = images.tensor(ids), phantom.factor_mask(cause, ids) > 0
    recipes: list[Method] = [*map(METHODS.parse, PLAIN), *(METHODS[name](patterns=patterns) for name in FITTED)]
    told = evaluate(model, x, [explain(model, x, recipe) for recipe in recipes], metrics=list(METRICS), masks=spots)
    chance = float(spots.float().mean())
    found: dict[str, dict[str, float]] = {}
    names = {str(recipe): recipe.name for recipe in recipes}
    rows = told.table.to_pylist()
    for method, short in names.items():
        found[short] = {}
        for metric in METRICS:
            values = [row["value"] for row in rows if row["method"] == method and row["metric"] == metric]
            mean = float(torch.tensor(values, dtype=torch.float64).nanmean())
            found[short][metric] = mean / chance if metric == "relevance_mass" else mean
    return found


def main(seeds: int) -> None:
    """Print a table a phantom."""
    for name in PHANTOMS:
        found = [scores(name, seed) for seed in track(range(seeds), name)]
        table = Table("method", "relevance mass / chance", *METRICS[1:], title=f"{name}, {seeds} seeds")
        for method in found[0]:
            cells = []
            for metric in METRICS:
                values = torch.tensor([each[method][metric] for each in found])
                cells.append(f"{float(values.mean()):.2f} ± {float(values.std(correction=0)):.2f}")
            table.add_row(method, *cells)
        Console(width=120).print(table)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
