"""From a long score table to places: who stands where within each image, metric, setting and seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from pellucid.errors import BadStudy
from pellucid.evaluation.scores import Scores

__all__ = ["Standing", "Standings", "standings"]

_KIND = ("family", "metric", "seed", "direction", "resolution", "definition")
_READ = (*_KIND, "image", "method", "value", "control", "group")
_NOISE = 1e-6
"""Part of the largest score of an image and metric below which a difference is a tie."""


@dataclass(frozen=True)
class Standing:
    """Places under one metric with one setting and seed.

    Attributes
    ----------
    family, metric, seed
        Which; `metric` is its text, settings included.
    places
        ``(N, K)`` from 0, the best of that image, to 1; NaN where there is no score or nobody to compare with.
    values
        ``(N, K)`` the scores; NaN where there is none.
    """

    family: str
    metric: str
    seed: int
    places: np.ndarray
    values: np.ndarray

    @property
    def name(self) -> str:
        """The metric's name without its settings."""
        return self.metric.split("(")[0]


@dataclass(frozen=True)
class Standings:
    """All standings over the same methods and images, in an order that does not depend on the table's.

    Attributes
    ----------
    methods, controls
        Names of the K methods, and whether each is a control.
    images, groups
        Ids of the N images, and the unit (patient, plate) that each belongs to.
    entries
        One a metric, setting and seed.
    """

    methods: tuple[str, ...]
    controls: tuple[bool, ...]
    images: tuple[str, ...]
    groups: tuple[str, ...]
    entries: tuple[Standing, ...]


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
    _one_definition(kinds)
    values = _cube(columns, [kind[1:3] for kind in kinds], images, methods)
    entries = tuple(
        Standing(family, metric, seed, _places(part, direction, resolution), part)
        for part, (family, metric, seed, direction, resolution, _) in zip(values, kinds, strict=True)
    )
    controls = {name for name, control in zip(columns["method"], columns["control"], strict=True) if control}
    told = dict(zip(columns["image"], columns["group"], strict=True)) if groups is None else groups
    known = tuple(name in controls for name in methods)
    return Standings(tuple(methods), known, tuple(images), _groups(images, told), entries)


def _one_definition(kinds: Sequence[tuple[Any, ...]]) -> None:
    told: dict[str, tuple[Any, ...]] = {}
    for family, metric, _seed, *definition in kinds:
        if told.setdefault(metric, (family, *definition)) != (family, *definition):
            raise BadStudy(f"{metric} stands in the scores with two definitions; score all parts with one version")


def _cube(
    columns: Mapping[str, Sequence[Any]],
    kinds: Sequence[tuple[str, int]],
    images: Sequence[str],
    methods: Sequence[str],
) -> np.ndarray:
    """Return the values as (metrics, images, methods), NaN where there is no score."""
    told = list(zip(columns["metric"], columns["seed"], strict=True))
    where = (_codes(told, kinds), _codes(columns["image"], images), _codes(columns["method"], methods))
    times = np.zeros((len(kinds), len(images), len(methods)), dtype=int)
    np.add.at(times, where, 1)
    if (times > 1).any():
        metric, image, method = (int(place[0]) for place in np.nonzero(times > 1))
        twice = f"image {images[image]!r} has two scores of {methods[method]} under {kinds[metric][0]}"
        raise BadStudy(f"{twice}; rank one target at a time")
    values = np.full(times.shape, np.nan)
    values[where] = [np.nan if value is None else value for value in columns["value"]]
    return values


def _codes(column: Sequence[Any], names: Sequence[Any]) -> np.ndarray:
    place = {name: code for code, name in enumerate(names)}
    return np.array([place[name] for name in column], dtype=int)


def _groups(images: Sequence[str], groups: Mapping[str, str]) -> tuple[str, ...]:
    for image in images:
        if image not in groups:
            raise BadStudy(f"image {image!r} has no group; give one to every image")
    return tuple(str(groups[image]) for image in images)


def _places(values: np.ndarray, direction: str, resolution: float) -> np.ndarray:
    """Rank the methods of every image; differences below the metric's resolution are ties."""
    signed = -values if direction == "higher" else values
    known = ~np.isnan(signed)
    size = np.abs(np.where(known, signed, 0.0)).max(1, keepdims=True, initial=0.0)
    grid = np.maximum(resolution, _NOISE * size)
    coarse = np.where(grid > 0, np.round(signed / np.where(grid > 0, grid, 1)), signed)
    ranks = stats.rankdata(np.where(known, coarse, np.inf), axis=1)
    number = known.sum(1, keepdims=True)
    alone = signed.shape[1] == 1
    return np.where(known & ((number > 1) | alone), (ranks - 1) / np.maximum(number - 1, 1), np.nan)
