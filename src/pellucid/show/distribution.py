"""How methods' values are spread, and what pooling and normalisation make of one map."""

from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray
from scipy.stats import kurtosis

from pellucid.attribution import METHODS
from pellucid.attribution.combine import combine
from pellucid.errors import CannotExplain
from pellucid.show.charts import short
from pellucid.show.colour import full_colour
from pellucid.show.figure import palette_of
from pellucid.show.gallery import Album, Tile, plane_of, signed_picture
from pellucid.show.svg import STYLE
from pellucid.show.view import strongest_view

__all__ = ["Spread", "histograms", "normalised", "pooled", "spreads"]

Array = NDArray[np.float64]

POOLINGS = ("mean", "sum", "max", "max_abs", "l2")
NORMALISATIONS = ("map_max", "data_max", "map_p99", "data_p99")


@dataclass(frozen=True)
class Spread:
    """The shape of a method's raw values over some images.

    Attributes
    ----------
    method
        Its text.
    images, values
        How many images, and values of each.
    positive, zero
        Share of values above and at zero.
    kurtosis
        Excess kurtosis, mean over images: 0 for a bell curve, large for few strong values; None for constant maps.
    unique
        Different values an image, mean over images: few for methods that score whole segments.
    """

    method: str
    images: int
    values: int
    positive: float
    zero: float
    kurtosis: float | None
    unique: float


def _finite(album: Album, method: str) -> Array:
    maps = album.raw[method].double().flatten(1).numpy()
    kept: Array = maps[np.isfinite(maps).all(1)]
    return kept


def spreads(album: Album) -> list[Spread]:
    """Return the shape of every method's raw values over the album's images."""
    return [_spread(method, maps) for method in album.raw if len(maps := _finite(album, method))]


def _spread(method: str, maps: Array) -> Spread:
    varied = maps[maps.std(1) > 0]
    return Spread(
        method=method, images=len(maps), values=maps.shape[1],
        positive=float((maps > 0).mean()), zero=float((maps == 0).mean()),
        kurtosis=float(kurtosis(varied, axis=1).mean()) if len(varied) else None,
        unique=float(np.mean([len(np.unique(one)) for one in maps])),
    )  # fmt: skip


def histograms(album: Album) -> Figure | None:
    """Draw how often each value occurs, counts on a logarithmic axis, one panel a method; None without maps.

    Each map is divided by its largest magnitude first, so that shapes can be compared.
    """
    drawn = {method: maps for method in album.raw if len(maps := _finite(album, method))}
    if not drawn:
        return None
    columns = min(4, len(drawn))
    lines = -(-len(drawn) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.3 * columns, 1.5 * lines), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False, sharex=True).ravel()
        for axes, (method, maps) in zip(grid, drawn.items(), strict=False):
            _histogram(axes, method, maps)
        for axes in grid[len(drawn) :]:
            axes.set_visible(False)
    return figure


def _histogram(axes: Axes, method: str, maps: Array) -> None:
    largest = np.abs(maps).max(1, keepdims=True)
    counts, edges = np.histogram((maps / np.where(largest > 0, largest, 1)).ravel(), bins=41, range=(-1, 1))
    above = "#a63200" if palette_of(METHODS.parse(method)) == "signed" else "#3d3d42"
    colours = ["#0b3c74"] * 20 + ["#8a8f98"] + [above] * 20
    axes.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=colours, log=True)
    axes.set_title(short(method, 26), fontsize=8, fontweight="normal")
    axes.tick_params(labelsize=7)
    axes.yaxis.set_major_locator(LogLocator(numticks=4))
    axes.yaxis.set_major_formatter(FuncFormatter(_count))
    axes.yaxis.set_minor_locator(NullLocator())


def _count(value: float, _place: int | None) -> str:
    return f"{value:,.0f}"


def pooled(album: Album, method: str, image: str) -> list[Tile]:
    """Return one raw map under every channel pooling."""
    return [_stepped(album, method, image, [f'pool_channels(how="{how}")']) for how in POOLINGS]


def normalised(album: Album, method: str, image: str) -> list[Tile]:
    """Return one map, channels added up, under every normalisation; "data" is all maps of the album."""
    return [
        _stepped(album, method, image, ['pool_channels(how="sum")', f'normalise(how="{how}")'], scale=1.0)
        for how in NORMALISATIONS
    ]


def _stepped(album: Album, method: str, image: str, steps: list[str], scale: float = 0.0) -> Tile:
    """Draw a map after steps; full colour is `scale` (1 shows what a normalisation did), else the map's 99th percentile."""
    maps = album.raw[method]
    sound = maps.flatten(1).isfinite().all(1).nonzero()[:, 0]
    row = sound.tolist().index(album.ids.index(image))
    coarse = maps.shape[2:] != album.images.shape[2:]
    told = [*steps, "upsample"] if coarse else steps
    label = steps[-1].split('"')[1]
    try:
        done = combine(maps[sound], told, x=album.images)
    except CannotExplain as error:
        return Tile(method, label, sentence=str(error))
    values = done.values[row, 0].double().numpy()
    view = strongest_view([values], album.study.images.record.spatial)
    scale = scale or full_colour(values)
    palette = "unsigned" if label == "l2" else palette_of(METHODS.parse(method))
    src = signed_picture(plane_of(values, view), scale, album.edge)
    return Tile(method, label, src, scale, steps=" → ".join(done.steps), palette=palette)
