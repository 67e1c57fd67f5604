"""Strips: an image from the far end of its own side, over its counterfactual, to the far end of the target's side."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from rich.progress import track
from scipy.stats import rankdata
from torch import Tensor

from pellucid.counterfactual.aim import Aim
from pellucid.counterfactual.generator import FittedGenerator
from pellucid.counterfactual.moves import Move
from pellucid.counterfactual.parts import in_parts
from pellucid.counterfactual.search import Search
from pellucid.counterfactual.seek import pursue, read_scores
from pellucid.counterfactual.support import Support
from pellucid.errors import ShapeError
from pellucid.models import Model, Passes

__all__ = ["DOSES", "Exaggeration", "Stripper", "along", "rank_correlation"]

DOSES = (-3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0)

_END = 3.0
"""The dose at which the score is to be at its far end."""

_TIE = 1e-3
"""Scores of a strip that differ by less than this share of its range are equal."""


@dataclass(frozen=True)
class Exaggeration:
    """Images in rising doses, before and beyond the counterfactual: a strip an image.

    Attributes
    ----------
    doses
        0 is the image, 1 its counterfactual; −3 and 3 the least changes that bring the score to `Aim.ends`: as far on the
        image's own side, and on the target's, as hardly any training image lies beyond.
    images
        ``(N, K, C, *S)``.
    scores
        ``(N, K)``: the score at every dose, read on the image that is shown.
    strain
        ``(N, K)``: more than 1 is outside what the generator saw.
    spearman
        ``(N,)`` rank correlation of dose and score over the doses within `limits`; NaN where the score does not move there,
        or fewer than three doses are left.
    """

    doses: tuple[float, ...]
    images: Tensor = field(repr=False)
    scores: Tensor
    strain: Tensor
    spearman: Tensor

    @property
    def limits(self) -> list[tuple[float, float]]:
        """For each image the lowest and highest dose up to which every shown image lies within the support."""
        middle = min(range(len(self.doses)), key=lambda place: abs(self.doses[place]))
        return [_inside(self.doses, row <= 1, middle) for row in self.strain]

    @classmethod
    def of(cls, doses: tuple[float, ...], images: Tensor, scores: Tensor, strain: Tensor) -> "Exaggeration":
        """Return the strip with its correlations."""
        strip = cls(doses, images, scores, strain, torch.full((len(scores),), torch.nan, dtype=torch.float64))
        for row, (low, high) in enumerate(strip.limits):
            places = [place for place, dose in enumerate(doses) if low <= dose <= high]
            if len(places) >= 3:
                within = [doses[place] for place in places]
                strip.spearman[row] = rank_correlation(within, scores[row : row + 1, places])[0]
        return strip


def _inside(doses: Sequence[float], good: Tensor, middle: int) -> tuple[float, float]:
    low = high = middle
    while low > 0 and bool(good[low - 1]):
        low -= 1
    while high < len(doses) - 1 and bool(good[high + 1]):
        high += 1
    return doses[low], doses[high]


@dataclass(frozen=True)
class Stripper:
    """All that is needed to go further than a counterfactual.

    Attributes
    ----------
    model, fitted, support, search
        The explained model, the generator with its envelope, and how changes are searched for.
    ids, seed, batch_size
        As for `pellucid.counterfactual.counterfactual`.
    """

    model: Model
    fitted: FittedGenerator
    support: Support
    search: Search
    ids: Sequence[str] | None = None
    seed: int = 0
    batch_size: int | None = None

    def strip(self, x: Tensor, changed: Tensor, move: Move, aim: Aim, doses: Sequence[float]) -> Exaggeration:
        """Search on from images `x` and from what their `move` made of them, and show every dose.

        Raises
        ------
        ShapeError
            When the doses do not rise or are fewer than three.
        """
        if len(doses) < 3 or any(a >= b for a, b in itertools.pairwise(doses)):
            raise ShapeError(f"exaggerate(doses={tuple(doses)}) needs three doses or more that rise")
        with Passes(self.model, batch_size=self.batch_size) as passes:
            back, on = (self._further(passes, start, aim, end) for end, start in enumerate((x, changed)))
            stretches = [
                (back, [-dose / _END for dose in doses if dose < 0]),
                (move, [dose for dose in doses if 0 <= dose <= 1]),
                (on, [(dose - 1) / (_END - 1) for dose in doses if dose > 1]),
            ]
            parts = [along(passes, way, aim, shares) for way, shares in stretches if shares]
        images, scores, strain = (torch.cat(part, 1) for part in zip(*parts, strict=True))
        return Exaggeration.of(tuple(doses), images, scores, strain)

    def _further(self, passes: Passes, x: Tensor, aim: Aim, end: int) -> Move:
        return pursue(passes, x, self.fitted, self.support, aim.towards(end), self.search, ids=self.ids, seed=self.seed)


def along(
    passes: Passes, move: Move, aim: Aim, doses: Sequence[float], *, progress: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Return images ``(N, K, C, *S)``, scores and strain ``(N, K)`` of every row at every dose."""
    rows = torch.arange(len(aim.goal))
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for dose in track(doses, "along the path", transient=True, disable=not progress):
        with torch.no_grad():
            shown = torch.cat([move.at(dose, part) for part in in_parts(rows)])
            strain = torch.cat([move.strain(dose, part, shown[part]) for part in in_parts(rows)])
        parts.append((shown.cpu(), read_scores(passes, shown, aim, rows).cpu(), strain.cpu()))
    images, scores, strains = (torch.stack(part, 1) for part in zip(*parts, strict=True))
    return images, scores, strains


def rank_correlation(doses: Sequence[float], scores: Tensor) -> Tensor:
    """Return Spearman's correlation ``(N,)`` of doses with each row of scores ``(N, K)``; NaN where all scores are equal.

    Scores that differ by less than a thousandth of their row's range are ties.
    """
    exact = scores.double().cpu()
    step = _TIE * (exact.amax(1) - exact.amin(1)).clamp(min=1e-12)
    ranks = torch.from_numpy(rankdata((exact / step[:, None]).round().numpy(), axis=1))
    along = torch.from_numpy(rankdata(list(doses)))
    a, b = ranks - ranks.mean(1, keepdim=True), along - along.mean()
    size = a.norm(dim=1) * b.norm()
    return torch.where(size > 0, (a @ b) / size.clamp(min=1e-12), torch.nan)
