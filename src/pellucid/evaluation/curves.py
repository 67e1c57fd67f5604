"""Faithfulness by removal: the score while positions go, most relevant first, and the area under that curve.

A curve starts at the untouched image; its area is averaged over the removed fraction, so it does not grow with the
number of steps. Points of a curve are computed once and shared by the metrics that pass through them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pellucid.attribution.fills import Fill
from pellucid.evaluation.bench import Bench
from pellucid.evaluation.metric import METRICS, Metric, Outcome, Profile

__all__ = ["CurveMetric", "curve", "deletion", "insertion", "pixel_flipping"]

_Point = tuple[int, int]


def _counts(length: int, steps: int, until: float) -> list[int]:
    """Return how many positions have changed at each step, from none to the fraction `until`."""
    return sorted({round(until * length * step / steps) for step in range(steps + 1)})


def _compute(bench: Bench, known: dict[_Point, Tensor], missing: Sequence[_Point], fill: Any, *, keep: bool) -> None:
    """Send the images of all missing points (method, count) through the model together."""
    rows = len(bench)
    points = torch.arange(len(missing)).repeat_interleave(rows)
    images = torch.arange(rows).repeat(len(missing))
    counts = torch.tensor([count for _, count in missing])

    def hide(part: slice) -> Tensor:
        pairs = zip(points[part].tolist(), images[part].tolist(), strict=True)
        places = torch.stack([bench.order(missing[point][0])[image] for point, image in pairs])
        changed = places < counts[points[part]].to(places.device)[:, None]
        return ~changed if keep else changed

    scores = bench.hidden(images, fill, hide).reshape(-1, len(missing), rows)
    for place, (index, count) in enumerate(missing):
        known[index, count] = bench.own(scores[:, place], index)


def _end(bench: Bench, fill: Any) -> Tensor:
    """Return every target's value of the wholly replaced image, which no map has a say in."""
    rows, length = len(bench), len(bench.grid)
    everything = torch.ones(rows, length, dtype=torch.bool)
    return bench.once(("replaced", fill), lambda: bench.hidden(torch.arange(rows), fill, lambda part: everything[part]))


def curve(bench: Bench, counts: Sequence[int], fill: Any, *, keep: bool) -> dict[int, Tensor]:
    """Return for every map that has a place its scores ``(N, len(counts))`` with the first positions changed.

    Parameters
    ----------
    bench
        The explanations and images.
    counts
        How many positions have changed at each point.
    fill
        What takes the place of removed positions.
    keep
        False removes the most relevant; True starts from the replaced image and brings them back.
    """
    known: dict[_Point, Tensor] = bench.once(("curve", fill, keep), dict)
    placed = [index for index, placed in enumerate(bench.maps) if not placed.reason]
    ends = {0: _end(bench, fill) if keep else bench.outputs}
    ends[len(bench.grid)] = bench.outputs if keep else _end(bench, fill)
    for index in placed:
        for count, scores in ends.items():
            known[index, count] = bench.own(scores, index)
    missing = [(index, count) for index in placed for count in counts if (index, count) not in known]
    if missing:
        _compute(bench, known, missing, fill, keep=keep)
    return {index: torch.stack([known[index, count] for count in counts], 1) for index in placed}


@dataclass(frozen=True, kw_only=True, repr=False)
class CurveMetric(Metric):
    """A metric of the score's curve while positions are removed or brought back in the map's order.

    Attributes
    ----------
    steps
        Points of the curve after the first, evenly spaced.
    fill
        What takes the place of removed positions.
    """

    steps: Annotated[int, Field(ge=1)] = 16
    fill: Fill = "mean"

    keep: ClassVar[bool] = False
    undefined: ClassVar[str] = "the model's score is not finite on the changed images"

    def _until(self) -> float:
        return 1.0

    def _read(self, area: Tensor, start: Tensor) -> Tensor:  # noqa: ARG002  # the start matters to some
        return area

    def score(self, bench: Bench) -> Sequence[Outcome]:
        """Average the curve of every map, all maps and steps sent through the model together."""
        counts = _counts(len(bench.grid), self.steps, self._until())
        curves = curve(bench, counts, self.fill, keep=self.keep)
        shares = torch.tensor(counts, dtype=torch.float64) / max(counts[-1], 1)
        return [
            self._outcome(curves[index], shares) if index in curves else Outcome.missing(len(bench), placed.reason)
            for index, placed in enumerate(bench.maps)
        ]

    def _outcome(self, scores: Tensor, shares: Tensor) -> Outcome:
        area = torch.trapezoid(scores, shares.to(scores.device), dim=1)
        value = self._read(area, scores[:, 0])
        return Outcome.of(torch.where(value.isfinite(), value, torch.nan), self.undefined)


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class deletion(CurveMetric):
    """Mean score of the target while all positions are removed, most relevant first: low where the map is right.

    In the target's own unit (logits); compare within an image.
    """

    profile: ClassVar[Profile] = Profile(
        family="faithfulness",
        direction="lower",
        range=(-torch.inf, torch.inf),
        measures="removing what the map marks makes the model's score fall early",
        cost="steps forwards an image and method",
        failure="half-removed images are unlike any the model knows; the winner changes with fill and order",
        reference="Petsiuk, Das and Saenko 2018, RISE: randomized input sampling for explanation, BMVC",
    )


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class insertion(CurveMetric):
    """Mean score of the target while positions are brought back onto a blurred image, most relevant first: high is right.

    In the target's own unit (logits); compare within an image.
    """

    fill: Fill = "blur"

    profile: ClassVar[Profile] = Profile(
        family="faithfulness",
        direction="higher",
        range=(-torch.inf, torch.inf),
        measures="what the map marks is enough to bring the model's score back early",
        cost="steps forwards an image and method",
        failure="compact maps win over scattered ones of the same truth; a blurred image still holds large structures",
        reference="Petsiuk, Das and Saenko 2018, RISE: randomized input sampling for explanation, BMVC",
    )
    keep: ClassVar[bool] = True


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class pixel_flipping(CurveMetric):
    """Mean fall of the score while the most relevant first part of the positions is removed: high is right.

    In the target's own unit (logits); compare within an image.

    Attributes
    ----------
    until
        Fraction of the positions at which the curve ends; the start of a curve tells maps apart, its end does not.
    steps
        Points of the curve after the first; at a quarter and 4 steps they are points of `deletion` with 16.
    """

    steps: Annotated[int, Field(ge=1)] = 4
    until: Annotated[float, Field(gt=0, le=1)] = 0.25

    profile: ClassVar[Profile] = Profile(
        family="faithfulness",
        direction="higher",
        range=(-torch.inf, torch.inf),
        measures="the few most marked positions carry most of the model's score",
        cost="steps forwards an image and method, shared with deletion where fill and fractions agree",
        failure="half-removed images are unlike any the model knows; the winner changes with fill and order",
        reference="Bach et al. 2015, On pixel-wise explanations by layer-wise relevance propagation, PLOS ONE; "
        "Samek et al. 2017, Evaluating the visualization of what a deep neural network has learned, IEEE TNNLS",
    )

    def _until(self) -> float:
        return self.until

    def _read(self, area: Tensor, start: Tensor) -> Tensor:
        return start - area
