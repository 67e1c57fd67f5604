"""A figure of minimal masks: real image, counterfactual, the part that flips the answer, and the curves behind it."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from pellucid.counterfactual import MinimalMask
from pellucid.images import ImageRecord
from pellucid.show.charts import ACCENT, INK, MUTED, short
from pellucid.show.picture import rgb
from pellucid.show.svg import STYLE
from pellucid.show.view import View, strongest_view

__all__ = ["plot_minimal_mask"]

_LINES = ("-", "--", ":", "-.")


def plot_minimal_mask(
    found: MinimalMask, *, rows: Sequence[int] | None = None, most: int = 6, record: ImageRecord | None = None
) -> Figure:
    """Draw a pair a line: the real image, its counterfactual, the hybrid with the rim of its mask, and the curves.

    Parameters
    ----------
    found
        What `pellucid.counterfactual.minimal_mask` gave.
    rows, most
        Pairs to draw; the first `most` when None.
    record
        Display range of the images; default 0 to 1, or what they hold where they leave it.
    """
    chosen = list(range(len(found.pairs)) if rows is None else rows)[:most]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 2.5 * len(chosen) + 0.5), layout="constrained")
        grid = figure.subplots(len(chosen), 4, squeeze=False, width_ratios=(1, 1, 1, 1.35))
        for axes, row in zip(grid, chosen, strict=True):
            _pictures(axes[:3], found, row, _range(found.pairs.real, record))
            _curves(axes[3], found, row, legend=row == chosen[0])
        rule = "the first rows" if rows is None else "chosen rows"
        figure.supxlabel(
            f"{len(chosen)} of {len(found.pairs)} pairs ({rule}); vermillion: rim of the smallest mask that flips",
            fontsize=7.5,
        )
    return figure


def _range(images: Tensor, record: ImageRecord | None) -> tuple[float, float]:
    if record is not None:
        return record.display_range
    low, high = float(images.min()), float(images.max())
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def _pictures(axes: Sequence[Axes], found: MinimalMask, row: int, limits: tuple[float, float]) -> None:
    pairs, mask = found.pairs, found.masks[row]
    summary = next(one for one in found.table.to_pylist() if one["image"] == pairs.ids[row] and one["chosen"])
    size = "only the whole image flips" if summary["size"] is None else f"{100 * summary['size']:.1f} % pasted"
    titles = (pairs.ids[row], "counterfactual", f"hybrid: {size}")
    view = strongest_view([mask.numpy()], "ZYX"[-mask.ndim :])
    images = (pairs.real[row], pairs.counterfactual[row], found.hybrids[row])
    for one, image, title in zip(axes, images, titles, strict=True):
        _picture(one, image, view, limits)
        one.set_title(title, fontweight="normal", fontsize=8)
    if mask.ndim == 1:
        axes[2].fill_between(np.arange(len(mask)), *limits, where=(mask > 0.5).numpy(), color=ACCENT, alpha=0.2)
    elif 0 < float(view.plane(mask).mean()) < 1:
        axes[2].contour(view.plane(mask).numpy(), [0.5], colors=[ACCENT], linewidths=1.2)


def _picture(axes: Axes, image: Tensor, view: View, limits: tuple[float, float]) -> None:
    if image.ndim == 2:
        axes.plot(image.numpy().T, linewidth=0.8)
        return
    axes.imshow(rgb(view.plane(image), limits), interpolation="nearest")
    axes.set_axis_off()


def _curves(axes: Axes, found: MinimalMask, row: int, *, legend: bool) -> None:
    name = found.pairs.ids[row]
    areas = {one["map"]: one for one in found.table.to_pylist() if one["image"] == name}
    for place, (candidate, summary) in enumerate(areas.items()):
        points = [one for one in found.curves.to_pylist() if one["image"] == name and one["map"] == candidate]
        sizes, changes = [0.0, *(one["size"] for one in points)], [0.0, *(one["change"] for one in points)]
        axes.plot(sizes, changes, color=ACCENT if summary["chosen"] else INK, linestyle=_LINES[place % len(_LINES)],
                  linewidth=1.3, label=f"{short(candidate, 34)}: {summary['area']:.2f}")  # fmt: skip
    axes.axhline(1, color=MUTED, linewidth=0.8, zorder=0)
    axes.set_xlabel("part of the image pasted")
    axes.set_ylabel("part of the change")
    axes.legend(frameon=False, fontsize=6.5, loc="lower right", title="area" if legend else None, title_fontsize=6.5)
