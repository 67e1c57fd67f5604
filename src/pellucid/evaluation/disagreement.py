"""Where and between whom methods disagree: pairs of methods, pixels, objects, and groups of methods that say the same.

Methods that agree may be wrong together; where they disagree, at most one group of them is right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform
from torch import Tensor

from pellucid.attribution import Explanation
from pellucid.attribution.method import Method, row_seeds
from pellucid.attribution.objects import object_sums
from pellucid.errors import ShapeError
from pellucid.evaluation.agreement import (
    TopAgreement,
    feature_agreement,
    sign_agreement,
    signed_rank_agreement,
    top_rank_agreement,
)
from pellucid.evaluation.positions import Grid, place
from pellucid.evaluation.statistics import average_ranks, pearson

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Agreement", "agree"]

Array = NDArray[np.float64]

PAIRS = pa.schema(
    [
        pa.field("image", pa.string(), nullable=False),
        pa.field("first", pa.string(), nullable=False),
        pa.field("second", pa.string(), nullable=False),
        pa.field("measure", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("chance", pa.float64()),
    ]
)


@dataclass(frozen=True, eq=False)
class Agreement:
    """How far several methods say the same of the same images.

    Attributes
    ----------
    methods
        Names, in the order of `matrix`.
    table
        One line an image, pair of methods and measure: ``feature``, ``rank``, ``sign``, ``signed_rank`` (overlap of the
        most relevant positions, with the same order, sign, or both) and ``correlation`` (of ranks of magnitudes), each
        with what random maps would give; null where a map is constant or has no sign.
    matrix
        ``(M, M)`` mean rank correlation over images.
    disagreement
        ``(N, *S)`` standard deviation over methods of each position's rank, 0 to 0.5; for several inputs ``(N, P)``.
    clusters
        The group of each method, from 1: methods whose mean distance, 1 less the correlation, lies below `threshold`.
    tree
        The hierarchy, as scipy's ``linkage`` gives it (average linkage).
    threshold
        Where the hierarchy was cut.
    objects
        One line an image and object with its mean disagreement, or None without labels.
    """

    methods: tuple[str, ...]
    table: pa.Table
    matrix: Array
    disagreement: Tensor
    clusters: tuple[int, ...]
    tree: Array
    threshold: float
    objects: pa.Table | None = None

    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Return the names of the methods in each group, largest group first."""
        numbers = sorted(set(self.clusters), key=lambda number: (-self.clusters.count(number), number))
        return tuple(
            tuple(name for name, own in zip(self.methods, self.clusters, strict=True) if own == number)
            for number in numbers
        )

    def plot(self) -> "Figure":
        """Draw the correlations in the order of the hierarchy beside its tree; see `pellucid.show.plot_agreement`."""
        from pellucid.show import plot_agreement  # noqa: PLC0415  # pictures know results, not the reverse

        return plot_agreement(self)

    def __repr__(self) -> str:
        return f"Agreement({len(self.methods)} methods in {len(set(self.clusters))} groups)"


def agree(
    explanations: Sequence[Explanation],
    x: Tensor | Sequence[Tensor],
    *,
    labels: Tensor | None = None,
    share: float = 0.1,
    slack: float = 0.01,
    threshold: float = 0.5,
) -> Agreement:
    """Say where methods agree on the same images and targets, and which say the same.

    Parameters
    ----------
    explanations
        Two or more, of the same images and target.
    x
        The images ``(N, C, *S)``, for their shape; a tuple for several inputs.
    labels
        Whole numbers ``(*S)`` or ``(N, *S)``, 0 for background: objects, for the disagreement of each.
    share
        Size of the most relevant part, as a fraction of the positions.
    slack
        How far two ranks may lie apart to be the same, as a fraction of the positions.
    threshold
        Distance, 1 less the rank correlation, at which methods are no longer of one group.

    Raises
    ------
    ShapeError
        When there are fewer than two, or they are of other images or targets, or a map has no place on the images.

    References
    ----------
    Krishna et al. 2022, The disagreement problem in explainable machine learning.
    """
    inputs = (x,) if isinstance(x, Tensor) else tuple(x)
    grid = Grid.of(inputs)
    maps = _placed(explanations, grid, len(inputs[0]))
    seeds = row_seeds(explanations[0].seed, explanations[0].ids, len(inputs[0]))
    ranks = torch.stack([average_ranks(values.abs()) for values in maps])
    spread = (ranks / max(1, len(grid) - 1)).std(0, correction=0)
    spread = spread.reshape(-1, *grid.shapes[0]) if len(inputs) == 1 else spread
    table, matrix = _pairs(explanations, maps, ranks, seeds, share, slack)
    tree, clusters = _clusters(matrix, threshold)
    names = tuple(explanation.name for explanation in explanations)
    objects = None if labels is None else _objects(spread, labels, _images(explanations[0], len(spread)))
    return Agreement(names, table, matrix, spread, clusters, tree, threshold, objects)


def _placed(explanations: Sequence[Explanation], grid: Grid, rows: int) -> list[Tensor]:
    if len(explanations) < 2:
        raise ShapeError("agree() needs two explanations or more: give one a method")
    found = []
    for explanation in explanations:
        if len(explanation) != rows or str(explanation.target) != str(explanations[0].target):
            raise ShapeError(
                f"{explanation.name} explains {len(explanation)} images and {explanation.target}, "
                f"{explanations[0].name} {rows} and {explanations[0].target}: compare the same images and target"
            )
        placed = place(explanation.tensors, grid)
        if placed.reason:
            raise ShapeError(f"{explanation.name}: {placed.reason}")
        found.append(placed.values.cpu())
    return found


def _images(explanation: Explanation, rows: int) -> list[str]:
    return list(explanation.ids) if explanation.ids is not None else [str(row) for row in range(rows)]


def _signed(explanation: Explanation) -> bool:
    return not isinstance(explanation.method, Method) or explanation.method.taxonomy.sign == "signed"


def _pairs(
    explanations: Sequence[Explanation], maps: Sequence[Tensor], ranks: Tensor, seeds: Sequence[int], share: float,
    slack: float,
) -> tuple[pa.Table, Array]:  # fmt: skip
    """Compare every two methods under every measure."""
    measures: dict[str, TopAgreement] = {
        "feature": feature_agreement(share=share), "rank": top_rank_agreement(share=share, slack=slack),
        "sign": sign_agreement(share=share), "signed_rank": signed_rank_agreement(share=share, slack=slack),
    }  # fmt: skip
    marks = [measures["feature"].mark(values, seeds) for values in maps]
    images, matrix, parts = _images(explanations[0], len(maps[0])), np.eye(len(maps)), []
    for one, two in combinations(range(len(maps)), 2):
        both = _signed(explanations[one]) and _signed(explanations[two])
        found = {
            name: measure.overlap(marks[one], marks[two])
            for name, measure in measures.items()
            if both or "sign" not in name
        }
        alike = pearson(ranks[one], ranks[two])
        matrix[one, two] = matrix[two, one] = float(alike.nanmean()) if not bool(alike.isnan().all()) else 0.0
        found["correlation"] = (alike, torch.zeros_like(alike))
        parts += [
            _lines(images, explanations[one].name, explanations[two].name, name, *pair) for name, pair in found.items()
        ]
    return pa.concat_tables(parts), matrix


def _lines(images: Sequence[str], first: str, second: str, measure: str, value: Tensor, chance: Tensor) -> pa.Table:
    known = [
        (None, None) if one != one else (one, level) for one, level in zip(value.tolist(), chance.tolist(), strict=True)
    ]
    count = len(images)
    columns = [list(images), [first] * count, [second] * count, [measure] * count, *map(list, zip(*known, strict=True))]
    return pa.table(dict(zip(PAIRS.names, columns, strict=True)), schema=PAIRS)


def _clusters(matrix: Array, threshold: float) -> tuple[Array, tuple[int, ...]]:
    apart = np.clip(1 - matrix, 0, 2)
    np.fill_diagonal(apart, 0)
    tree = hierarchy.linkage(squareform(apart, checks=False), method="average")
    return tree, tuple(int(number) for number in hierarchy.fcluster(tree, threshold, criterion="distance"))


def _objects(spread: Tensor, labels: Tensor, images: Sequence[str]) -> pa.Table:
    sums, pixels = object_sums(spread[:, None], torch.as_tensor(labels))
    rows, numbers = torch.nonzero(pixels[:, 1:] > 0, as_tuple=True)
    numbers = numbers + 1
    mean = sums[rows, 0, numbers] / pixels[rows, numbers]
    return pa.table(
        {
            "image": [images[row] for row in rows.tolist()],
            "label": numbers.tolist(),
            "pixels": pixels[rows, numbers].tolist(),
            "disagreement": mean.tolist(),
        }
    )
