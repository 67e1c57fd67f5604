"""The average map of many images: only where the same pixel means the same thing in all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from pellucid.errors import ShapeError
from pellucid.intervals import mean_interval

__all__ = ["AverageMap", "average_by", "average_map", "registration"]

REGISTERED = 0.7
"""Mean overlap (intersection over union) of outlines with the typical one, from which on images count as registered."""


@dataclass(frozen=True, eq=False)
class AverageMap:
    """Mean and spread of maps over images.

    Attributes
    ----------
    mean, sd
        ``(C, *S)`` over the images.
    images
        How many.
    registration
        How far their outlines overlap.
    """

    mean: Tensor
    sd: Tensor
    images: int
    registration: float

    @property
    def steady(self) -> Tensor:
        """Boolean ``(C, *S)``: where the mean is more than two standard errors from 0."""
        told: Tensor = self.mean.abs() > 2 * self.sd / max(self.images, 1) ** 0.5
        return told


def registration(outlines: Tensor) -> float:
    """Return how far outlines ``(N, *S)`` overlap with the typical one, where most of them lie: 1 is in register."""
    drawn = outlines.bool().flatten(1)
    typical = drawn.double().mean(0) >= 0.5
    union = (drawn | typical).sum(1).clamp_min(1)
    return float(((drawn & typical).sum(1) / union).mean())


def average_map(maps: Tensor, outlines: Tensor | None) -> AverageMap:
    """Average maps over images that are in register.

    Parameters
    ----------
    maps
        ``(N, C, *S)``, already scaled so that no image outweighs the others (see `pellucid.combine`).
    outlines
        Boolean ``(N, *S)`` of what should lie at the same place in every image: the object, the brain, the organ. It is what
        registration is judged by.

    Raises
    ------
    ShapeError
        When the images are not in register, or nothing says whether they are.
    """
    if outlines is None:
        raise ShapeError(
            "an average map means something only where a pixel is the same thing in every image, and nothing says that it is: "
            "give outlines of the object, or average over regions with average_by or strategies with find_strategies"
        )
    if len(maps) < 2 or maps.shape[2:] != outlines.shape[1:] or len(maps) != len(outlines):
        raise ShapeError(
            f"maps {tuple(maps.shape)} and outlines {tuple(outlines.shape)} do not fit, or are of one image"
        )
    found = registration(outlines)
    if found < REGISTERED:
        raise ShapeError(
            f"these {len(maps)} images are not in register: their outlines overlap with the typical one by {found:.2f} where "
            f"{REGISTERED} is needed; align them first, or average over regions with average_by"
        )
    values = maps.double()
    return AverageMap(values.mean(0), values.std(0), len(maps), found)


def average_by(
    maps: Tensor, regions: Tensor, by: Sequence[object], *, names: Sequence[str] = (), groups: Sequence[str] | None = None,
    seed: int = 0,
) -> pa.Table:  # fmt: skip
    """Average what maps hold in named regions, by class or any other criterion: no registration is needed.

    Parameters
    ----------
    maps
        ``(N, C, *S)``; channels are added up.
    regions
        ``(N, *S)`` labels, the same number for the same part in every image: 0 background, 1 nucleus, ...
    by
        One value an image: its class, its outcome, its batch.
    names
        Of the regions, by number.
    groups
        The independent unit of each image.
    seed
        Of the bootstrap.

    Returns
    -------
    pyarrow.Table
        One row a criterion's value and region: ``by, region``, mean ``share`` of the map's absolute mass with ``low, high``,
        ``net`` (mean signed share), ``images``.
    """
    if len(maps) != len(regions) or len(by) != len(maps):
        raise ShapeError(f"{len(maps)} maps, {len(regions)} images of regions and {len(by)} criteria do not fit")
    whole = maps.double().sum(1).flatten(1)
    labels = regions.flatten(1).long()
    mass = whole.abs().sum(1).clamp_min(1e-300)
    rows: list[dict[str, Any]] = []
    for value in sorted(set(by), key=str):
        members = [row for row, own in enumerate(by) if own == value]
        units = None if groups is None else [groups[row] for row in members]
        for region in torch.unique(labels[members]).tolist():
            inside = labels[members] == region
            share = (whole[members].abs() * inside).sum(1) / mass[members]
            net = (whole[members] * inside).sum(1) / mass[members]
            told = mean_interval(share.numpy(), groups=units, bounds=(0.0, 1.0), seed=seed)
            rows.append({
                "by": str(value), "region": names[region] if region < len(names) else str(region), "share": told.value,
                "low": told.low, "high": told.high, "net": float(net.mean()), "images": told.n,
            })  # fmt: skip
    return pa.Table.from_pylist(rows)
