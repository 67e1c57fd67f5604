"""Many models of one task: which are as accurate, and whether those decide for the same reasons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from pellucid.attribution import Method, explain
from pellucid.attribution.scaling import resized
from pellucid.errors import ShapeError
from pellucid.evaluation import equally_accurate
from pellucid.evaluation.statistics import spearman
from pellucid.intervals import mean_interval, share_interval
from pellucid.models import Model, Passes
from pellucid.models.predict import calibrated_logits

__all__ = ["ModelSuite", "compare_suite"]

ALIKE = 0.5
"""Rank correlation of maps, by the interval's upper end, below which two models decide for different reasons."""


@dataclass(frozen=True, eq=False)
class ModelSuite:
    """Models side by side.

    Attributes
    ----------
    models
        One row a model: ``model, accuracy, low, high, images``.
    pairs
        One row a pair: ``first, second``; ``agreement``: mean rank correlation of their maps of the same images with ``low,
        high``; ``same_call``: share of images that both call alike; ``difference`` of their accuracies with bounds; ``equal``:
        as accurate as far as these images tell; ``other_reasons``: as accurate, and their maps surely differ.
    method
        That explained them.
    """

    models: pa.Table
    pairs: pa.Table
    method: str

    @property
    def other_reasons(self) -> list[tuple[str, str]]:
        """Pairs of models that are as accurate and decide for different reasons."""
        return [(row["first"], row["second"]) for row in self.pairs.to_pylist() if row["other_reasons"]]

    def distances(self) -> tuple[tuple[str, ...], Tensor]:
        """Return the models and ``(M, M)`` how far their explanations lie apart: 1 less the rank correlation."""
        names = tuple(self.models["model"].to_pylist())
        apart = torch.zeros(len(names), len(names), dtype=torch.float64)
        for row in self.pairs.to_pylist():
            first, second = names.index(row["first"]), names.index(row["second"])
            apart[first, second] = apart[second, first] = 1 - row["agreement"]
        return names, apart


def compare_suite(
    models: Mapping[str, Model],
    x: Tensor,
    labels: Sequence[int],
    method: str | Method = "integrated_gradients(steps=16)",
    *,
    ids: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> ModelSuite:
    """Explain the same images by every model and hold the maps against each other at equal accuracy.

    Every model is asked for the true class, so that maps answer the same question whatever it called.

    Parameters
    ----------
    models
        Name to model, two or more.
    x, labels
        Test images ``(N, C, *S)`` and their classes.
    method
        Any method of `pellucid.explain`.
    ids, groups
        Names of the images, and the independent unit of each.
    seed, batch_size
        As for `pellucid.explain`.

    Raises
    ------
    ShapeError
        When there are fewer than two models, or labels do not fit.

    References
    ----------
    Young et al. 2019, Deep neural network or dermatologist?; Rudin 2019, on many models of equal accuracy.
    """
    if len(models) < 2 or len(labels) != len(x):
        raise ShapeError(
            f"compare_suite takes two models or more and one label an image, not {len(models)} and {len(labels)}"
        )
    truth = torch.as_tensor(labels)
    called = {name: _called(model, x, batch_size) for name, model in models.items()}
    maps = {name: _maps(model, x, truth, method, ids, seed, batch_size) for name, model in models.items()}
    rows = [_model_row(name, (own == truth).tolist(), groups, seed) for name, own in called.items()]
    pairs = [
        _pair_row((one, two), (maps[one], maps[two]), (called[one], called[two]), truth, groups, seed)
        for one, two in combinations(models, 2)
    ]
    return ModelSuite(pa.Table.from_pylist(rows), pa.Table.from_pylist(pairs), str(method))


def _called(model: Model, x: Tensor, batch_size: int | None) -> Tensor:
    with Passes(model, batch_size=batch_size) as passes:
        return calibrated_logits(passes, x).argmax(1)


def _maps(
    model: Model,
    x: Tensor,
    labels: Tensor,
    method: str | Method,
    ids: Sequence[str] | None,
    seed: int,
    batch_size: int | None,
) -> Tensor:
    found = explain(model, x, method, labels.tolist(), ids=ids, seed=seed, batch_size=batch_size).values
    if not isinstance(found, Tensor) or found.ndim != x.ndim:
        raise ShapeError(f"{method} gives no map over the image to compare")
    return resized(found.double().sum(1, keepdim=True).cpu(), tuple(x.shape[2:])).flatten(1)


def _model_row(name: str, right: list[bool], groups: Sequence[str] | None, seed: int) -> dict[str, Any]:
    told = share_interval(sum(right), len(right)) if groups is None else mean_interval(
        right, groups=groups, bounds=(0.0, 1.0), seed=seed
    )  # fmt: skip
    return {"model": name, "accuracy": told.value, "low": told.low, "high": told.high, "images": told.n}


def _pair_row(
    names: tuple[str, str], maps: tuple[Tensor, Tensor], called: tuple[Tensor, Tensor], truth: Tensor,
    groups: Sequence[str] | None, seed: int,
) -> dict[str, Any]:  # fmt: skip
    agreed = spearman(*maps)
    known = agreed.isfinite()
    units = None if groups is None else [group for group, kept in zip(groups, known.tolist(), strict=True) if kept]
    told = mean_interval(agreed[known].numpy(), groups=units, bounds=(-1.0, 1.0), seed=seed)
    difference, equal = equally_accurate(
        (called[0] == truth).tolist(), (called[1] == truth).tolist(), groups=groups, seed=seed
    )
    return {
        "first": names[0], "second": names[1], "agreement": told.value, "low": told.low, "high": told.high,
        "same_call": float((called[0] == called[1]).double().mean()), "difference": difference.value,
        "difference_low": difference.low, "difference_high": difference.high, "equal": equal,
        "other_reasons": bool(equal and told.high < ALIKE), "images": told.n,
    }  # fmt: skip
