"""Shapley values of segments by the kernel regression."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, cast

import torch
from pydantic import Field
from scipy.stats import t as student
from torch import Tensor

from pellucid.attribution.fills import Fill
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.perturbation.fitters import Fit, constrained_least_squares
from pellucid.attribution.perturbation.game import Game, Maps, affordable, padded, solvable
from pellucid.attribution.perturbation.render import Coalitions
from pellucid.attribution.perturbation.samplers import Design, ShapleyDesign, shapley_design, with_more_pairs
from pellucid.attribution.perturbation.segmenters import Segmentation, Segments, players
from pellucid.attribution.perturbation.stopping import PILOT, Rule, Tolerance, in_rounds
from pellucid.errors import CannotExplain
from pellucid.models import Inputs

__all__ = ["kernel_shap"]


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class kernel_shap(Method):
    """The fair share of each segment in f(x) − f(fill): its Shapley value, averaged over what else is hidden.

    Exact once ``samples`` reaches ``2**segments − 2``, and on additive models always; otherwise `error` holds the
    standard error and ``details["margin"]`` half the width of the 95 % interval of each segment.
    ``details["samples"]`` says how many coalitions each row saw. Values sum to f(x) − f(fill) in every case.

    Attributes
    ----------
    segments
        A count of superpixels; a name such as ``"slic(50)"``, ``"watershed(50)"``, ``"grid(6, 6)"``, ``"pixels"``,
        ``"channels"`` or ``"channels(slic(50))"`` (all: `segment`); or integer labels ``(*S)`` or ``(N, *S)``, in which
        every value is a segment, 0 too, unless they come as ``Labels(labels, background=0)``.
    samples
        Forwards at most; default 1024 (every coalition of 10 segments), or 500 more than
        twice the segments where that is more.
    fill
        What stands in for absent segments.
    tolerance
        Stop a row when its largest standard error is below this part of |f(x) − f(fill)|; None draws all samples.

    References
    ----------
    Lundberg & Lee 2017, A unified approach to interpreting model predictions.
    """

    segments: Segments = 50
    samples: Annotated[int, Field(ge=2)] | None = None
    fill: Fill = "zero"
    tolerance: Tolerance | None = None

    shares_forwards: ClassVar[bool] = True
    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="perturbation",
        question="What does each region add to the score, on average over which other regions are seen?",
        complete="exact",
        cost="samples forwards",
        reference="Lundberg & Lee 2017, A unified approach to interpreting model predictions",
        warning="mixtures of image and fill are images that the model never saw; the fill shapes the values",
        mechanism="game theory",
    )

    def _asked(self, players: int) -> int:
        asked = self.samples if self.samples is not None else max(1024, 2 * players + 500)
        return int(min(asked, 2**players - 2))

    def _refuse(self, call: Call, players: int) -> None:
        """Refuse what would never end, and samples that cannot determine so many players."""
        budget = self._asked(players)
        solvable(self, call, players, budget)
        affordable(self, call, budget, "use fewer samples")
        if budget < min(2 * players, 2**players - 2):
            raise CannotExplain(
                f"{self}: {players} segments need at least {2 * players} samples, better {20 * players}; "
                "give more samples or fewer segments"
            )

    def planned_forwards(self, inputs: Inputs) -> int:
        """Return the samples, or all coalitions where those are fewer."""
        return 1 + self._asked(players(self.segments, inputs))

    def attribute(self, call: Call) -> Attribution:
        """Fit the Shapley values of every row."""
        game = Game.of(call, self.segments, self.fill)
        for count in {segmentation.players for segmentation in game.segmentations}:
            self._refuse(call, count)
        maps, empty = Maps(call, error=True), game.empty()
        ends = zip(empty, maps.outputs, strict=True)
        rows = [
            _Row(number, segmentation, own, generator, self._asked(segmentation.players), self.tolerance)
            for number, (segmentation, own, generator) in enumerate(
                zip(game.segmentations, ends, call.generators(), strict=True)
            )
        ]
        in_rounds(call, game.fills, rows, "hiding segments")
        return self._collected(game, maps, empty, rows)

    def _collected(self, game: Game, maps: Maps, empty: Tensor, rows: "list[_Row]") -> Attribution:
        fits = [row.fit() for row in rows]
        for row, fit in zip(rows, fits, strict=True):
            maps.put(row.number, row.segmentation.spread(fit.effects), row.segmentation.spread(fit.error))
        details = {
            **game.details(maps, [fit.effects for fit in fits]),
            "margin": padded(maps, [row.margin(fit) for row, fit in zip(rows, fits, strict=True)]),
            "samples": torch.tensor([len(cast("ShapleyDesign", row.design)) for row in rows]),
        }
        short = torch.stack(
            [row.rule.excess(fit.error, row.difference) > 1 for row, fit in zip(rows, fits, strict=True)]
        )
        missed = maps.doubts(
            short, lambda count: rows[0].rule.missed(count, len(rows), f"{max(row.budget for row in rows):,} samples")
        )
        return maps.attribution(
            reference_output=maps.single(empty), warnings=(*game.warnings, *missed), details=details
        )


@dataclass(eq=False)
class _Row:
    """One row's coalitions so far with their answers; `pending` counts pairs of coalitions, drawn or enumerated."""

    number: int
    segmentation: Segmentation
    ends: tuple[Tensor, Tensor]
    generator: torch.Generator
    budget: int
    tolerance: float | None
    design: ShapleyDesign | None = None
    answers: Tensor | None = None

    def __post_init__(self) -> None:
        self.rule = Rule(max(1, self.budget // 2), self.tolerance, PILOT + 2 * self.segmentation.players)
        self.pending = self.rule.first()

    @property
    def difference(self) -> Tensor:
        return self.ends[1] - self.ends[0]

    @property
    def forwards(self) -> int:
        return 2 * self.pending

    @property
    def _fresh(self) -> bool:
        """Whether the next plan starts anew: at first, and where all coalitions can be had."""
        return self.design is None or self._drawn + 2 * self.pending >= 2**self.segmentation.players - 2

    @property
    def _drawn(self) -> int:
        design = cast("ShapleyDesign", self.design)
        return len(design) + 2 * (int(design.draws.sum()) - len(design.draws))

    def plan(self) -> Coalitions:
        players = self.segmentation.players
        if self._fresh:
            samples = 2 * self.pending if self.design is None else 2**players - 2
            self.design, self.answers = shapley_design(players, samples, self.generator), None
            return Coalitions(self.number, self.segmentation, self.design)
        before = cast("ShapleyDesign", self.design)
        self.design = with_more_pairs(before, self.pending, self.generator)
        new = len(self.design.draws) - len(before.draws)
        masks = self.design.masks[len(self.design) - len(self.design.draws) - new :][:new]
        return Coalitions(self.number, self.segmentation, Design(torch.cat([masks, ~masks]), torch.ones(2 * new)))

    def learn(self, _plan: Coalitions, answers: Tensor) -> None:
        if self.answers is None:
            self.answers = answers
        else:
            known = len(cast("ShapleyDesign", self.design).draws) - len(answers) // 2
            head, tail = self.answers[: len(self.answers) - known], self.answers[len(self.answers) - known :]
            self.answers = torch.cat([head, answers[: len(answers) // 2], tail, answers[len(answers) // 2 :]])
        self.pending = self.rule.more(self._drawn // 2, self.fit().error, self.difference) if self.tolerance else 0

    def fit(self) -> Fit:
        return constrained_least_squares(
            cast("ShapleyDesign", self.design), cast("Tensor", self.answers), self.ends[0], self.ends[1]
        )

    def margin(self, fit: Fit) -> Tensor:
        """Return half the width of the 95 % interval by Student's t."""
        pairs = int(cast("ShapleyDesign", self.design).draws.sum())
        return fit.error * float(student.ppf(0.975, max(1, pairs - 1)))
