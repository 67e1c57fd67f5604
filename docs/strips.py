"""Draw the strips that a study keeps: of each pair of classes the first, in the order of a hash, under the gate's verdict.

python docs/strips.py STUDY PICTURE

Also behind a closed gate, which is then said above: such a picture belongs beside the reasons, and is no explanation.
"""

import argparse
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from pellucid.show.picture import rgb
from pellucid.show.svg import STYLE
from pellucid.study import Study
from pellucid.study.counterfactual_tables import IMAGES

CLOSED, REACHED, INK = "#a63200", "#1b7f4d", "#24292f"


def first_strips(study: Study) -> list[dict[str, Any]]:
    """Return the first row with a strip of each pair of classes."""
    rows = [row for row in study.tables["counterfactuals"].to_pylist() if row["strip"] is not None]
    return [next(own) for _, own in groupby(rows, key=itemgetter("source", "target"))]


def told(study: Study) -> str:
    """Return the gate's verdict in a line."""
    failed = [row for row in study.tables["counterfactual_gate"].to_pylist() if not row["passed"]]
    if not failed:
        return "gate passed"
    return "gate closed, no explanation: " + "; ".join(
        f"{row['name']} {row['value']:.2f} ({'≥' if row['rising'] else '≤'} {row['limit']:g})" for row in failed
    )


def draw_strip(axes: list[Axes], study: Study, row: dict[str, Any], images: Tensor) -> None:
    """Draw the doses of one row with the score under each."""
    doses = [
        one
        for one in study.tables["counterfactual_doses"].to_pylist()
        if (one["image"], one["target"]) == (row["image"], row["target"])
    ]
    for place, image, one in zip(axes, images, doses, strict=True):
        place.imshow(rgb(image.float(), study.images.record.display_range), interpolation="nearest")
        place.set_xticks([])
        place.set_yticks([])
        place.spines[:].set(visible=one["strain"] > 1, edgecolor=CLOSED, linewidth=1.6)
        reached = one["score"] >= row["goal"]
        place.set_xlabel(f"{one['dose']:g}: {one['score']:.2f}", fontsize=7, color=REACHED if reached else INK)
    title = f"{row['source']} → {row['target']}, {row['status']}"
    axes[0].text(0, 1.05, title, fontsize=7.5, transform=axes[0].transAxes).set_in_layout(False)  # over the next ones


def main() -> None:
    """Read the arguments and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("picture", type=Path)
    given = parser.parse_args()
    study = Study(given.study)
    rows, strips = first_strips(study), study.tensors(IMAGES)["strips"]
    height = 1.2 * strips.shape[-2] / strips.shape[-1] + 0.35
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.2 * strips.shape[1], height * len(rows) + 0.6), layout="constrained")
        grid = figure.subplots(len(rows), strips.shape[1], squeeze=False)
        for axes, row in zip(grid, rows, strict=True):
            draw_strip(list(axes), study, row, strips[row["strip"]])
        verdict = told(study)
        figure.suptitle(verdict, fontsize=9, color=INK if verdict == "gate passed" else CLOSED)
        figure.supxlabel(
            "under each image dose: score of the target less the highest other, green where the target is given; "
            "red frame: outside what the generator saw",
            fontsize=7,
        )
        figure.savefig(given.picture, dpi=110)


if __name__ == "__main__":
    main()
