"""Pictures of cases: a query beside its neighbours, and crops of the images that show a discovered concept most."""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from pellucid.concepts import DiscoveredConcepts
from pellucid.errors import ShapeError
from pellucid.examples import Neighbours
from pellucid.images import ImageSet
from pellucid.show.picture import rgb
from pellucid.show.svg import STYLE
from pellucid.show.view import View

__all__ = ["exemplar_figure", "neighbour_figure"]

_SHOWN = ("same", "other", "boundary")


def _picture(axes: Axes, images: ImageSet, image: Tensor, title: str) -> None:
    plane = View(tuple(size // 2 for size in image.shape[1:-2])).plane(image)
    axes.imshow(rgb(plane, images.record.display_range), interpolation="nearest")
    axes.set_title(title, fontsize=6.5, fontweight="normal", loc="center")


def _flat(images: ImageSet) -> None:
    if len(images.shape) < 3:
        raise ShapeError(f"images of shape {images.shape} (C, *S) are no pictures; read the table")


def neighbour_figure(
    found: Neighbours, images: ImageSet, queries: Sequence[str] | None = None, *, most: int = 4, each: int = 3
) -> Figure:
    """Draw queries, one a line, with their nearest cases of the called class, of other classes and at the boundary."""
    _flat(images)
    chosen = list(found.queries if queries is None else queries)[:most]
    rows = found.table.to_pylist()
    names = images.classes
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.15 * (1 + 3 * each), 1.45 * len(chosen) + 0.5), layout="constrained")
        grid = figure.subplots(len(chosen), 1 + 3 * each, squeeze=False)
        for line, query in zip(grid, chosen, strict=True):
            for axes in line:
                axes.set_axis_off()
            own = [row for row in rows if row["image"] == query]
            _picture(
                line[0], images, images.tensor([query])[0], f"query\ncalled {_named(names, own[0]['query_called'])}"
            )
            for place, relation in enumerate(_SHOWN):
                told = [row for row in own if row["relation"] == relation][:each]
                for column, row in enumerate(told, 1 + place * each):
                    title = f"{relation}: {_named(names, row['label'])}\n{row['distance']:.3g}"
                    _picture(line[column], images, images.tensor([row["neighbour"]])[0], title)
        figure.suptitle(
            f"nearest in {found.layer} ({found.metric}, {found.pose}), own group left out; {len(chosen)} of "
            f"{len(found.queries)} queries, gallery of {len(found.ids)}",
            fontsize=8,
        )
    return figure


def _named(classes: Sequence[str], number: int) -> str:
    return classes[number] if number < len(classes) else str(number)


def exemplar_figure(found: DiscoveredConcepts, images: ImageSet, *, most: int = 6, each: int = 5) -> Figure:
    """Draw discovered concepts, one a line: crops round the strongest place of the images that show each most."""
    _flat(images)
    rows = found.table.to_pylist()[:most]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.3 * each + 2.2, 1.35 * len(rows) + 0.5), layout="constrained")
        for line, row in zip(figure.subplots(len(rows), each + 1, squeeze=False), rows, strict=True):
            for axes in line:
                axes.set_axis_off()
            told = (
                f"concept {row['concept']}\nimportance {row['importance']:.2f}\nwithout it {-row['effect']:+.2f}\n"
                f"stability {row['stability']:.2f}"
            )
            line[0].text(0, 0.5, told, fontsize=7, va="center")
            for axes, one in zip(line[1:], found.exemplars(row["concept"], each), strict=False):
                window = tuple(slice(start, stop) for start, stop in zip(*one.box, strict=True))
                _picture(axes, images, images.tensor([one.image])[0][(slice(None), *window)], one.image[:18])
        figure.suptitle(f"{found.layer}: parts found in {len(found.ids)} images, crops of the strongest", fontsize=8)
    return figure
