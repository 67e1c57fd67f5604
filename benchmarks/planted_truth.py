"""Planted truth, seed by seed: are planted shortcuts named, and only those? Are global causes called not localised?

    python benchmarks/planted_truth.py [SEEDS]

Each seed makes a phantom whose tag has its own shape and place, trains the reference net on it, and interprets it from
images, labels, outlines and groups alone. Prints every share as k/n with its Wilson interval.
"""

import sys

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from pellucid import explain
from pellucid.images import phantoms
from pellucid.interpretation import Evidence, Finding, find_background_use, find_locality
from pellucid.intervals import share_interval
from pellucid.models import fit, predict

METHODS = (
    "gradient",
    "integrated_gradients(steps=16)",
    "smoothgrad(samples=8)",
    'lrp(composite="epsilon_plus_flat")',
    "occlusion",
)
CASES = (
    ("shortcut planted", "spot_number", True),
    ("none planted, local cause", "spot_number", False),
    ("none planted, global cause", "cell_size", False),
)


def findings(rule: str, seed: int, *, planted: bool) -> list[Finding]:
    """Train on one phantom and return what is found of its background and its maps."""
    phantom = phantoms.cells(
        600, size=(48, 48), seed=seed, rule=rule, shortcut=phantoms.Shortcut() if planted else None
    )
    images = phantom.images
    fitted = fit(images, epochs=10, seed=seed)
    test = tuple(name for name, split in zip(images.ids, images.column("split"), strict=True) if split == "test")
    evidence = Evidence(
        model=fitted.model, images=images, ids=test, predictions=predict(fitted.model, images, test).table,
        methods=METHODS, maps=lambda method, ids: explain(fitted.model, images.tensor(ids), method, ids=ids).values,
        scores=None, ranking=None, object_mask="object", seed=seed,
    )  # fmt: skip
    return [*find_background_use(evidence)[0], *find_locality(evidence)[0]]


def main(seeds: int) -> None:
    """Print the table of shares."""
    table = Table("phantom", "background named", "not localised", title=f"{seeds} seeds each")
    for name, rule, planted in CASES:
        found = [findings(rule, seed, planted=planted) for seed in track(range(seeds), name)]
        cells = []
        for kind in ("shortcut", "not_localised"):
            named = sum(any(finding.kind == kind for finding in each) for each in found)
            share = share_interval(named, seeds)
            cells.append(f"{named}/{seeds} [{share.low:.2f}, {share.high:.2f}]")
        table.add_row(name, *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
