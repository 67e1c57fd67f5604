"""LIME: a local linear surrogate over segments."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor

from pellucid.attribution.fills import Fill
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.perturbation.fitters import weighted_ridge
from pellucid.attribution.perturbation.game import Game, Maps, affordable, solvable
from pellucid.attribution.perturbation.samplers import Design, bernoulli
from pellucid.attribution.perturbation.segmenters import Segments

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

    Attributes
    ----------
    segments
        A count of superpixels, ``"pixels"``, ``"grid(6, 6)"``, ``"channels"``, or integer labels ``(*S)`` or
        ``(N, *S)`` in which every value, 0 too, is a segment.
    samples
        Forwards at most; equal coalitions are sent once.
    fill
        What stands in for absent segments.
    kernel_width
        Width of the proximity kernel in cosine distance.
    ridge
        Penalty on the weights; the published implementation's 1 shrinks them by about one per cent at 1000 samples.

    References
    ----------
    Ribeiro et al. 2016, "Why should I trust you?": explaining the predictions of any classifier.
    """

    segments: Segments = 50
    samples: Annotated[int, Field(ge=2)] = 1000
    fill: Fill = "zero"
    kernel_width: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.25
    ridge: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.01

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="perturbation",
        question="Which regions would a simple linear rule, true near this image, lean on?",
        cost="samples forwards",
        reference='Ribeiro et al. 2016, "Why should I trust you?": explaining the predictions of any classifier',
        warning="two segmentations of one image can give two different explanations",
        mechanism="surrogate",
    )

    def attribute(self, call: Call) -> Attribution:
        """Fit the surrogate of every row."""
        game = Game.of(call, self.segments, self.fill)
        solvable(self, game.most, max(self.samples, ENOUGH * game.most))
        affordable(self, self.samples, "use fewer samples")
        maps, effects, r2 = Maps(call, error=True), [], []
        for row, segmentation, design, answers in game.play(self._design, self.samples):
            drawn = cast("Design", design)
            fit = weighted_ridge(drawn, proximity(drawn.masks, self.kernel_width), answers, self.ridge)
            maps.put(row, segmentation.spread(fit.effects), segmentation.spread(fit.error))
            effects.append(fit.effects)
            r2.append(cast("Tensor", fit.r2))
        fitted = torch.stack(r2).float()
        details = {**game.details(maps, effects), "r2": maps.single(fitted)}
        return maps.attribution(warnings=(*game.warnings, *self._doubts(game.most, fitted)), details=details)

    def _design(self, players: int, generator: torch.Generator) -> Design:
        return bernoulli(players, self.samples, generator)

    def _doubts(self, players: int, r2: Tensor) -> list[str]:
        doubts = []
        poor = int((r2 < GOOD).any(1).sum())
        if poor:
            doubts.append(
                f"the linear surrogate explains less than {GOOD:.0%} of the variance (R²) in {poor} of {len(r2)} images"
            )
        if self.samples < ENOUGH * players and self.samples < 2 ** min(players, 62):
            doubts.append(
                f"{self.samples} samples are few for {players} segments; the weights are noisy below about {ENOUGH * players}"
            )
        return doubts
