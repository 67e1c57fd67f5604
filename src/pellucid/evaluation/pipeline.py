"""The choices between a raw map and its score, each a factor: what they are, and scores of the same maps under every one.

Raw maps are read, never made anew: another pooling, sign, scale or alignment is another reading of the same values. One
choice changes at a time, the others stay at the first level named, which is the reference.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pellucid.attribution import Explanation
from pellucid.attribution.combine import combine
from pellucid.attribution.method import row_seeds
from pellucid.errors import BadRecipe, CannotExplain
from pellucid.evaluation.evaluate import evaluate
from pellucid.evaluation.metric import METRICS
from pellucid.evaluation.positions import orders
from pellucid.evaluation.ranking import CONTROLS
from pellucid.evaluation.scores import SCHEMA
from pellucid.models import Model

__all__ = ["CHOICES", "CONSENSUS", "FACTORS", "ORDER", "Pipeline", "Reading", "Rescored", "readable", "rescore"]

FACTORS = ("pool", "sign", "normalise", "align")
"""What is done to one map, in this order."""

CHOICES = pa.schema([*SCHEMA, *(pa.field(name, pa.string(), nullable=False) for name in (*FACTORS, "aggregate"))])
"""Columns of `rescore`: those of scores and one a choice; ``aggregate`` is "" for a single method's map."""

CONSENSUS = "consensus"
"""Name of the mean of all methods' maps among the methods."""

ORDER = frozenset({
    "deletion", "impact_coverage", "impact_score", "insertion", "localisation_auc", "mask_iou", "monotonicity",
    "pixel_flipping", "pointing_game", "prediction_gap", "relevance_rank", "road", "sufficiency", "top_k_intersection",
})  # fmt: skip
"""Metrics that read nothing of a map but the order of its positions, so that equal orders are scored once."""

Pool = Literal["mean", "max", "max_abs", "sum", "l2"]
Sign = Literal["signed", "positive", "absolute", "negative"]
Normalise = Literal["map_max", "data_max", "map_p99", "data_p99", "none"]
Align = Literal["rank", "quantile", "zscore", "none"]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One way from a raw map to the map that is scored.

    Attributes
    ----------
    pool, sign, normalise, align
        Levels of the steps of these names, in this order.
    """

    pool: Pool = "sum"
    sign: Sign = "signed"
    normalise: Normalise = "none"
    align: Align = "none"

    def pooled(self, maps: Tensor, shape: Sequence[int]) -> Tensor:
        """Return maps ``(N, 1, *S)`` pooled, on the grid of the images, of the chosen sign."""
        coarse = tuple(maps.shape[2:]) != tuple(shape)
        sizes = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        steps = [f'pool_channels(how="{self.pool}")', *[f"upsample(shape=({sizes}))"] * coarse,
                 f'keep_sign(how="{self.sign}")']  # fmt: skip
        return combine(maps, steps).values

    def scale(self, maps: Tensor, shape: Sequence[int]) -> float:
        """Return the largest magnitude, or the 99th percentile, over all given maps: what ``"data_..."`` divides by."""
        sizes = self.pooled(maps, shape).abs().double().numpy()
        return float(sizes.max() if self.normalise == "data_max" else np.percentile(sizes, 99))

    def read(self, maps: Tensor, shape: Sequence[int], scale: float = 0.0) -> Tensor:
        """Return maps ``(N, 1, *S)`` after all steps; `scale` is that of the data set, for ``"data_..."``.

        Raises
        ------
        CannotExplain
            When a scale is zero, or an alignment has nothing to align.
        """
        pooled = self.pooled(maps, shape)
        if not self.normalise.startswith("data"):
            return combine(pooled, [f'normalise(how="{self.normalise}")', f'align(how="{self.align}")']).values
        if not scale > 0:
            raise CannotExplain(f"{self.normalise} is zero after {self.pool} pooling ({self.sign}), so it is no scale")
        return combine(pooled / scale, [f'align(how="{self.align}")']).values


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The levels of every choice; the first of each is the reference.

    Attributes
    ----------
    pool, sign, normalise, align
        Levels of the steps of these names.
    aggregate
        How maps of several methods are brought to one scale before their mean, levels of `align` or `normalise`; each is
        a consensus map that is scored as a method of its own.
    """

    pool: tuple[Pool, ...] = ("sum",)
    sign: tuple[Sign, ...] = ("signed",)
    normalise: tuple[Normalise, ...] = ("none",)
    align: tuple[Align, ...] = ("none",)
    aggregate: tuple[Align | Normalise, ...] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            levels = getattr(self, field.name)
            if len(set(levels)) != len(levels) or (not levels and field.name != "aggregate"):
                raise BadRecipe(f"{field.name} = {list(levels)} must name at least one level, each once")

    @property
    def reference(self) -> Reading:
        """The first level of every choice."""
        return Reading(**{name: getattr(self, name)[0] for name in FACTORS})

    @property
    def readings(self) -> tuple[Reading, ...]:
        """The reference, and every other level of one choice with the others at the reference."""
        first = self.reference
        others = [replace(first, **{name: level}) for name in FACTORS for level in getattr(self, name)[1:]]
        return (first, *others)

    def aligned(self, level: str) -> Reading:
        """Return the reading of each single map that goes into the consensus of a level."""
        align = level in {"rank", "quantile", "zscore"}
        other: dict[str, Any] = (
            {"align": level, "normalise": "none"} if align else {"normalise": level, "align": "none"}
        )
        return replace(self.reference, **other)

    @property
    def scaled(self) -> tuple[Reading, ...]:
        """The readings that need a scale of the whole data set."""
        every = dict.fromkeys((*self.readings, *map(self.aligned, self.aggregate)))
        return tuple(reading for reading in every if reading.normalise.startswith("data"))


@dataclass(frozen=True, eq=False)
class Rescored:
    """Scores of the same raw maps under every choice.

    Attributes
    ----------
    table
        Columns of `CHOICES`.
    refused
        One sentence for each map that a choice makes impossible.
    forwards
        Rows that went through the model.
    """

    table: pa.Table
    refused: tuple[str, ...]
    forwards: int


def readable(metric: str) -> bool:
    """Say whether a metric can score a map that was read otherwise: it explains nothing anew and needs no other map."""
    profile = METRICS.parse(metric).profile
    return not {"method", "models", "weights"} & set(profile.needs) and profile.family not in {"axiom", "agreement"}


Scales = Mapping[tuple[str, Reading], float]
_Key = tuple[str, str, Reading]


def rescore(
    model: Model,
    x: Tensor,
    maps: Mapping[str, Tensor],
    pipeline: Pipeline,
    metrics: Sequence[str],
    masks: Any = None,
    *,
    target: Any = None,
    scales: Scales | None = None,
    ids: Sequence[str],
    groups: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Rescored:
    """Score the same raw maps under every choice; all share the forwards that depend on no map.

    Parameters
    ----------
    model
        The explained model.
    x
        The images ``(N, C, *S)``.
    maps
        Method to raw maps ``(N, C, *S)``, or of a layer's shape; finite.
    pipeline
        The choices.
    metrics
        Texts; those that are not `readable` are left out.
    masks, target, ids, groups, seed, batch_size
        As `evaluate` and `explain` take them.
    scales
        Scale of the data set by method and reading, for those of ``pipeline.scaled``; default: that of these maps.

    Returns
    -------
    Rescored
        One row an image, method, choice and metric.
    """
    shape, known = tuple(x.shape[2:]), dict(scales or {})
    if scales is None:
        known = {
            (name, reading): reading.scale(values, shape)
            for name, values in maps.items()
            for reading in pipeline.scaled
        }
    read, refused = _readings(maps, pipeline, shape, known)
    like = Explanation.from_values(x, model, x, target=target, name="pixels", ids=ids)
    keys = {f"map {place}": key for place, key in enumerate(read)}
    given = {
        f"map {place}": replace(like, values=values, method=f"map {place}")
        for place, values in enumerate(read.values())
    }
    usable = [metric for metric in metrics if readable(metric)]
    tables, forwards = [], like.forwards
    for by_order in (True, False):
        own = [metric for metric in usable if (METRICS.parse(metric).name in ORDER) == by_order]
        same = _same(given, row_seeds(seed, ids, len(x)), by_order=by_order)
        if own:
            unique = [given[name] for name in dict.fromkeys(same.values())]
            scores = evaluate(model, x, unique, own, masks, ids=ids, groups=groups, seed=seed, batch_size=batch_size)
            tables.append(_spread(scores.table, same, keys))
            forwards += scores.forwards
    return Rescored(pa.concat_tables([CHOICES.empty_table(), *tables]), tuple(refused), forwards)


def _readings(
    maps: Mapping[str, Tensor], pipeline: Pipeline, shape: Sequence[int], scales: Scales
) -> tuple[dict[_Key, Tensor], list[str]]:
    """Return every map by method, aggregate and reading, and why some are not there."""
    read: dict[_Key, Tensor] = {}
    refused: list[str] = []
    real = [name for name in maps if name not in CONTROLS]

    def one(name: str, reading: Reading) -> Tensor:
        return reading.read(maps[name], shape, scales.get((name, reading), 0.0))

    for reading in pipeline.readings:
        for name in maps:
            try:
                read[name, "", reading] = one(name, reading)
            except CannotExplain as error:
                refused.append(f"{name}: {error}")
    for level in pipeline.aggregate if len(real) > 1 else ():
        try:
            merged = combine([one(name, pipeline.aligned(level)) for name in real], ["aggregate"])
            read[CONSENSUS, level, pipeline.reference] = merged.values
        except CannotExplain as error:
            refused.append(f"{CONSENSUS} ({level}): {error}")
    return read, refused


def _same(given: Mapping[str, Explanation], seeds: Sequence[int], *, by_order: bool) -> dict[str, str]:
    """Return for every map the first one that no metric can tell from it: of equal order, or equal up to its scale."""
    first: dict[Hashable, str] = {}
    found = {}
    for name, explanation in given.items():
        flat = explanation.tensors[0].flatten(1)
        size = flat.abs().amax(1, keepdim=True)
        told = orders(flat, seeds) if by_order else flat.double() / torch.where(size > 0, size, 1)
        kept = told if by_order else told.mul(1e6).round()
        found[name] = first.setdefault(kept.numpy().tobytes(), name)
    return found


def _spread(table: pa.Table, same: Mapping[str, str], keys: Mapping[str, _Key]) -> pa.Table:
    """Give every map the scores of its like, with its method and choices beside them."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        rows.setdefault(row["method"], []).append(row)
    told = []
    for name, (method, aggregate, reading) in keys.items():
        which = {factor: getattr(reading, factor) for factor in FACTORS} | {"aggregate": aggregate}
        steps = "; ".join(f"{factor}={level}" for factor, level in which.items() if level)
        own = {"method": method, "control": method in CONTROLS, "step": steps} | which
        told += [row | own for row in rows[same[name]]]
    return pa.Table.from_pylist(told, schema=CHOICES)
