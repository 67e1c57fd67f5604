"""What the place of a method depends on: how its variance splits into method, metric, setting, seed and image."""

from collections.abc import Sequence

import numpy as np

from pellucid.evaluation.ranking.average import nanmean
from pellucid.evaluation.ranking.standings import Standing

__all__ = ["SOURCES", "variance"]

SOURCES = ("method", "metric", "setting", "seed", "image", "rest")
"""Where the variance of places comes from; all but the first say by how much the answer of a study is a choice."""


def variance(entries: Sequence[Standing], columns: Sequence[int]) -> dict[str, float]:
    """Split the sum of squares of the places of some methods (columns) about their middle.

    A place is explained by its method; by the metric that judges it; within the metric by the setting; within the setting
    by the seed; by the image (over all metrics); what no single one explains is the rest: image and metric together, and
    noise. With scores missing the parts are no longer orthogonal; the rest is then what is left, and never below zero.

    Returns
    -------
    dict
        Share of each of `SOURCES`, adding up to 1; empty where no two places differ.
    """
    cube = np.stack([entry.places[:, columns] for entry in entries]) if entries else np.zeros((0, 0, 0))
    known = ~np.isnan(cube)
    middle = np.nanmean(cube) if known.any() else 0.5
    total = float((np.where(known, cube - middle, 0.0) ** 2).sum())
    if not total:
        return {}
    names = np.array([entry.name for entry in entries])
    settings = np.array([entry.metric for entry in entries])
    whole = _within(cube, np.zeros(len(entries), dtype=int))
    by_metric, by_setting = _within(cube, names), _within(cube, settings)
    by_seed = _within(cube, np.arange(len(entries)))
    flat = nanmean(cube)[None]
    parts = {
        "method": whole - middle,
        "metric": by_metric - whole,
        "setting": by_setting - by_metric,
        "seed": by_seed - by_setting,
        "image": np.broadcast_to(flat, cube.shape) - whole,
    }
    shares = {name: float((np.where(known, part, 0.0) ** 2).sum()) / total for name, part in parts.items()}
    return {**shares, "rest": max(0.0, 1 - sum(shares.values()))}


def _within(cube: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return each method's mean place over all images and standings of the same label, spread over the cube."""
    means = np.empty_like(cube)
    for label in dict.fromkeys(labels.tolist()):
        own = labels == label
        means[own] = nanmean(cube[own].reshape(-1, cube.shape[2]))
    return means
