"""Shapley values of segments by the kernel regression."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, cast

import torch
from pydantic import Field

from pellucid.attribution.fills import Fill
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.perturbation.fitters import constrained_least_squares
from pellucid.attribution.perturbation.game import Game, Maps, affordable, solvable
from pellucid.attribution.perturbation.samplers import ShapleyDesign, shapley_design
from pellucid.attribution.perturbation.segmenters import Segments
from pellucid.errors import CannotExplain

__all__ = ["kernel_shap"]


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class kernel_shap(Method):
    """The fair share of each segment in f(x) − f(fill): its Shapley value, averaged over what else is hidden.

    Exact once ``samples`` reaches ``2**segments − 2``, and on additive models always; otherwise `error` holds the
    standard error. Values sum to f(x) − f(fill) in every case.

    Attributes
    ----------
    segments
        A count of superpixels, ``"pixels"``, ``"grid(6, 6)"``, ``"channels"``, or integer labels ``(*S)`` or
        ``(N, *S)`` in which every value, 0 too, is a segment.
    samples
        Forwards at most; default 1000, or 500 more than twice the segments where that is more.
    fill
        What stands in for absent segments.

    References
    ----------
    Lundberg & Lee 2017, A unified approach to interpreting model predictions.
    """

    segments: Segments = 50
    samples: Annotated[int, Field(ge=2)] | None = None
    fill: Fill = "zero"

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="perturbation",
        question="What does each region add to the score, on average over which other regions are seen?",
        complete="exact",
        cost="samples forwards",
        reference="Lundberg & Lee 2017, A unified approach to interpreting model predictions",
        warning="mixtures of image and fill are images that the model never saw; the fill shapes the values",
        mechanism="game theory",
    )

    def _budget(self, players: int) -> int:
        """Return the forwards for so many players; refuse those that cannot determine them."""
        complete: int = 2**players - 2
        asked = self.samples if self.samples is not None else max(1000, 2 * players + 500)
        budget = min(asked, complete)
        solvable(self, players, budget)
        affordable(self, budget, "use fewer samples")
        if budget < min(2 * players, complete):
            raise CannotExplain(
                f"{self}: {players} segments need at least {2 * players} samples, better {20 * players}; "
                "give more samples or fewer segments"
            )
        return budget

    def _design(self, players: int, generator: torch.Generator) -> ShapleyDesign:
        return shapley_design(players, self._budget(players), generator)

    def attribute(self, call: Call) -> Attribution:
        """Fit the Shapley values of every row."""
        game = Game.of(call, self.segments, self.fill)
        budget = max(self._budget(segmentation.players) for segmentation in game.segmentations)
        maps, effects = Maps(call, error=True), []
        empty = game.empty()
        for row, segmentation, design, answers in game.play(self._design, budget):
            fit = constrained_least_squares(cast("ShapleyDesign", design), answers, empty[row], maps.outputs[row])
            maps.put(row, segmentation.spread(fit.effects), segmentation.spread(fit.error))
            effects.append(fit.effects)
        reference = empty[:, 0] if call.output.ndim == 1 else empty
        return maps.attribution(reference_output=reference, warnings=game.warnings, details=game.details(maps, effects))
