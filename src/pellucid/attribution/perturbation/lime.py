"""LIME: a local linear surrogate over segments."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor

from pellucid.attribution.fills import Fill
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.perturbation.fitters import Fit, weighted_ridge
from pellucid.attribution.perturbation.game import Game, Maps, affordable, solvable
from pellucid.attribution.perturbation.render import Coalitions
from pellucid.attribution.perturbation.samplers import Design, bernoulli
from pellucid.attribution.perturbation.segmenters import Segmentation, Segments, players
from pellucid.attribution.perturbation.spread import spread_of
from pellucid.attribution.perturbation.stopping import PILOT, Rule, Tolerance, in_rounds
from pellucid.models import Inputs

__all__ = ["lime", "proximity"]

GOOD = 0.5
"""R² below which a surrogate is called poor."""

ENOUGH = 10
"""Samples a segment below which weights are called noisy."""


def proximity(masks: Tensor, kernel_width: float) -> Tensor:
    """Return exp(−d² / 2w²) with d the cosine distance of a coalition from the full one, 1 for the empty one."""
    share = masks.double().mean(1)
    return torch.exp(-((1 - share.sqrt()) ** 2) / (2 * kernel_width**2))


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class lime(Method):
    """The weights of the regions in a simple linear stand-in for the model round this image.

    Segments are kept with probability a half; images are weighted by how much of the image they keep (cosine distance
    of coalitions, not of pixels, so that resolution does not matter); the stand-in is a ridge regression. Its weighted
    R² is in ``details["r2"]``: a low one means that the weights do not describe the model.

    Another segmentation or another seed can give another map. So by default two other segmentations of about as many
    segments (of superpixels, watershed and regular cells those that were not asked for) are fitted too, from half as
    many samples each, which doubles the forwards. In each, five independent draws are told apart, and each is
    predicted from the other four: ``details["r2_spread"]`` ``(spread, 5)`` an image holds these R² of unseen
    coalitions, the segmentation asked for first; ``details["agreement"]`` ``(spread,)`` the correlation over pixels of
    each segmentation's map with the first. Where segments are no regions (channels, single pixels) the others stay
    NaN.

    Attributes
    ----------
    segments
        A count of superpixels; a name such as ``"slic(50)"``, ``"watershed(50)"``, ``"grid(6, 6)"``, ``"pixels"``,
        ``"channels"`` or ``"channels(slic(50))"`` (all: `segment`); or integer labels ``(*S)`` or ``(N, *S)``, in which
        every value is a segment, 0 too, unless they come as ``Labels(labels, background=0)``.
    samples
        Forwards at most; equal coalitions are sent once.
    fill
        What stands in for absent segments.
    kernel_width
        Width of the proximity kernel in cosine distance.
    ridge
        Penalty on the weights; the published implementation's 1 shrinks them by about one per cent at 1000 samples.
    spread
        Segmentations over which R² is spread, the one asked for included; 1 costs no forwards, 0 leaves it out.
    tolerance
        Stop a row when its largest standard error is below this part of |f(x) − f(fill)|; None draws all samples.

    References
    ----------
    Ribeiro et al. 2016, "Why should I trust you?": explaining the predictions of any classifier.
    """

    segments: Segments = 50
    samples: Annotated[int, Field(ge=2)] = 1000
    fill: Fill = "zero"
    kernel_width: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.25
    ridge: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.01

    spread: Annotated[int, Field(ge=0, le=3)] = 3
    tolerance: Tolerance | None = None

    shares_forwards: ClassVar[bool] = True
    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="perturbation",
        question="Which regions would a simple linear rule, true near this image, lean on?",
        cost="samples forwards, half as many more for each further segmentation",
        reference='Ribeiro et al. 2016, "Why should I trust you?": explaining the predictions of any classifier',
        warning="two segmentations of one image can give two different explanations",
        mechanism="surrogate",
    )

    def planned_forwards(self, inputs: Inputs) -> int:
        """Return the samples, with those of the other segmentations, or all coalitions where those are fewer."""
        every: int = 2 ** players(self.segments, inputs)
        others = max(0, self.spread - 1) * min(self.samples // 2, every)
        return min(self.samples, every) + others + (self.tolerance is not None)

    def attribute(self, call: Call) -> Attribution:
        """Fit the surrogate of every row."""
        game = Game.of(call, self.segments, self.fill)
        solvable(self, call, game.most, max(self.samples, ENOUGH * game.most))
        affordable(self, call, self.samples, "use fewer samples")
        maps, generators = Maps(call, error=True), call.generators()
        empty = game.empty() if self.tolerance is not None else torch.zeros_like(maps.outputs)
        rule = Rule(self.samples, self.tolerance, ENOUGH * PILOT)
        rows = [
            _Row(number, segmentation, generator, self, rule, maps.outputs[number] - empty[number])
            for number, (segmentation, generator) in enumerate(zip(game.segmentations, generators, strict=True))
        ]
        in_rounds(call, game.fills, rows, "hiding segments")
        fits = [row.fit() for row in rows]
        for row, fit in zip(rows, fits, strict=True):
            maps.put(row.number, row.segmentation.spread(fit.effects), row.segmentation.spread(fit.error))
        r2 = torch.stack([cast("Tensor", fit.r2) for fit in fits]).float()
        details = {
            **game.details(maps, [fit.effects for fit in fits]),
            "r2": maps.detail(r2),
            "samples": torch.tensor([int(cast("Design", row.design).counts.sum()) for row in rows]),
        }
        short = torch.stack([rule.excess(fit.error, row.difference) > 1 for row, fit in zip(rows, fits, strict=True)])
        warnings = [
            *game.warnings,
            *maps.doubts(short, lambda count: rule.missed(count, len(rows), f"{self.samples:,} samples")),
            *maps.doubts(r2 < GOOD, lambda count: _poor(count, len(rows))),
            *self._few(game.most),
        ]
        if self.spread:
            spread = spread_of(game, maps, rows, fits, self)
            details |= spread.details
            warnings += spread.warnings
        return maps.attribution(warnings=tuple(warnings), details=details)

    def weights(self, masks: Tensor) -> Tensor:
        """Return how near each coalition is to the whole image."""
        return proximity(masks, self.kernel_width)

    def fit(self, design: Design, answers: Tensor) -> Fit:
        """Return the surrogate of these coalitions."""
        return weighted_ridge(design, self.weights(design.masks), answers, self.ridge)

    def _few(self, most: int) -> list[str]:
        if self.samples >= ENOUGH * most or self.samples >= 2 ** min(most, 62):
            return []
        return [
            f"{self.samples} samples are few for {most} segments; the weights are noisy below about {ENOUGH * most}"
        ]


def _poor(count: int, rows: int) -> str:
    return f"the linear surrogate explains less than {GOOD:.0%} of the variance (R²) in {count} of {rows} images"


@dataclass(eq=False)
class _Row:
    """One row's coalitions so far with their answers."""

    number: int
    segmentation: Segmentation
    generator: torch.Generator
    method: lime
    rule: Rule
    difference: Tensor
    design: Design | None = None
    answers: Tensor | None = None

    def __post_init__(self) -> None:
        self.pending = self.rule.first()

    @property
    def forwards(self) -> int:
        return self.pending

    def plan(self) -> Coalitions:
        known = 0 if self.design is None else len(self.design)
        self.design = bernoulli(self.segmentation.players, self.pending, self.generator, self.design)
        new = Design(self.design.masks[known:], self.design.counts[:, known:])
        return Coalitions(self.number, self.segmentation, new)

    def learn(self, _plan: Coalitions, answers: Tensor) -> None:
        self.answers = answers if self.answers is None else torch.cat([self.answers, answers])
        drawn = int(cast("Design", self.design).counts.sum())
        self.pending = self.rule.more(drawn, self.fit().error, self.difference) if self.rule.tolerance else 0

    def fit(self) -> Fit:
        return self.method.fit(cast("Design", self.design), cast("Tensor", self.answers))
