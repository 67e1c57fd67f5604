"""Figures of counterfactuals: strips of shown images with the score under every dose, and what the gate says above them."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from torch import Tensor

from pellucid.counterfactual import Counterfactuals
from pellucid.errors import ShapeError
from pellucid.images import ImageRecord
from pellucid.show.colour import DIVERGING
from pellucid.show.picture import rgb
from pellucid.show.svg import STYLE
from pellucid.show.view import View, strongest_view

__all__ = ["difference_colours", "plot_counterfactuals", "plot_strip", "record_of", "view_of"]

_AXES = {1: "X", 2: "YX", 3: "ZYX", 4: "TZYX"}
_LINE = 0.1
"""Inches for the line above each strip."""

_THERE, _OUT, _WARN = "#1b7f4d", "#a63200", "#a63200"


def record_of(images: Tensor, record: ImageRecord | None) -> ImageRecord:
    """Return the record of images, or a plain one where there is none."""
    if record is not None:
        return record
    low, high = float(images.min()), float(images.max())
    shown = (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
    names = tuple(map(str, range(images.shape[1])))
    return ImageRecord("C" + _AXES[images.ndim - 2], names, display_range=shown)


def view_of(change: Tensor, record: ImageRecord) -> View:
    """Return the plane in which a change ``(C, *S)`` is greatest; the image itself in two axes."""
    return strongest_view([change.abs().sum(0).double().numpy()], record.spatial)


def difference_colours(change: Tensor, view: View) -> NDArray[np.uint8]:
    """Return the colours ``(Y, X, 3)`` of a change: red is brighter than before, blue darker, white the same."""
    plane = view.plane(change.double().mean(0, keepdim=True))[0].numpy()
    scale = max(float(np.abs(plane).max()), 1e-12)
    anchors = np.array(DIVERGING, dtype=float)
    place = (plane / scale + 1) / 2
    ends = np.linspace(0, 1, len(anchors))
    colours = np.stack([np.interp(place, ends, anchors[:, band]) for band in range(3)], axis=-1)
    return colours.round().astype(np.uint8)


def plot_counterfactuals(
    found: Counterfactuals, *, rows: Sequence[int] | None = None, most: int = 6, record: ImageRecord | None = None
) -> Figure:
    """Draw one strip an image: its path from the image as it is to the counterfactual, and the difference.

    The score stands under every image; green says that the goal is reached, a red frame that the image lies outside what
    the generator saw. A closed gate stands above all in red.

    Parameters
    ----------
    found
        What `pellucid.counterfactual.counterfactual` gave.
    rows, most
        Which images; the first `most` when None.
    record
        Display range and axes of the images.

    Raises
    ------
    ShapeError
        When there is no such row.
    """
    chosen = list(range(len(found.ids)) if rows is None else rows)[:most]
    if not chosen or not all(0 <= row < len(found.ids) for row in chosen):
        raise ShapeError(f"plot(rows={rows}) has no row of the {len(found.ids)} counterfactuals")
    told = record_of(found.images, record)
    with mpl.rc_context(STYLE):
        return _drawn(
            found, chosen, found.path, found.doses, found.scores, found.strain, told, chosen_by=rows is not None
        )


def plot_strip(
    found: Counterfactuals, *, doses: Sequence[float] | None = None, rows: Sequence[int] | None = None, most: int = 6,
    record: ImageRecord | None = None,
) -> Figure:  # fmt: skip
    """Draw the strip from the far end of the image's own side to that of the target's; see `plot_counterfactuals`."""
    strip = found.exaggerate() if doses is None else found.exaggerate(doses)
    chosen = list(range(len(found.ids)) if rows is None else rows)[:most]
    told = record_of(found.images, record)
    with mpl.rc_context(STYLE):
        return _drawn(
            found, chosen, strip.images, strip.doses, strip.scores, strip.strain, told, chosen_by=rows is not None
        )


def _drawn(
    found: Counterfactuals, chosen: list[int], images: Tensor, doses: Sequence[float], scores: Tensor, strain: Tensor,
    record: ImageRecord, *, chosen_by: bool,
) -> Figure:  # fmt: skip
    columns = len(doses) + 1
    figure = Figure(
        figsize=(1.25 * columns + 0.4, 1.72 * len(chosen) + 1.1), layout=ConstrainedLayoutEngine(h_pad=_LINE)
    )
    grid = figure.subplots(len(chosen), columns, squeeze=False)
    for axes, row in zip(grid, chosen, strict=True):
        change = (found.changed[row] - found.images[row]).cpu()
        view = view_of(change, record) if images.ndim > 4 else View()
        for place, dose in enumerate(doses):
            _picture(axes[place], images[row, place], record, view)
            reached = bool(found.aim.reached(scores[row, place : place + 1].cpu(), torch.tensor([row])))
            _under(axes[place], dose, float(scores[row, place]), reached=reached, outside=float(strain[row, place]) > 1)
        _difference(axes[-1], change, view)
        above = axes[0].text(
            0, 1.05, f"{found.ids[row]}: {found.reasons[row]}", fontsize=7.5, transform=axes[0].transAxes
        )
        above.set_in_layout(False)  # it may run over the pictures beside it
    figure.suptitle(str(found.gate), fontsize=9, color="#24292f" if found.gate.passed else _WARN,
                    fontweight="normal" if found.gate.passed else "bold", wrap=True)  # fmt: skip
    figure.supxlabel(_caption(found, len(chosen), chosen_by=chosen_by), fontsize=7)
    return figure


def _picture(axes: Axes, image: Tensor, record: ImageRecord, view: View) -> None:
    if image.ndim == 2:
        axes.plot(image.numpy().T, linewidth=0.7)
        axes.set_ylim(*record.display_range)
    else:
        axes.imshow(rgb(view.plane(image), record.display_range), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def _under(axes: Axes, dose: float, score: float, *, reached: bool, outside: bool) -> None:
    axes.set_xlabel(f"{dose:g}: {score:.2f}", fontsize=7, color=_THERE if reached else "#24292f")
    for side in axes.spines.values():
        side.set_visible(outside)
        side.set_edgecolor(_OUT)
        side.set_linewidth(1.6)


def _difference(axes: Axes, change: Tensor, view: View) -> None:
    if change.ndim == 2:
        axes.plot(change.numpy().T, linewidth=0.7)
    else:
        axes.imshow(difference_colours(change, view), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_xlabel(f"change, ±{float(change.mean(0).abs().max()):.2g}", fontsize=7)


def _caption(found: Counterfactuals, count: int, *, chosen_by: bool) -> str:
    rule = "chosen rows" if chosen_by else "the first rows"
    return (
        f"under each image dose: {found.aim.unit}, green where the goal is reached; dose 1 is the counterfactual; red frame: "
        f"outside what the generator saw\nlast column: the change, red brighter, blue darker; {found.generator}, {found.search}; "
        f"{count} of {len(found.ids)} images ({rule}), {int(found.valid.sum())} valid"
    )
