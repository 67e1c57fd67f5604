"""From a long score table to places: who stands where within each image and metric."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from pellucid.errors import BadStudy
from pellucid.evaluation.scores import Scores

__all__ = ["Standing", "Standings", "standings"]

_KIND = ("family", "metric", "direction", "resolution", "definition")
_READ = (*_KIND, "image", "method", "value", "control", "group")
_NOISE = 1e-6
"""Part of the largest score of an image and metric below which a difference is a tie."""


@dataclass(frozen=True)
class Standing:
    """Places under one metric.

    Attributes
    ----------
    family, metric
        Which.
    places
        ``(N, K)`` from 0, the best of that image, to 1; NaN where there is no score or nobody to compare with.
    place
        ``(K,)`` mean over images.
    mean
        ``(K,)`` mean score.
    known
        ``(N, K)`` whether there is a score.
    metrics
        ``(K,)`` how many metrics stand behind a method's place.
    width
        How many methods have a place at all.
    """

    family: str
    metric: str
    places: np.ndarray
    place: np.ndarray
    mean: np.ndarray
    known: np.ndarray
    metrics: np.ndarray
    width: int

    @property
    def scored(self) -> np.ndarray:
        """``(K,)`` on how many images each method has a score."""
        counts: np.ndarray = self.known.sum(0)
        return counts


@dataclass(frozen=True)
class Standings:
    """All metrics' standings over the same methods and images, in an order that does not depend on the table's."""

    methods: tuple[str, ...]
    controls: tuple[bool, ...]
    groups: tuple[str, ...]
    metrics: tuple[Standing, ...]


def standings(scores: Scores, groups: Mapping[str, str] | None = None) -> Standings:
    """Place the methods of a score table.

    Raises
    ------
    BadStudy
        When a score occurs twice, an image lacks a group, or a metric has two definitions.
    """
    columns = {name: scores.table[name].to_pylist() for name in _READ}
    images, methods = sorted(set(columns["image"])), sorted(set(columns["method"]))
    kinds = sorted(set(zip(*(columns[name] for name in _KIND), strict=True)))
    names = [kind[1] for kind in kinds]
    _unique(names)
    values = _cube(columns, names, images, methods)
    placed = tuple(_stand(part, *kind) for part, (*kind, _) in zip(values, kinds, strict=True))
    controls = {name for name, control in zip(columns["method"], columns["control"], strict=True) if control}
    told = dict(zip(columns["image"], columns["group"], strict=True)) if groups is None else groups
    return Standings(tuple(methods), tuple(name in controls for name in methods), _groups(images, told), placed)


def _unique(metrics: Sequence[str]) -> None:
    for metric in metrics:
        if metrics.count(metric) > 1:
            raise BadStudy(f"{metric} stands in the scores with two definitions; score all parts with one version")


def _cube(
    columns: Mapping[str, Sequence[Any]], metrics: Sequence[str], images: Sequence[str], methods: Sequence[str]
) -> np.ndarray:
    """Return the values as (metrics, images, methods), NaN where there is no score."""
    where = tuple(
        _codes(columns[column], names)
        for column, names in (("metric", metrics), ("image", images), ("method", methods))
    )
    times = np.zeros((len(metrics), len(images), len(methods)), dtype=int)
    np.add.at(times, where, 1)
    if (times > 1).any():
        metric, image, method = (int(place[0]) for place in np.nonzero(times > 1))
        twice = f"image {images[image]!r} has two scores of {methods[method]} under {metrics[metric]}"
        raise BadStudy(f"{twice}; rank one target at a time")
    values = np.full(times.shape, np.nan)
    values[where] = [np.nan if value is None else value for value in columns["value"]]
    return values


def _codes(column: Sequence[str], names: Sequence[str]) -> np.ndarray:
    place = {name: code for code, name in enumerate(names)}
    return np.array([place[name] for name in column], dtype=int)


def _groups(images: Sequence[str], groups: Mapping[str, str]) -> tuple[str, ...]:
    for image in images:
        if image not in groups:
            raise BadStudy(f"image {image!r} has no group; give one to every image")
    return tuple(str(groups[image]) for image in images)


def _stand(values: np.ndarray, family: str, metric: str, direction: str, resolution: float) -> Standing:
    signed = -values if direction == "higher" else values
    known = ~np.isnan(signed)
    size = np.abs(np.where(known, signed, 0.0)).max(1, keepdims=True, initial=0.0)
    grid = np.maximum(resolution, _NOISE * size)
    coarse = np.where(grid > 0, np.round(signed / np.where(grid > 0, grid, 1)), signed)
    ranks = stats.rankdata(np.where(known, coarse, np.inf), axis=1)
    number = known.sum(1, keepdims=True)
    alone = signed.shape[1] == 1
    places = np.where(known & ((number > 1) | alone), (ranks - 1) / np.maximum(number - 1, 1), np.nan)
    count = np.maximum(known.sum(0), 1)
    scored = (~np.isnan(places)).sum(0)
    place = np.where(np.isnan(places), 0.0, places).sum(0) / np.maximum(scored, 1)
    mean = np.where(known, values, 0.0).sum(0) / count
    return Standing(
        family=family,
        metric=metric,
        places=places,
        place=np.where(scored > 0, place, np.nan),
        mean=np.where(known.any(0), mean, np.nan),
        known=known,
        metrics=(scored > 0).astype(int),
        width=int((scored > 0).sum()),
    )
