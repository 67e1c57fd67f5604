"""Prototypes: the few cases that stand for a class as a layer sees it, and those that they do not speak for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel
from torch import Tensor

from pellucid.attribution.scaling import resized
from pellucid.errors import ShapeError
from pellucid.intervals import Interval, mean_interval

__all__ = ["Prototypes", "activation_precision", "likeness_maps", "prototypes"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Prototypes:
    """Cases that stand for their class, and criticisms.

    Attributes
    ----------
    table
        One row a chosen case: ``class, kind`` (prototype or criticism), ``rank, image, row``; of a prototype how many images
        of its class are ``nearest`` to it.
    misfit
        Class to the maximum mean discrepancy between its images and its prototypes: 0 is a perfect stand-in.
    """

    table: pa.Table
    misfit: dict[str, float]

    def rows(self, kind: str, label: str | None = None) -> list[int]:
        """Return the chosen rows of one kind, of one class or all."""
        return [one["row"] for one in self.table.to_pylist() if one["kind"] == kind and label in {None, one["class"]}]


def prototypes(
    features: Tensor,
    labels: Sequence[int] | None = None,
    *,
    classes: Sequence[str] = (),
    ids: Sequence[str] | None = None,
    count: int = 3,
    criticisms: int = 2,
) -> Prototypes:
    """Choose the cases that stand for their class as a cloud, and the criticisms: those least like any of them.

    Parameters
    ----------
    features
        ``(N, D)`` such as `posed_features` gives.
    labels
        Class of each; without, all are one class.
    classes
        Names of the classes.
    ids
        Names of the images.
    count, criticisms
        Of each kind a class; fewer where a class has fewer images.

    Raises
    ------
    ShapeError
        When the numbers of rows differ, or `count` is below one.

    References
    ----------
    Kim, Khanna and Koyejo 2016, Examples are not enough, learn to criticize! Greedy choice on the squared maximum mean
    discrepancy with a Gaussian kernel as wide as the median distance; criticisms here are the cases that no prototype
    covers, not the extremes of the paper's witness function, which passes over a lone stray.
    """
    points = features.double().numpy()
    own = np.zeros(len(points), dtype=int) if labels is None else np.asarray(labels)
    names = [str(row) for row in range(len(points))] if ids is None else list(ids)
    if len(own) != len(points) or len(names) != len(points) or count < 1 or criticisms < 0:
        raise ShapeError(
            f"prototypes(count={count}, criticisms={criticisms}): {len(points)} rows, {len(own)} labels, {len(names)} ids"
        )
    lines: list[dict[str, Any]] = []
    misfit: dict[str, float] = {}
    for label in np.unique(own):
        rows = np.flatnonzero(own == label)
        told = classes[label] if label < len(classes) else str(label)
        kernel = _kernel(points[rows])
        chosen = _greedy(kernel, count)
        misfit[told] = _discrepancy(kernel, chosen)
        nearest = np.bincount(kernel[:, chosen].argmax(1), minlength=len(chosen))
        odd = _criticisms(kernel, chosen, criticisms)
        for kind, places in (("prototype", chosen), ("criticism", odd)):
            lines += [
                {"class": told, "kind": kind, "rank": rank, "image": names[rows[place]], "row": int(rows[place]),
                 "nearest": int(nearest[rank - 1]) if kind == "prototype" else None}
                for rank, place in enumerate(places, 1)
            ]  # fmt: skip
    return Prototypes(pa.Table.from_pylist(lines), misfit)


def _kernel(points: Array) -> Array:
    squared = euclidean_distances(points, squared=True)
    middle = float(np.median(squared[np.triu_indices(len(points), 1)])) if len(points) > 1 else 1.0
    return np.asarray(rbf_kernel(points, gamma=1 / (middle or 1.0)))


def _greedy(kernel: Array, count: int) -> list[int]:
    """Add one case at a time that most lowers the discrepancy between all and the chosen."""
    chosen: list[int] = []
    typical = kernel.mean(1)
    for _ in range(min(count, len(kernel))):
        size = len(chosen) + 1
        among = kernel[:, chosen].sum(1)
        gain = 2 * (typical[chosen].sum() + typical) / size
        gain -= (kernel[np.ix_(chosen, chosen)].sum() + 2 * among + kernel.diagonal()) / size**2
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
    return chosen


def _discrepancy(kernel: Array, chosen: list[int]) -> float:
    squared = kernel.mean() - 2 * kernel[:, chosen].mean() + kernel[np.ix_(chosen, chosen)].mean()
    return float(np.sqrt(max(squared, 0.0)))


def _criticisms(kernel: Array, chosen: list[int], count: int) -> list[int]:
    """Take the cases that are least like any prototype or criticism before them."""
    found: list[int] = []
    for _ in range(min(count, len(kernel) - len(chosen))):
        covered = kernel[:, [*chosen, *found]].max(1)
        covered[[*chosen, *found]] = np.inf
        found.append(int(covered.argmin()))
    return found


def likeness_maps(maps: Tensor, prototype: Tensor) -> Tensor:
    """Return where images look like a prototype: the cosine ``(N, 1, *grid)`` of each place with its features ``(C,)``.

    Parameters
    ----------
    maps
        ``(N, C, *grid)`` as `pellucid.concepts.layer_maps` gives.
    prototype
        ``(C,)`` its features, pooled over the layer's places or taken at one of them.
    """
    if maps.shape[1] != len(prototype):
        raise ShapeError(f"the prototype has {len(prototype)} features and the maps {tuple(maps.shape)} (N, C, *grid)")
    direction = prototype.to(maps) / prototype.norm().clamp_min(1e-12)
    along = (maps * direction.view(1, -1, *[1] * (maps.ndim - 2))).sum(1, keepdim=True)
    cosine: Tensor = along / maps.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return cosine


def activation_precision(
    maps: Tensor, masks: Tensor, *, top: float = 0.05, groups: Sequence[str] | None = None, seed: int = 0
) -> Interval:
    """Return which share of the places that a prototype lights up most lies inside the expert's mask.

    Parameters
    ----------
    maps
        ``(N, 1, *grid)`` such as `likeness_maps` gives; brought to the masks' grid linearly.
    masks
        ``(N, *S)``, above 0 inside.
    top
        Share of the image that counts as lit.
    groups
        The independent unit of each image.

    References
    ----------
    Barnett et al. 2021, A case-based interpretable deep learning model for classification of mass lesions in digital
    mammography.
    """
    if len(maps) != len(masks) or not 0 < top < 1:
        raise ShapeError(f"activation_precision(top={top:g}): {len(maps)} maps and {len(masks)} masks")
    flat = resized(maps, tuple(masks.shape[1:]))[:, 0].flatten(1)
    lit = flat >= flat.quantile(1 - top, dim=1, keepdim=True)
    inside = (lit & (masks.flatten(1) > 0)).sum(1).double() / lit.sum(1)
    return mean_interval(inside.numpy(), groups=groups, bounds=(0.0, 1.0), seed=seed)
