"""The picture of who agrees with whom: correlations of methods in the order of their hierarchy, beside its tree."""

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.cluster import hierarchy

from pellucid.evaluation import Agreement
from pellucid.show.charts import INK, MUTED, short
from pellucid.show.svg import STYLE

__all__ = ["plot_agreement"]


def plot_agreement(agreement: Agreement) -> Figure:
    """Draw the mean rank correlation of every two methods, like beside like, with the tree that groups them.

    The dashed line is where the tree was cut; numbers are correlations of ranks of magnitudes.
    """
    count, images = len(agreement.methods), agreement.disagreement.shape[0]
    with mpl.rc_context(STYLE):
        size = 1.4 + 0.42 * count
        figure = Figure(figsize=(size + 4.2, size + 0.8), layout="constrained")
        tree, grid = figure.subplots(1, 2, width_ratios=(1, 2.6))
        order = _draw_tree(tree, agreement)
        _draw_grid(grid, agreement, order)
        groups = len(set(agreement.clusters))
        figure.suptitle(
            f"Agreement of {count} methods on {images} images: mean rank correlation of magnitudes\n"
            f"{groups} {'group' if groups == 1 else 'groups'} at distance {agreement.threshold:g}; "
            "methods that agree may be wrong together",
            fontsize=9, color=INK, x=0.02, ha="left",
        )  # fmt: skip
    return figure


def _draw_tree(axes: Axes, agreement: Agreement) -> list[int]:
    """Draw the hierarchy from right to left and return the methods from top to bottom."""
    drawn = hierarchy.dendrogram(
        agreement.tree, ax=axes, orientation="left", no_labels=True, color_threshold=0, above_threshold_color=INK
    )
    axes.axvline(agreement.threshold, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
    axes.set_xlabel("1 − correlation")
    axes.set_yticks([])
    axes.spines[["left", "top", "right"]].set_visible(False)
    axes.invert_yaxis()
    return [int(place) for place in drawn["leaves"]]


def _draw_grid(axes: Axes, agreement: Agreement, order: list[int]) -> None:
    matrix = agreement.matrix[order][:, order]
    axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    for row, column in ((row, column) for row in range(len(order)) for column in range(len(order))):
        value = matrix[row, column]
        ink = "white" if abs(value) > 0.6 else INK
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6.5, color=ink)
    names = [short(agreement.methods[place], 30) for place in order]
    axes.set_yticks(range(len(order)), names)
    axes.yaxis.tick_right()
    axes.set_xticks([])
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
