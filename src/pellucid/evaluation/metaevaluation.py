"""Meta-evaluation: whether a metric's scores stay put under harmless noise and react to noise that destroys the image.

The input test of Hedström et al.: every method explains the image, the image with hardly visible noise, and the image
with noise of its own size, and each is scored where it was made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from pellucid.attribution import METHODS, Method, explain
from pellucid.errors import PellucidError
from pellucid.evaluation.evaluate import evaluate
from pellucid.evaluation.metric import Metric
from pellucid.evaluation.positions import streams
from pellucid.models import Model

__all__ = ["LEAST", "Consistency", "consistency"]

LEAST = 0.4
"""Lowest consistency of a metric that is more than noise."""

HARMLESS, DESTRUCTIVE = 0.001, 1.0
"""Standard deviation of the noise, in parts of the image's own range."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Consistency:
    """What the meta-evaluation says of one metric, from 0 to 1; None where there were no scores, with the reason.

    Attributes
    ----------
    resilience
        Under harmless noise: how well the scores' distribution and the methods' ranks stay.
    reactivity
        Under destructive noise: how surely the scores move, and how often they get worse.
    """

    resilience: float | None = None
    reactivity: float | None = None
    reason: str = ""

    @property
    def value(self) -> float | None:
        """The mean of both."""
        return None if self.resilience is None or self.reactivity is None else (self.resilience + self.reactivity) / 2


def consistency(
    model: Model,
    x: Sequence[Tensor],
    metrics: Sequence[Metric],
    methods: Sequence[str | Method],
    more: Mapping[str, Any],
    *,
    seed: int = 0,
) -> dict[str, Consistency]:
    """Return what every metric, by its text, is worth on this model; all share their forwards.

    Parameters
    ----------
    model, x
        The user's model and images, one tensor an input.
    metrics, methods
        Which metrics, and the methods whose scores are watched.
    more
        Masks, regions and models, as `evaluate` takes them.
    seed
        Of the noise.
    """
    chosen = [METHODS.parse(method) for method in methods]
    images = [str(row) for row in range(len(x[0]))]
    try:
        first = [explain(model, _single(x), method, ids=images, seed=seed) for method in chosen]
    except PellucidError as error:
        return {str(metric): Consistency(reason=f"not watched on this model: {error}") for metric in metrics}
    tables = [_scored(model, x, first, metrics, more, seed)]
    for name, size in (("harmless", HARMLESS), ("destructive", DESTRUCTIVE)):
        noisy = tuple(_noisy(part, size, f"{name} {place}", seed) for place, part in enumerate(x))
        again = [explain(model, _single(noisy), method, first[0].target, ids=images, seed=seed) for method in chosen]
        tables.append(_scored(model, noisy, again, metrics, more, seed))
    return {str(metric): _compare(metric, *(table[str(metric)] for table in tables)) for metric in metrics}


def _single(x: Sequence[Tensor]) -> Tensor | tuple[Tensor, ...]:
    return x[0] if len(x) == 1 else tuple(x)


def _noisy(x: Tensor, size: float, purpose: str, seed: int) -> Tensor:
    noise = torch.randn(x.shape, generator=streams([seed], f"meta-evaluation {purpose}")[0]).to(x.device)
    flat = x.flatten(1).float()
    return x + size * noise * (flat.amax(1) - flat.amin(1)).view(-1, *[1] * (x.ndim - 1))


def _scored(
    model: Model, x: Sequence[Tensor], explanations: Sequence[Any], metrics: Sequence[Metric], more: Mapping[str, Any],
    seed: int,
) -> dict[str, Array]:  # fmt: skip
    """Return the scores (methods, images) of every metric, NaN where there is none."""
    table = evaluate(model, _single(x), explanations, metrics, seed=seed, **more).table
    values = np.array([np.nan if value is None else value for value in table["value"].to_pylist()])
    cube = values.reshape(-1, len(explanations), len(x[0]))
    return {str(metric): cube[place] for place, metric in enumerate(dict.fromkeys(metrics))}


def _compare(metric: Metric, plain: Array, harmless: Array, destroyed: Array) -> Consistency:
    """Average intra- and inter-consistency of the scores under each kind of noise."""
    known = ~(np.isnan(plain) | np.isnan(harmless) | np.isnan(destroyed))
    methods, images = known.any(1), known.any(0)
    whole = known[np.ix_(methods, images)].all(0)
    if methods.sum() < 2 or whole.sum() < 2:
        return Consistency(reason="not watched on this model: too few methods or images have a score")
    cut = [part[np.ix_(methods, images)][:, whole] for part in (plain, harmless, destroyed)]
    sign = 1.0 if metric.profile.direction == "higher" else -1.0
    grid = max(metric.profile.resolution, 1e-12)
    start, near, far = (np.round(sign * part / grid) for part in cut)
    ranks = [stats.rankdata(part, axis=0) for part in (start, near)]
    resilience = (_alike(start, near) + float((ranks[0] == ranks[1]).mean())) / 2
    reactivity = (1 - _alike(start, far) + float((start > far).mean())) / 2
    return Consistency(resilience, reactivity)


def _alike(one: Array, other: Array) -> float:
    """Return the mean over methods of the Wilcoxon test's p-value that paired scores have the same distribution."""
    return float(np.mean([_p_value(left, right) for left, right in zip(one, other, strict=True)]))


def _p_value(left: Array, right: Array) -> float:
    if (left == right).all():
        return 1.0
    return float(stats.wilcoxon(left, right, zero_method="zsplit", method="approx").pvalue)
