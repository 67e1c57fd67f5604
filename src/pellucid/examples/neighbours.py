"""Similar cases: for a call of the model, the images that its layer holds to be alike, of the same and of other classes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.concepts.features import Pictures, Pool
from pellucid.errors import ShapeError
from pellucid.examples.distances import Distance, distances
from pellucid.examples.pose import Pose, embedding_layer, posed_features
from pellucid.hashing import hash_key
from pellucid.images import ImageSet
from pellucid.intervals import Interval, mean_interval
from pellucid.models import Model, Passes
from pellucid.models.predict import calibrated_logits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["RELATIONS", "Neighbours", "Precision", "similar_cases"]

Array = NDArray[np.float64]
Whole = NDArray[np.int64]

RELATIONS = ("nearest", "same", "other", "boundary")
"""Of any class; of the class that the model calls; of another class; calls between that class and another."""

UNSURE = 0.1
"""Part of the gallery, the least sure, that counts as boundary cases."""

FAR = 0.95
"""Share of gallery images whose own nearest is nearer, from which on a query has no close case."""

_CALIBRATING = 500


@dataclass(frozen=True)
class Precision:
    """Of the k nearest, how many share something with the query; and how many would by chance."""

    value: Interval
    chance: float
    k: int

    def __str__(self) -> str:
        return f"{self.value} (chance {self.chance:.3g}; k = {self.k})"


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest cases of each query.

    Attributes
    ----------
    table
        One row a query, relation and rank: ``image, relation, rank, neighbour, distance``, the neighbour's ``label, called``
        and ``group``, the query's ``query_label, query_called``, and ``strange``: the share of gallery images that have a
        nearer nearest case than the query.
    ids
        The gallery.
    layer, metric, pose
        Where and how distances were taken.
    eligible
        ``(Q, G)`` which gallery images might stand beside which query: none of its own group.
    """

    table: pa.Table
    ids: tuple[str, ...]
    queries: tuple[str, ...]
    layer: str
    metric: Distance
    pose: Pose
    eligible: NDArray[np.bool_]

    @property
    def without_close_case(self) -> tuple[str, ...]:
        """The queries that lie farther from everything than nearly all gallery images do."""
        rows = self.table.to_pylist()
        return tuple(dict.fromkeys(row["image"] for row in rows if row["strange"] > FAR))

    def precision(
        self,
        values: Mapping[str, float],
        k: int = 5,
        *,
        bins: int | None = None,
        groups: Mapping[str, str] | None = None,
    ) -> Precision:
        """Return how many of the k nearest share the query's label, or its third of a continuous factor.

        Parameters
        ----------
        values
            Image to label, or to the value of a factor.
        k
            Nearest cases counted.
        bins
            Into how many equally frequent classes a factor is cut; None takes the values as labels.
        groups
            Image to its independent unit, for the interval.
        """
        names = list(dict.fromkeys([*self.ids, *self.queries]))
        told = np.array([float(values[name]) for name in names])
        if bins is not None:
            told = np.searchsorted(np.quantile(told, np.arange(1, bins) / bins), told, side="right").astype(float)
        label = dict(zip(names, told, strict=True))
        rows = [row for row in self.table.to_pylist() if row["relation"] == "nearest" and row["rank"] <= k]
        shares = {
            name: [label[row["neighbour"]] == label[name] for row in rows if row["image"] == name]
            for name in self.queries
        }
        kept = [name for name in self.queries if shares[name]]
        units = None if groups is None else [groups[name] for name in kept]
        value = mean_interval([np.mean(shares[name]) for name in kept], groups=units, bounds=(0.0, 1.0))
        gallery = np.array([label[name] for name in self.ids])
        chance = [
            np.mean(gallery[self.eligible[row]] == label[name])
            for row, name in enumerate(self.queries)
            if self.eligible[row].any()
        ]
        return Precision(value, float(np.mean(chance)), k)

    def plot(self, images: ImageSet, queries: Sequence[str] | None = None, *, most: int = 4, each: int = 3) -> "Figure":
        """Draw queries with their nearest cases of the same class, of others, and at the boundary."""
        from pellucid.show.exemplars import neighbour_figure  # noqa: PLC0415  # pictures know results, not the reverse

        return neighbour_figure(self, images, queries, most=most, each=each)

    def __repr__(self) -> str:
        told = f"{len(self.queries)} queries in a gallery of {len(self.ids)}"
        return f"Neighbours({told}; layer={self.layer!r}, metric={self.metric!r}, pose={self.pose!r})"


def similar_cases(
    model: Model | Callable[..., Any],
    images: Tensor | ImageSet,
    queries: Sequence[str],
    *,
    ids: Sequence[str] | None = None,
    layer: str | None = None,
    k: int = 5,
    metric: Distance = "cosine",
    pose: Pose = "as_is",
    pool: Pool = "mean",
    labels: Sequence[int] | None = None,
    groups: Sequence[str] | None = None,
    features: Tensor | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = False,
) -> Neighbours:
    """Find for each query the nearest cases of its class, of other classes, and those at the boundary.

    A query's class is what the model calls it; a gallery image's is its label, or what it is called where there is none.

    Parameters
    ----------
    model
        A `Model` of a classifier, or any such ``nn.Module``.
    images, ids
        The gallery: ``(N, C, *S)`` with one id a row, or a set and which of its images; queries are among its images.
    queries
        Ids.
    layer
        Default: the model's embedding.
    k
        Cases a relation.
    metric, pose, pool
        See `Distance`, `Pose` and `pellucid.concepts.layer_features`.
    labels
        One class a gallery image; default: the set's.
    groups
        The independent unit (patient, smear) of each gallery image: a query never finds its own group.
    features
        ``(N, D)`` of the gallery, in place of the layer's: phenotypes, another model's embedding.
    seed, batch_size, progress
        As everywhere.

    Raises
    ------
    ShapeError
        When a query is not in the gallery, or numbers of rows differ.
    """
    own, pictures = Model.of(model), Pictures.of(images, ids)
    known = {name: row for row, name in enumerate(pictures.ids)}
    missing = [name for name in queries if name not in known]
    if missing or not queries:
        what = f"query {missing[0]!r} is not in the gallery" if missing else "there is no query"
        raise ShapeError(f"{what} of {len(pictures)} images; give ids= that hold every query")
    name = "features" if features is not None else embedding_layer(own, layer)
    if features is None:
        features = posed_features(own, pictures, layer, pose=pose, pool=pool, batch_size=batch_size, progress=progress)
    logits = _logits(own, pictures, batch_size)
    cases = _Cases(pictures.ids, features, logits, _labels(images, pictures, labels, logits), _units(pictures, groups))
    rows = [known[query] for query in queries]
    table, eligible = _found(cases, rows, k, metric, seed)
    return Neighbours(table, pictures.ids, tuple(queries), name, metric, pose, eligible)


def _logits(model: Model, pictures: Pictures, batch_size: int | None) -> Tensor:
    with Passes(model, batch_size=batch_size) as passes:
        return torch.cat([calibrated_logits(passes, block) for block in pictures.blocks()])


def _labels(images: Any, pictures: Pictures, labels: Sequence[int] | None, logits: Tensor) -> Whole:
    if labels is None and isinstance(images, ImageSet) and images.labels is not None:
        labels = images.label(pictures.ids)
    found = logits.argmax(1).numpy() if labels is None else np.asarray(labels)
    if len(found) != len(pictures):
        raise ShapeError(f"{len(found)} labels were given for a gallery of {len(pictures)}")
    return found


def _units(pictures: Pictures, groups: Sequence[str] | None) -> tuple[str, ...]:
    units = tuple(pictures.ids) if groups is None else tuple(str(one) for one in groups)
    if len(units) != len(pictures):
        raise ShapeError(f"{len(units)} groups were given for a gallery of {len(pictures)}")
    return units


@dataclass(frozen=True, eq=False)
class _Cases:
    """The gallery: names, features, logits, classes, independent units."""

    ids: tuple[str, ...]
    features: Tensor
    logits: Tensor
    labels: Whole
    groups: tuple[str, ...]

    @property
    def called(self) -> Whole:
        """What the model calls each image."""
        return np.asarray(self.logits.argmax(1).numpy())

    def unsure(self) -> tuple[NDArray[np.bool_], Whole]:
        """Return which images are boundary cases, and the two likeliest classes of each."""
        best = self.logits.topk(2, dim=1)
        margins = (best.values[:, 0] - best.values[:, 1]).numpy()
        return margins <= np.quantile(margins, UNSURE), np.asarray(best.indices.numpy())


def _found(cases: _Cases, rows: list[int], k: int, metric: Distance, seed: int) -> tuple[pa.Table, NDArray[np.bool_]]:
    apart = distances(cases.features[rows], cases.features, metric, seed=seed)
    groups = np.array(cases.groups)
    eligible = groups[rows][:, None] != groups[None]
    ordinary = _own_nearest(cases, metric, seed)
    called, (unsure, pair) = cases.called, cases.unsure()
    lines: list[dict[str, Any]] = []
    for place, row in enumerate(rows):
        same = cases.labels == called[row]
        between = unsure & (pair == called[row]).any(1)
        allowed = {"nearest": eligible[place], "same": eligible[place] & same, "other": eligible[place] & ~same,
                   "boundary": eligible[place] & between}  # fmt: skip
        order = np.argsort(apart[place], kind="stable")
        nearest = float(apart[place][eligible[place]].min(initial=np.inf))
        strange = float((ordinary < nearest).mean()) if len(ordinary) else 0.0
        for relation, which in allowed.items():
            chosen = order[which[order]][:k]
            lines += [
                {"image": cases.ids[row], "relation": relation, "rank": rank, "neighbour": cases.ids[one],
                 "distance": float(apart[place, one]), "label": int(cases.labels[one]), "called": int(called[one]),
                 "group": cases.groups[one], "query_label": int(cases.labels[row]), "query_called": int(called[row]),
                 "strange": strange}
                for rank, one in enumerate(chosen, 1)
            ]  # fmt: skip
    return pa.Table.from_pylist(lines, schema=_SCHEMA), eligible


_SCHEMA = pa.schema([
    ("image", pa.string()), ("relation", pa.string()), ("rank", pa.int64()), ("neighbour", pa.string()),
    ("distance", pa.float64()), ("label", pa.int64()), ("called", pa.int64()), ("group", pa.string()),
    ("query_label", pa.int64()), ("query_called", pa.int64()), ("strange", pa.float64()),
])  # fmt: skip


def _own_nearest(cases: _Cases, metric: Distance, seed: int) -> Array:
    """Return how far gallery images, a few hundred at most, lie from their nearest of another group."""
    order = sorted(range(len(cases.ids)), key=lambda row: hash_key(seed, "ordinary", cases.ids[row]))
    rows = sorted(order[:_CALIBRATING])
    apart = distances(cases.features[rows], cases.features, metric, seed=seed)
    groups = np.array(cases.groups)
    nearest = np.where(groups[rows][:, None] != groups[None], apart, np.inf).min(1)
    return np.asarray(nearest[np.isfinite(nearest)])
