"""The curves behind robustness to natural changes: maps and the model's own answer, over the strength of each change."""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from pellucid.attribution import Explanation
from pellucid.errors import ShapeError
from pellucid.evaluation.augmentation import augmentation_robustness, steadiness
from pellucid.evaluation.bench import Bench
from pellucid.evaluation.transforms import TRANSFORMS
from pellucid.intervals import mean_interval
from pellucid.models import Model, Passes

__all__ = ["CURVES", "augmentation_curves"]

MODEL = ""
"""In the place of a method: the model's own answer."""

CURVES = pa.schema(
    [
        pa.field("transform", pa.string(), nullable=False),
        pa.field("strength", pa.float64(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("n", pa.int64(), nullable=False),
    ]
)
"""One line a change, strength and method: similarity of its maps before and after; method "" is the model's steadiness."""


def augmentation_curves(
    model: Model | Callable[..., Any],
    x: Tensor,
    explanations: Sequence[Explanation],
    metric: augmentation_robustness | None = None,
    *,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> pa.Table:
    """Say how the maps of some methods, and the model's answer, keep up with changes of light, colour and pose.

    Unlike the score, the curves go on where the model gives way: the reader sees both fall.

    Parameters
    ----------
    model, x, explanations, ids, seed, batch_size
        As `evaluate` takes them.
    metric
        Which changes, how many steps, how strong and which similarity; default: the metric's own.

    Returns
    -------
    pyarrow.Table
        Columns of `CURVES`; strength 0, where all is 1, is left out.

    Raises
    ------
    ShapeError
        When no change fits these images.

    References
    ----------
    Tětková and Hansen 2023, Robustness of visual explanations to common data augmentation, CVPRW.
    """
    asked, model = metric or augmentation_robustness(), Model.of(model)
    inputs = model.prepare(x)
    fitting = [name for name in asked.transforms if len(inputs) == 1 and TRANSFORMS[name].fits(inputs[0])]
    if not fitting:
        raise ShapeError(
            f"{', '.join(asked.transforms)} cannot be done to images of shape {tuple(x.shape[1:])} (C, *S)"
        )
    with Passes(model, batch_size=batch_size) as passes:
        bench = Bench(passes, inputs, explanations, ids=ids, seed=seed)
        lines = [
            line for name in fitting for strength in _strengths(asked) for line in _point(bench, asked, name, strength)
        ]
    return pa.Table.from_pylist(lines, schema=CURVES)


def _strengths(asked: augmentation_robustness) -> list[float]:
    return [asked.strength * step / asked.steps for step in range(-asked.steps, asked.steps + 1) if step]


def _point(bench: Bench, asked: augmentation_robustness, name: str, strength: float) -> list[dict[str, Any]]:
    rows = torch.arange(len(bench))
    told = {MODEL: steadiness(bench, 0, name, strength)}
    for index, explanation in enumerate(bench.explanations):
        if not bench.maps[index].reason:
            told[explanation.name] = asked.alike(bench, index, name, strength, rows)[0]
    return [
        {"transform": name, "strength": strength, "method": method} | summary
        for method, values in told.items() if (summary := _summary(values))
    ]  # fmt: skip


def _summary(values: Tensor) -> dict[str, Any]:
    known = values[values.isfinite()].numpy()
    if not len(known):
        return {}
    found = mean_interval(known)
    bounds = (found.low, found.high) if found.groups > 1 else (None, None)
    return {"value": found.value, "low": bounds[0], "high": bounds[1], "n": found.n}
