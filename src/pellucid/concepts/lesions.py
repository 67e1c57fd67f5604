"""Lesions of a layer: what each class loses without a unit or a group of units, beside what their size would suggest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from scipy.stats import spearmanr
from torch import Tensor

from pellucid.attribution.perturbation.global_ablation import METRICS_OF_A_MODEL
from pellucid.errors import CannotExplain, ShapeError
from pellucid.intervals import mean_interval
from pellucid.models import Model, Passes

__all__ = ["Lesions", "unit_lesions"]


@dataclass(frozen=True, eq=False)
class Lesions:
    """What is lost without each unit.

    Attributes
    ----------
    table
        One row a lesion and class (and one for ``all`` classes): ``lesion, units``, ``target``, ``drop`` of the metric with
        ``low, high``; of the lesioned units their mean ``activation`` in images of that class, and ``selectivity``: how much
        higher it is there than elsewhere, in standard deviations.
    metric
        Of the drop.
    size_and_damage, selectivity_and_damage
        Rank correlation over units of mean activation, and of selectivity for a class, with the drop. Near 0 they say that
        neither shows which units matter.
    """

    table: pa.Table
    metric: str
    size_and_damage: float
    selectivity_and_damage: float

    def __repr__(self) -> str:
        lost = max(self.table.to_pylist(), key=lambda row: row["drop"])
        return f"Lesions({self.metric}; most lost: {lost['target']} without {lost['lesion']}, {lost['drop']:.3g})"


def unit_lesions(
    model: Model | Callable[..., Any],
    x: Tensor,
    labels: Sequence[int],
    layer: str,
    units: Mapping[str, Sequence[int]] | None = None,
    *,
    metric: str = "accuracy",
    fill: str = "zero",
    groups: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Lesions:
    """Silence units of a layer, one by one or in groups, and see which classes suffer.

    A unit alone says little where another does the same work: lesion those together that respond alike.

    Parameters
    ----------
    model
        A `Model` of a classifier, or any such ``nn.Module``.
    x, labels
        Test images ``(N, C, *S)`` and their classes.
    layer
        Dotted name; its output has units along the first axis after the rows.
    units
        Name to unit numbers that are silenced together; default: every unit alone.
    metric
        ``"accuracy"`` or ``"log_likelihood"``, which changes before the call does.
    fill
        ``"zero"``, or ``"mean"``: the unit's mean over all images, which takes away what it tells and keeps its size.
    groups
        The independent unit of each image.
    seed, batch_size
        As everywhere.

    Raises
    ------
    ShapeError
        When labels, units, metric or fill do not fit.

    References
    ----------
    Meyes et al. 2020, Under the hood of neural networks: characterizing learned representations by functional neuron
    populations and network ablations.
    """
    own, truth = Model.of(model), torch.as_tensor(labels)
    if len(truth) != len(x) or metric not in {"accuracy", "log_likelihood"} or fill not in {"zero", "mean"}:
        raise ShapeError(
            f"unit_lesions(metric={metric!r}, fill={fill!r}) on {len(x)} images with {len(truth)} labels: the metric is accuracy "
            "or log_likelihood, the fill zero or mean, and there is one label an image"
        )
    inputs = own.prepare(x)
    quality = METRICS_OF_A_MODEL[metric]
    with Passes(own, batch_size=batch_size) as passes:
        before = quality(passes.outputs(inputs).cpu(), truth)
        there = passes.outputs(inputs, layer)
        if there.ndim < 2:
            raise CannotExplain(f"layer {layer!r} gives {tuple(there.shape)}, which has no units")
        asked = _asked(units, there.shape[1], layer)
        calm = there.mean(tuple(axis for axis in range(there.ndim) if axis != 1), keepdim=True)
        lost: dict[str, Tensor] = {}
        for name, chosen in asked.items():
            placed = there.clone()
            placed[:, chosen] = 0 if fill == "zero" else calm[:, chosen].expand_as(placed[:, chosen])
            lost[name] = before - quality(passes.outputs(inputs, placed={layer: placed}).cpu(), truth)
    activation = there.flatten(2).mean(2) if there.ndim > 2 else there
    return _lesions(own, asked, lost, activation.double().cpu(), truth, metric, groups, seed)


def _asked(units: Mapping[str, Sequence[int]] | None, width: int, layer: str) -> dict[str, list[int]]:
    asked = (
        {f"unit {unit}": [unit] for unit in range(width)} if units is None else {n: list(u) for n, u in units.items()}
    )
    for name, chosen in asked.items():
        if not chosen or min(chosen) < 0 or max(chosen) >= width:
            raise ShapeError(f"the lesion {name!r} names units {chosen}; layer {layer!r} has units 0 to {width - 1}")
    return asked


def _lesions(
    model: Model, asked: Mapping[str, list[int]], lost: Mapping[str, Tensor], activation: Tensor, truth: Tensor, metric: str,
    groups: Sequence[str] | None, seed: int,
) -> Lesions:  # fmt: skip
    spread = activation.std(0).clamp_min(1e-12)
    classes = torch.unique(truth).tolist()
    rows: list[dict[str, Any]] = []
    for name, chosen in asked.items():
        for label in (None, *classes):
            members = torch.arange(len(truth)) if label is None else (truth == label).nonzero()[:, 0]
            units = None if groups is None else [groups[row] for row in members.tolist()]
            told = mean_interval(lost[name][members].numpy(), groups=units, seed=seed)
            own = activation[:, chosen]
            there = own[members].mean()
            apart = (
                (own[truth == label].mean(0) - own[truth != label].mean(0)) / spread[chosen]
                if label is not None
                else None
            )
            rows.append({
                "lesion": name, "units": len(chosen), "target": "all" if label is None else _named(model, label),
                "drop": told.value, "low": told.low, "high": told.high, "images": told.n, "activation": float(there),
                "selectivity": None if apart is None else float(apart.mean()),
            })  # fmt: skip
    overall = [row for row in rows if row["target"] == "all"]
    by_class = [row for row in rows if row["selectivity"] is not None]
    return Lesions(
        pa.Table.from_pylist(rows),
        metric,
        _ranks([row["activation"] for row in overall], [row["drop"] for row in overall]),
        _ranks([row["selectivity"] for row in by_class], [row["drop"] for row in by_class]),
    )


def _named(model: Model, label: int) -> str:
    return model.classes[label] if label < len(model.classes) else str(label)


def _ranks(left: list[float], right: list[float]) -> float:
    if len(left) < 3 or np.ptp(left) == 0 or np.ptp(right) == 0:
        return float("nan")
    return float(spearmanr(left, right).statistic)
