"""The strategies of a model: groups of explanations, named by where they lie."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from pellucid.errors import ShapeError
from pellucid.interpretation.clusters import Clusters, cluster_explanations
from pellucid.intervals import Interval, mean_interval

__all__ = ["Named", "Strategies", "named_strategies"]

SPOT = 0.03
"""Part of the image that a fixed place takes."""

HELD = 0.15
"""Share of a group's evidence that must lie there before the place is called fixed ..."""

CONCENTRATED = 4.0
"""... and how much more than its area alone would hold."""

_PLACES = {0: "upper", 1: "middle", 2: "lower"}, {0: "left", 1: "centre", 2: "right"}


@dataclass(frozen=True, eq=False)
class Named:
    """One strategy.

    Attributes
    ----------
    group
        Its number, the largest 0.
    name
        Where its evidence lies, in words.
    rows
        Its images, the most typical first.
    beyond
        Mean share of its evidence that lies beyond the objects; None without outlines.
    lift
        Evidence beyond the objects over what their area alone would hold; None without outlines.
    artefact
        Whether much of the evidence lies at one fixed place of the picture, off the objects; an edit of that place decides.
    where
        Boolean ``(*S)`` that place.
    held
        Share of the evidence in it.
    mean
        ``(*S)`` mean share of evidence.
    """

    group: int
    name: str
    rows: tuple[int, ...]
    beyond: Interval | None
    lift: float | None
    artefact: bool
    where: Tensor
    held: float
    mean: Tensor


@dataclass(frozen=True, eq=False)
class Strategies:
    """The ways in which a model decides for one class."""

    label: str
    ids: tuple[str, ...]
    clusters: Clusters
    named: tuple[Named, ...]

    def strategy(self, image: str) -> Named:
        """Return the strategy behind one image."""
        return self.named[int(self.clusters.labels[self.ids.index(image)])]


def named_strategies(
    maps: Tensor,
    ids: Sequence[str],
    outlines: Tensor | None = None,
    *,
    label: str = "",
    frame: str = "image",
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> Strategies:
    """Group the images of one class by their maps and name each group by where its evidence lies.

    Parameters
    ----------
    maps
        ``(N, C, *S)`` of one method, at the images' grid.
    ids
        One text an image.
    outlines
        Boolean ``(N, *S)`` of the objects.
    label
        The class.
    frame
        ``"image"``, or ``"object"`` for objects that lie anywhere and have any size (needs outlines).
    groups
        The independent unit of each image.
    seed
        See `cluster_explanations`.

    Raises
    ------
    ShapeError
        When `frame` is neither, or numbers of rows differ.
    """
    if frame not in {"image", "object"} or (frame == "object" and outlines is None) or len(ids) != len(maps):
        raise ShapeError(
            f'frame={frame!r} for {len(maps)} maps and {len(ids)} ids: it is "image", or "object" with outlines of the objects'
        )
    clusters = cluster_explanations(maps, outlines if frame == "object" else None, seed=seed)
    evidence = maps.double().sum(1).clamp_min(0)
    shares = evidence / evidence.flatten(1).sum(1).clamp_min(1e-300).view(-1, *[1] * (evidence.ndim - 1))
    units = list(ids) if groups is None else list(groups)
    named = tuple(_named(group, clusters, shares, outlines, units, seed) for group in range(clusters.count))
    return Strategies(label, tuple(ids), clusters, _told_apart(named))


def _named(
    group: int, clusters: Clusters, shares: Tensor, outlines: Tensor | None, groups: Sequence[str], seed: int
) -> Named:
    rows = clusters.members(group)
    mean = shares[rows].mean(0)
    off = None if outlines is None else ~outlines[rows].bool()
    usually_off = torch.ones_like(mean, dtype=torch.bool) if off is None else off.double().mean(0) > 0.5
    where = _hot_spot(mean, usually_off)
    held = float(shares[rows][:, where].sum(1).mean()) if bool(where.any()) else 0.0
    beyond = lift = None
    if off is not None:
        part = (shares[rows] * off).flatten(1).sum(1)
        area = off.double().flatten(1).mean(1)
        units = [groups[row] for row in rows]
        beyond = mean_interval(part.numpy(), groups=units, bounds=(0.0, 1.0), seed=seed)
        lift = float((part / area.clamp_min(1e-9)).mean())
    fixed = off is not None and held >= max(HELD, CONCENTRATED * float(where.double().mean()))
    name = _words(mean, where, fixed=fixed, lift=lift)
    return Named(group, name, tuple(rows), beyond, lift, fixed, where, held, mean)


def _hot_spot(mean: Tensor, allowed: Tensor) -> Tensor:
    """Return the connected place of a few per cent of the picture round the strongest pixel that may be taken."""
    size = max(1, round(SPOT * mean.numel()))
    smooth = torch.from_numpy(ndimage.gaussian_filter(mean.numpy(), 1.0)).masked_fill(~allowed, -1.0)
    if float(smooth.max()) <= 0:
        return torch.zeros_like(mean, dtype=torch.bool)
    limit = smooth.flatten().topk(min(size, int(allowed.sum()))).values[-1].clamp_min(0.25 * float(smooth.max()))
    parts, _ = ndimage.label((smooth >= limit).numpy())
    own = parts[np.unravel_index(int(smooth.argmax()), smooth.shape)]
    return torch.from_numpy(ndimage.binary_dilation(parts == own, iterations=1)) & allowed


def _words(mean: Tensor, where: Tensor, *, fixed: bool, lift: float | None) -> str:
    if fixed:
        return f"a fixed place off the object, {_corner(where.double())}"
    if lift is not None:
        return "beyond the object" if lift > 1 else "on the object"
    return f"mostly {_corner(mean)}"


def _corner(weights: Tensor) -> str:
    """Return in words where weights lie in the last two axes."""
    plane = weights.flatten(0, -3).sum(0) if weights.ndim > 2 else weights
    if plane.ndim == 1:
        return ("at the start", "in the middle", "at the end")[_third(plane)]
    down, across = _third(plane.sum(1)), _third(plane.sum(0))
    if (down, across) == (1, 1):
        return "in the middle"
    return f"{_PLACES[0][down]} {_PLACES[1][across]}"


def _third(line: Tensor) -> int:
    place = float((line * torch.arange(len(line))).sum() / line.sum().clamp_min(1e-300))
    return int(min(2, 3 * (place + 0.5) // len(line)))


def _told_apart(named: tuple[Named, ...]) -> tuple[Named, ...]:
    """Give strategies of one name a number of their own."""
    names = [one.name for one in named]
    return tuple(
        replace(one, name=f"{one.name} ({names[: place + 1].count(one.name)})") if names.count(one.name) > 1 else one
        for place, one in enumerate(named)
    )
