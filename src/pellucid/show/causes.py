"""A figure of which latents drive the calls of a model, over all images at once."""

import matplotlib as mpl
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from pellucid.interpretation.phenotypes import LatentCauses
from pellucid.show.charts import MUTED
from pellucid.show.colour import DIVERGING
from pellucid.show.svg import STYLE

__all__ = ["plot_latent_causes"]

_MOST = 12
_SPREAD = 0.32


def plot_latent_causes(found: LatentCauses) -> Figure:
    """Draw the Shapley values of the strongest players: a dot an image, red where the image has more of it, blue where less.

    Parameters
    ----------
    found
        What `pellucid.interpretation.phenotypes.latent_causes` gave.
    """
    names = found.table["player"].to_pylist()[:_MOST]
    colours = LinearSegmentedColormap.from_list("signed", np.array(DIVERGING) / 255)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.8, 0.9 + 0.36 * len(names)), layout="constrained")
        axes = figure.subplots()
        for line, name in enumerate(names):
            place = found.players.index(name)
            values, placed = found.values[:, place], found.coordinates[:, place]
            order = np.argsort(np.argsort(placed)) / max(len(placed) - 1, 1)
            height = line + _SPREAD * (2 * ((np.arange(len(values)) * 0.618034) % 1) - 1)
            axes.scatter(values, height, c=order, cmap=colours, s=14, linewidths=0.4, edgecolors=MUTED, vmin=0, vmax=1)
        axes.axvline(0, color=MUTED, linewidth=1, zorder=0)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel(f"added to the log-odds, n = {len(found.values)} images; red: the image has more of it, blue: less")
    return figure
