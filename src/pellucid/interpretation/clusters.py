"""Explanations in groups: where maps of many images fall into a few ways of deciding, each is one strategy of the model."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.ndimage import gaussian_filter
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, pairwise_distances, silhouette_score
from torch import Tensor
from torch.nn import functional

from pellucid.errors import ShapeError
from pellucid.hashing import hash_key

__all__ = ["Clusters", "cluster_explanations", "pooled_maps"]

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

GRID = 12
"""Places along each axis that maps are pooled to before they are compared."""

LEAST = 3
"""Images of the smallest strategy."""

STABLE = 0.75
"""Agreement (adjusted Rand index) of the groups found in parts of the images, from which on they are believed."""

_NEAR = 7
_BLUR = 1.0
_REFERENCES = 19
_PARTS = 10
_POOLS: dict[int, Any] = {
    1: functional.adaptive_avg_pool1d,
    2: functional.adaptive_avg_pool2d,
    3: functional.adaptive_avg_pool3d,
}


@dataclass(frozen=True, eq=False)
class Clusters:
    """Images grouped by their maps.

    Attributes
    ----------
    labels
        ``(N,)`` group of each image, the largest first.
    stability
        Mean adjusted Rand index with the groups found in parts of 80 % of the images; 1 where there is one group.
    apart
        How far apart the groups lie: mean silhouette, 1 is far, 0 is not at all, −1 for one group.
    p
        Of a single elongated cloud of the same covariance whose groups are as far apart; 1 where none were proposed.
    eigenvalues
        The lowest of the graph's normalised Laplacian: as many near 0 as there are groups.
    features
        ``(N, D)`` what was compared.
    """

    labels: Labels
    stability: float
    apart: float
    p: float
    eigenvalues: Array
    features: Array

    @property
    def count(self) -> int:
        """How many groups."""
        return int(self.labels.max()) + 1

    def members(self, group: int) -> list[int]:
        """Return the rows of one group, the most typical first: nearest to the group's mean."""
        rows = np.flatnonzero(self.labels == group)
        middle = self.features[rows].mean(0)
        order = np.linalg.norm(self.features[rows] - middle, axis=1).argsort(kind="stable")
        return [int(row) for row in rows[order]]


def pooled_maps(maps: Tensor, outlines: Tensor | None = None, *, grid: int = GRID) -> Array:
    """Return where each map's evidence lies ``(N, D)``: square roots of shares, so that distances are Hellinger's times √2.

    Channels are added up and what speaks for the target is kept (of a map without any, its magnitudes), pooled to a grid and
    blurred by one place, so that a part that moves a little stays like itself.

    Parameters
    ----------
    maps
        ``(N, C, *S)``.
    outlines
        Boolean ``(N, *S)``: maps are compared in the frame of each object, so that place and size in the image do not count;
        without, in the frame of the image.
    grid
        Places along each axis.
    """
    whole = maps.double().sum(1)
    positive = whole.clamp_min(0)
    kept = torch.where((positive.flatten(1).sum(1) > 0).view(-1, *[1] * (whole.ndim - 1)), positive, whole.abs())
    if not bool(kept.isfinite().all()):
        raise ShapeError("some maps hold NaN or infinity; leave out the images that could not be explained")
    pool = _POOLS[whole.ndim - 1]
    size = tuple(min(grid, length) for length in whole.shape[1:])
    framed = [kept[row] if outlines is None else _framed(kept[row], outlines[row]) for row in range(len(kept))]
    pooled = [
        gaussian_filter(pool(one[None, None], size)[0, 0].numpy(), _BLUR, mode="nearest").ravel() for one in framed
    ]
    shares = np.stack(pooled)
    return np.asarray(np.sqrt(shares / np.maximum(shares.sum(1, keepdims=True), 1e-300)))


def _framed(values: Tensor, outline: Tensor) -> Tensor:
    """Cut a map to the box round the object, a quarter of its size wider on every side."""
    places = outline.nonzero()
    if not len(places):
        return values
    low, high = places.min(0).values, places.max(0).values + 1
    margin = ((high - low) / 4).ceil().long()
    window = tuple(
        slice(max(0, int(start - more)), int(stop + more)) for start, stop, more in zip(low, high, margin, strict=True)
    )
    return values[window]


def cluster_explanations(
    maps: Tensor, outlines: Tensor | None = None, *, grid: int = GRID, most: int = 6, seed: int = 0
) -> Clusters:
    """Group images by where their maps lie, and say whether there are groups at all.

    The largest gap between the eigenvalues of the graph of like maps proposes a number of groups. They are believed where
    they come back in parts of the images and lie farther apart than what is cut from single clouds of the same covariance;
    else all images are one group.

    Parameters
    ----------
    maps
        ``(N, C, *S)`` of one target.
    outlines, grid
        See `pooled_maps`.
    most
        Groups at most.
    seed
        Of the starts, the parts and the clouds.

    Raises
    ------
    ShapeError
        When there are fewer than 12 images.

    References
    ----------
    Lapuschkin et al. 2019, Unmasking Clever Hans predictors and assessing what machines really learn; von Luxburg 2007, A
    tutorial on spectral clustering.
    """
    if len(maps) < 12:
        raise ShapeError(f"{len(maps)} maps are too few to fall into groups; give twelve or more")
    features = pooled_maps(maps, outlines, grid=grid)
    values, vectors = _spectrum(features, most + 1)
    count = int(np.diff(values).argmax()) + 1
    labels = _ordered(_cut(vectors, count, seed))
    found = Clusters(labels, 1.0, _apart(features, labels), 1.0, values, features)
    if count == 1:
        return found
    chance = [_apart(cloud, _grouped(cloud, count, seed)) for cloud in _clouds(features, seed)]
    p = float((1 + sum(one >= found.apart for one in chance)) / (1 + _REFERENCES))
    stability = _stability(features, labels, count, seed)
    if stability < STABLE or p > 0.05 or np.bincount(labels).min() < LEAST:
        return replace(found, labels=np.zeros_like(labels), p=p)
    return replace(found, stability=stability, p=p)


def _spectrum(features: Array, count: int) -> tuple[Array, Array]:
    """Return the lowest eigenvalues and eigenvectors of the normalised Laplacian of the graph of like maps.

    Two maps are alike as exp(−d² / 2σ²), σ the median distance to the seventh nearest map.
    """
    apart = pairwise_distances(features)
    width = float(np.median(np.sort(apart, axis=1)[:, min(_NEAR, len(features) - 1)])) or 1.0
    graph = np.exp(-(apart**2) / (2 * width**2))
    np.fill_diagonal(graph, 0)
    degree = 1 / np.sqrt(graph.sum(1) + 1e-12)
    laplacian = np.eye(len(graph)) - degree[:, None] * graph * degree[None]
    values, vectors = eigh(laplacian, subset_by_index=[0, min(count, len(graph) - 1)])
    return np.asarray(values), np.asarray(vectors)


def _cut(vectors: Array, count: int, seed: int) -> Labels:
    rows = vectors[:, :count]
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return np.asarray(KMeans(count, n_init=10, random_state=seed).fit_predict(rows), dtype=np.int64)


def _grouped(features: Array, count: int, seed: int) -> Labels:
    return _cut(_spectrum(features, count)[1], count, seed)


def _ordered(labels: Labels) -> Labels:
    """Return the groups numbered by size, the largest 0."""
    order = np.argsort(-np.bincount(labels), kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return np.asarray(place[labels])


def _apart(features: Array, labels: Labels) -> float:
    return float(silhouette_score(features, labels)) if 1 < len(np.unique(labels)) < len(labels) else -1.0


def _clouds(features: Array, seed: int) -> list[Array]:
    """Return single clouds of the same mean and covariance."""
    random = np.random.default_rng(int.from_bytes(hash_key(seed, "clouds")[:8]))
    middle = features.mean(0)
    centred = (features - middle) / np.sqrt(len(features) - 1)
    return [middle + random.standard_normal((len(features), len(features))) @ centred for _ in range(_REFERENCES)]


def _stability(features: Array, labels: Labels, count: int, seed: int) -> float:
    random = np.random.default_rng(int.from_bytes(hash_key(seed, "parts")[:8]))
    found = []
    for _ in range(_PARTS):
        rows = np.sort(random.permutation(len(features))[: round(0.8 * len(features))])
        found.append(adjusted_rand_score(labels[rows], _grouped(features[rows], count, seed)))
    return float(np.mean(found))
