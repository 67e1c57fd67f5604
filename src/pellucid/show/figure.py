"""A figure of one explanation: images beside maps whose sign is kept, with all that a caption must say."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from pellucid.attribution import Explanation, Method
from pellucid.attribution.combine import combine
from pellucid.errors import ShapeError
from pellucid.images import ImageRecord
from pellucid.show.colour import DIVERGING, GREYS, full_colour
from pellucid.show.picture import rgb, scale_bar
from pellucid.show.svg import STYLE
from pellucid.show.view import SHOWN, View, on_image_grid, strongest_view

__all__ = ["palette_of", "plot_explanation", "sign_of"]

Array = NDArray[np.floating[Any]]

_AXES = {1: "X", 2: "YX", 3: "ZYX", 4: "TZYX"}


_SIGNS = {
    "unsigned": "black is much, white nothing: magnitudes without sign",
    "positive": "red speaks for the target: evidence for it only",
    "signed": "red speaks for the target, blue against",
}


def sign_of(method: Method | str) -> str:
    """Return what the colours of a method's values mean, for a caption; foreign values count as signed."""
    return _SIGNS[method.taxonomy.sign if isinstance(method, Method) else "signed"]


def palette_of(method: Method | str) -> str:
    """Return ``"unsigned"`` for methods that give magnitudes, which have no colour for or against, else ``"signed"``."""
    return "unsigned" if isinstance(method, Method) and method.taxonomy.sign == "unsigned" else "signed"


def plot_explanation(
    explanation: Explanation,
    images: Tensor | None = None,
    *,
    rows: Sequence[int] | None = None,
    most: int = 8,
    record: ImageRecord | None = None,
) -> Figure:
    """Draw maps beside their images: red for the target, blue against, white nothing.

    Methods that give magnitudes are drawn in grey. Channels are added up and a layer's map is brought to the image's grid; each map reaches full colour at the 99th
    percentile of its own magnitudes. Of volumes the slice with most relevance is drawn, of sequences a line.

    Parameters
    ----------
    explanation
        What `pellucid.explain` gave.
    images
        ``(N, C, *S)`` as they were explained; drawn beside the maps.
    rows
        Which rows; the first `most` when None.
    most
        Rows to draw at most.
    record
        Pixel size, display range and axis names of the images.

    Raises
    ------
    ShapeError
        When the explanation has several inputs, or images do not fit its rows.
    """
    if not isinstance(explanation.values, Tensor):
        raise ShapeError(f"{explanation!r} has one map an input; plot them one by one")
    chosen = list(range(len(explanation)) if rows is None else rows)[:most]
    if images is not None and len(images) != len(explanation):
        raise ShapeError(f"{len(images)} images do not fit {len(explanation)} maps")
    values = explanation.values[chosen]
    given = None if images is None else images[chosen].detach().cpu()
    maps = combine(values, SHOWN[:1]).values[:, 0].double().numpy() if given is None else on_image_grid(values, given)
    with mpl.rc_context(STYLE):
        figure = _drawn(maps, given, record or _record(given, maps), palette_of(explanation.method))
        grid = np.array(figure.axes[: len(chosen) * (1 if given is None else 2)]).reshape(len(chosen), -1)
        for axes, row in zip(grid[:, -1], chosen, strict=True):
            axes.set_title(_row_title(explanation, row), fontweight="normal", fontsize=8)
        figure.supxlabel(_caption(explanation, len(chosen), rows is None), fontsize=7.5)
        figure.suptitle(explanation.name, fontsize=10)
    return figure


def _record(images: Tensor | None, maps: Array) -> ImageRecord:
    channels = 1 if images is None else images.shape[1]
    low, high = (0.0, 1.0) if images is None else (float(images.min()), float(images.max()))
    inside = low >= 0 and high <= 1
    return ImageRecord(
        "C" + _AXES[maps.ndim - 1],
        tuple(map(str, range(channels))),
        display_range=(0.0, 1.0) if inside else (low, high),
    )


def _drawn(maps: Array, images: Tensor | None, record: ImageRecord, palette: str) -> Figure:
    columns = 1 if images is None else 2
    line = maps.ndim == 2
    figure = Figure(figsize=((5.0 if line else 2.7) * columns + 0.8, (1.5 if line else 2.7) * len(maps) + 0.9),
                    layout="constrained")  # fmt: skip
    grid = figure.subplots(len(maps), columns, squeeze=False)
    for row, axes in enumerate(grid):
        if line:
            _line(axes[-1], maps[row])
        else:
            view = strongest_view([maps[row]], record.spatial)
            plane = np.asarray(view.plane(torch.from_numpy(maps[row])))
            _map(axes[-1], plane, full_colour(maps[row]) or 1.0, palette)
        if images is not None:
            _image(axes[0], images[row], record, view if not line else View())
    return figure


def _line(axes: Axes, values: Array) -> None:
    place = np.arange(len(values))
    axes.fill_between(place, values.clip(min=0), step="mid", color="#a63200", linewidth=0)
    axes.fill_between(place, values.clip(max=0), step="mid", color="#0b3c74", linewidth=0)
    axes.axhline(0, color="#8a8f98", linewidth=0.6)


def _map(axes: Axes, plane: Array, scale: float, palette: str) -> None:
    anchors = DIVERGING if palette == "signed" else GREYS
    colours = LinearSegmentedColormap.from_list(palette, np.array(anchors) / 255)
    shown = axes.imshow(plane, cmap=colours, vmin=-scale, vmax=scale, interpolation="nearest")
    axes.set_axis_off()
    axes.figure.colorbar(shown, ax=axes, shrink=0.7, ticks=[-scale, 0, scale], format="%.2g")


def _image(axes: Axes, image: Tensor, record: ImageRecord, view: View) -> None:
    if image.ndim == 2:
        axes.plot(image.numpy().T, linewidth=0.8)
        return
    plane = view.plane(image)
    axes.imshow(rgb(plane, record.display_range), interpolation="nearest")
    axes.set_axis_off()
    bar = scale_bar(record, plane.shape[-1])
    axes.plot(
        [0.05, 0.05 + bar.share], [-0.04, -0.04], transform=axes.transAxes, color="#24292f", linewidth=2, clip_on=False
    )
    axes.text(0.05, -0.06, bar.label, transform=axes.transAxes, va="top", fontsize=7)
    if view.note:
        axes.set_title(view.note.split(",")[0], fontweight="normal", fontsize=8)


def _row_title(explanation: Explanation, row: int) -> str:
    name = explanation.ids[row] if explanation.ids is not None else f"row {row}"
    return f"{name}: f(x) = {float(explanation.output[row]):.3g}"


def _caption(explanation: Explanation, count: int, first: bool) -> str:  # noqa: FBT001
    rule = "the first rows" if first else "chosen rows"
    shown = f"{count} of {len(explanation)} images ({rule})"
    return (f"target {explanation.target}; {sign_of(explanation.method)}; channels summed;\n"
            f"full colour at the 99th percentile of each map; {shown}")  # fmt: skip
