"""The model–method pair: whether nets that learnt the task again, and as well, get the same maps from a method.

The maps of one net are a statement on the task only where the next net, as accurate, would have given them too. A net
that learnt shuffled labels is the counterpart: its maps must differ.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import pyarrow as pa
import torch
from numpy.typing import ArrayLike
from rich.progress import track
from torch import Tensor

from pellucid.attribution import Explanation
from pellucid.attribution.perturbation.grids import labels_of, regular
from pellucid.errors import ShapeError
from pellucid.evaluation.evaluate import evaluate
from pellucid.evaluation.statistics import spearman
from pellucid.intervals import Interval, mean_interval
from pellucid.models import Model

__all__ = ["REPEATED", "average_distances", "box_atlas", "compare_models", "equally_accurate"]

REPEATED = (
    "repeat_training", 'repeat_training(distance="correlation")', "region_shares", 'region_shares(of="sum")',
)  # fmt: skip
"""Distance and rank correlation of the maps, and overlap of the regions of most density and of most relevance."""

BOXES = 16


def box_atlas(shape: Sequence[int]) -> Tensor:
    """Return labels ``(*S)`` from 1 of about 16 regular boxes: an atlas for images that have none."""
    return labels_of(regular(BOXES, tuple(shape)), tuple(shape)) + 1


def compare_models(
    model: Model,
    others: Mapping[str, Model],
    x: Tensor,
    explanations: Sequence[Explanation],
    *,
    regions: Tensor | None = None,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = False,
) -> pa.Table:
    """Hold the maps of one model against those that the same methods give of each other model, image by image.

    Parameters
    ----------
    model
        The explained model.
    others
        Name to model: the same task learnt again, or learnt from shuffled labels.
    x
        The explained images ``(N, C, *S)``.
    explanations
        Of these images and `model`, by methods that can be called again.
    regions
        Labels of an atlas ``(*S)`` or ``(N, *S)``; default: `box_atlas`.
    groups
        One text an image, such as its patient.
    seed, batch_size, progress
        As everywhere.

    Returns
    -------
    pyarrow.Table
        The columns of `Scores.table` and ``model``, the other model's name; one row an image, method, metric of
        `REPEATED` and other model.

    References
    ----------
    Eitel and Ritter 2019, Testing the robustness of attribution methods for CNNs in MRI-based disease classification.
    """
    if not others:
        raise ShapeError("there is no other model to compare with: train the same task again and give it by name")
    atlas = box_atlas(x.shape[2:]) if regions is None else regions
    tables = []
    for name, other in track(others.items(), "comparing models", transient=True, disable=not progress):
        scores = evaluate(
            model, x, explanations, REPEATED, regions=atlas, models=[other], groups=groups, seed=seed,
            batch_size=batch_size,
        )  # fmt: skip
        tables.append(scores.table.append_column("model", pa.array([name] * len(scores), pa.string())))
    return pa.concat_tables(tables)


def average_distances(maps: Mapping[str, Tensor]) -> pa.Table:
    """Return how far the average maps of every two models lie apart; for images that are aligned, such as scans on an atlas.

    Parameters
    ----------
    maps
        Model to its maps of the same images ``(N, C, *S)``.

    Returns
    -------
    pyarrow.Table
        One row a pair of models: first, second, ``l2`` (Euclidean, between averages at unit norm: 0 to 2, 1.41 for unrelated
        ones) and ``correlation`` (of ranks); NaN where an average is zero or constant.

    References
    ----------
    Eitel and Ritter 2019, Testing the robustness of attribution methods for CNNs in MRI-based disease classification.
    """
    shapes = {tuple(values.shape[1:]) for values in maps.values()}
    if len(maps) < 2 or len(shapes) > 1:
        raise ShapeError(f"give maps of one shape from two models or more, not {len(maps)} of shapes {sorted(shapes)}")
    means = {name: values.double().mean(0).flatten()[None] for name, values in maps.items()}
    unit = {name: mean / torch.linalg.vector_norm(mean) for name, mean in means.items()}
    return pa.Table.from_pylist([
        {"first": one, "second": two, "l2": float(torch.linalg.vector_norm(unit[one] - unit[two])),
         "correlation": float(spearman(means[one], means[two]))}
        for one, two in combinations(maps, 2)
    ])  # fmt: skip


def equally_accurate(
    right: ArrayLike, other: ArrayLike, *, groups: Sequence[str] | None = None, seed: int = 0
) -> tuple[Interval, bool]:
    """Return by how much another model is more often right on the same images, and whether the two may be as accurate.

    Parameters
    ----------
    right, other
        Whether each model is right, one value an image.
    groups
        The independent unit of each image.
    seed
        Of the bootstrap.

    Returns
    -------
    difference
        Of the accuracies, paired by image.
    equal
        Whether its 95 % interval holds 0.
    """
    first, second = (torch.as_tensor(one, dtype=torch.float64) for one in (right, other))
    if first.shape != second.shape:
        raise ShapeError(f"one model judged {len(first)} images and the other {len(second)}: give the same images")
    found = mean_interval((second - first).numpy(), groups=groups, bounds=(-1.0, 1.0), seed=seed)
    return found, bool(found.low <= 0 <= found.high)
