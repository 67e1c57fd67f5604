"""Robustness: how far the map moves when the image moves a little.

The noisy copies are the same for all methods; each method explains them again with its own settings,
target and random stream, so that only the image differs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pellucid.evaluation.bench import Bench
from pellucid.evaluation.metric import METRICS, Metric, Outcome, Profile
from pellucid.evaluation.noise import ZERO, flatten, lengths_of, moves, noisy_scores
from pellucid.evaluation.statistics import NOISE

__all__ = [
    "NoiseMetric", "avg_sensitivity", "local_lipschitz", "max_sensitivity",
    "relative_input_stability", "relative_output_stability",
]  # fmt: skip

_CONTROL = "a control never looks at the model, so that it does not move says nothing"
_FLAT = "the image is constant, so noise in parts of its range is none, or the map is zero"
_QUIET = 0.1
"""Part of the typical move of the score that a copy counts as at least: one that moves nothing would be all that counts."""


@dataclass(frozen=True, kw_only=True, repr=False)
class NoiseMetric(Metric):
    """A metric of how far maps move when uniform noise is added to the image.

    Attributes
    ----------
    radius
        Largest change of a pixel as a fraction of the image's own range.
    samples
        Noisy copies an image.
    """

    radius: Annotated[float, Field(gt=0)] = 0.02
    samples: Annotated[int, Field(ge=1)] = 8

    still: ClassVar[str] = ""

    def moves(self, bench: Bench, index: int, lengths: Tensor) -> Tensor:  # noqa: ARG002  # for those that compare
        """Return what a copy's change of map is held against ``(N, samples)``: one, or how far the image moved."""
        return torch.ones_like(lengths)

    def reduce(self, ratio: Tensor) -> Tensor:
        """Return one number of the copies' ratios."""
        return ratio.amax(1)

    def score(self, bench: Bench) -> Sequence[Outcome]:
        """Explain the same noisy copies with every method and reduce how far each map moved."""
        key = ("noise", self.radius, self.samples)
        lengths = bench.once(key, lambda: lengths_of(bench, self.radius, self.samples))
        return [self._outcome(bench, index, lengths) for index in range(len(bench.explanations))]

    def _outcome(self, bench: Bench, index: int, lengths: Tensor) -> Outcome:
        if bench.control(index):
            return Outcome.missing(len(bench), _CONTROL)
        key = ("moved", self.radius, self.samples)
        moved = bench.once(key, lambda: moves(bench, self.radius, self.samples))[index]
        value = self.reduce(moved.change / self.moves(bench, index, lengths))
        value = torch.where(value.isfinite(), value, torch.nan).cpu()
        lost, constant = moved.change.isnan().any(1), (lengths == 0).any(1)
        why = _FLAT if bool(constant.any()) and moved.reason == ZERO else moved.reason
        reasons = tuple(
            "" if known else why if gone else self.still or why
            for known, gone in zip(value.isfinite().tolist(), lost.tolist(), strict=True)
        )
        return Outcome(value, reasons)


_COST = "samples explanations an image and method; the noisy copies' own forwards are shared"
_RELATIVE = "Agarwal et al. 2022, Rethinking stability for attribution-based explanations"
_FAILURE = "a map that ignores the image is perfectly robust; says nothing of being right"


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class max_sensitivity(NoiseMetric):
    """Largest change of the map, relative to its norm, over noisy copies of the image."""

    profile: ClassVar[Profile] = Profile(
        family="robustness",
        direction="lower",
        range=(0.0, torch.inf),
        measures="the map stays the same under noise that nobody would notice",
        cost=_COST,
        failure=_FAILURE,
        reference="Yeh et al. 2019, On the (in)fidelity and sensitivity of explanations, NeurIPS",
        needs=("method",),
        resolution=1e-5,
    )


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class avg_sensitivity(NoiseMetric):
    """Mean change of the map, relative to its norm, over noisy copies of the image."""

    profile: ClassVar[Profile] = max_sensitivity.profile

    def reduce(self, ratio: Tensor) -> Tensor:
        """Return their mean."""
        return ratio.mean(1)


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class local_lipschitz(NoiseMetric):
    """Largest ratio of the map's change to the image's change (Euclidean) over noisy copies.

    The map is taken at unit norm, row by row, so that methods of other scales compare; per unit of model space.
    """

    profile: ClassVar[Profile] = Profile(
        family="robustness",
        direction="lower",
        range=(0.0, torch.inf),
        measures="near images have near maps",
        cost=_COST + " and with max_sensitivity",
        failure=_FAILURE,
        reference="Alvarez-Melis and Jaakkola 2018, On the robustness of interpretability methods, WHI",
        needs=("method",),
        resolution=1e-6,
    )

    def moves(self, bench: Bench, index: int, lengths: Tensor) -> Tensor:  # noqa: ARG002  # the same for every map
        """Return the size of the noise."""
        return lengths


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class relative_input_stability(NoiseMetric):
    """Largest ratio of the map's relative change to the image's relative change over noisy copies.

    Both are changes in Euclidean size over the size of the whole, ‖φ(x′) − φ(x)‖ / ‖φ(x)‖ and ‖x′ − x‖ / ‖x‖. The
    published form divides pixel by pixel, so that one pixel near zero decides. The scales of map and image do not
    matter.
    """

    profile: ClassVar[Profile] = Profile(
        family="robustness",
        direction="lower",
        range=(0.0, torch.inf),
        measures="the map changes by no larger a part than the image does",
        cost=_COST + " and with max_sensitivity",
        failure=_FAILURE + "; the size of an image depends on where the preprocessing puts its zero",
        reference=_RELATIVE,
        needs=("method",),
        resolution=1e-5,
    )

    def moves(self, bench: Bench, index: int, lengths: Tensor) -> Tensor:  # noqa: ARG002  # the same for every map
        """Return the size of the noise in parts of the image's size."""
        return lengths / flatten(bench.inputs).square().sum(1, keepdim=True).sqrt()


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class relative_output_stability(NoiseMetric):
    """Largest ratio of the map's relative change to the relative change of the model's score over noisy copies.

    The score is that of the frozen target: |f(x′) − f(x)| / |f(x)|, whether or not the copy's prediction flips. A copy
    counts as moving the score by at least a tenth of what the copies typically (root mean square) do, so that one that
    happens to leave it alone does not decide. The scales of map and score do not matter.
    """

    still: ClassVar[str] = "noise does not move the model's score, so the map's change has nothing to be held against"

    profile: ClassVar[Profile] = Profile(
        family="robustness",
        direction="lower",
        range=(0.0, torch.inf),
        measures="the map changes by no larger a part than the model's score does",
        cost=_COST + "; 1 forward a copy for all methods",
        failure=_FAILURE
        + "; looks small where the score itself is near zero, so compare within an image; a score that hardly "
        "moves is mostly rounding",
        reference=_RELATIVE,
        needs=("method",),
        resolution=1e-3,
    )

    def moves(self, bench: Bench, index: int, lengths: Tensor) -> Tensor:
        """Return the relative moves of the score, none below a tenth of the typical one."""
        pairs = torch.arange(lengths.numel(), device=lengths.device)
        after = noisy_scores(bench, self.radius, self.samples, pairs, index).reshape(lengths.shape)
        before = bench.output(index)[:, None]
        moved = (after - before).abs()
        typical = moved.square().mean(1, keepdim=True).sqrt()
        moved = torch.maximum(moved, _QUIET * typical) / before.abs()
        largest = torch.maximum(after.abs().amax(1, keepdim=True), before.abs())
        return moved.where(typical > NOISE * largest, torch.nan)
