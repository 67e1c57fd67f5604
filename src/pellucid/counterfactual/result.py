"""Counterfactuals of images: the path of shown images, what the model says of each, and whether they may be believed."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from scipy.stats import rankdata
from torch import Tensor

from pellucid.counterfactual.aim import Aim
from pellucid.counterfactual.moves import Move
from pellucid.counterfactual.verdict import GateVerdict
from pellucid.errors import ShapeError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Counterfactuals", "Exaggeration", "Status"]

Status = Literal["reached", "already there", "outside the support", "not reached"]

_STRIP = (-3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0)


@dataclass(frozen=True)
class Exaggeration:
    """The same change in rising doses, before and beyond the counterfactual: a strip an image.

    Attributes
    ----------
    doses
        In units of each image's own counterfactual: 0 is the image, 1 the change that reached the target, −1 its opposite.
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
    images: Tensor
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
class Counterfactuals:
    """What `counterfactual` found, one row an image; "none was found" is an answer too, see `status`.

    Attributes
    ----------
    ids
        Of the images.
    images, changed
        ``(N, C, *S)`` as they are, and at dose 1.
    doses, path
        From 0 to 1, and the images ``(N, K, C, *S)`` shown at each.
    scores, strain
        ``(N, K)`` along the path: the target's score read on the shown image, and the nearness to the support's limit (1).
    before, after
        The model's outputs for `images` and `changed`.
    aim
        The target, its goal and the score that is read.
    move
        The change, in any dose.
    generator, search
        Their texts.
    gate
        The gate's verdict on the generator.
    status
        One a row. Only ``"reached"`` is a counterfactual.
    """

    ids: tuple[str, ...]
    images: Tensor
    changed: Tensor
    doses: tuple[float, ...]
    path: Tensor = field(repr=False)
    scores: Tensor = field(repr=False)
    strain: Tensor = field(repr=False)
    before: Tensor = field(repr=False)
    after: Tensor = field(repr=False)
    aim: Aim = field(repr=False)
    move: Move = field(repr=False)
    generator: str
    search: str
    gate: GateVerdict = field(repr=False)
    status: tuple[Status, ...]
    read: Any = field(repr=False, default=None)

    @property
    def valid(self) -> Tensor:
        """``(N,)`` whether the shown image reaches the target within the support."""
        return torch.tensor([status == "reached" for status in self.status])

    @property
    def flipped(self) -> Tensor:
        """``(N,)`` whether the shown image reaches the target, supported or not."""
        last = self.scores[:, -1]
        return self.aim.reached(last, torch.arange(len(last)))

    @property
    def reasons(self) -> tuple[str, ...]:
        """One sentence a row: what was found, with the numbers."""
        return tuple(self._reason(row) for row in range(len(self.ids)))

    def _reason(self, row: int) -> str:
        words, goal = self.aim.words[row], float(self.aim.goal[row])
        first, last = (float(self.scores[row, place]) for place in (0, -1))
        told = f"{words}: the score went from {first:.3g} to {last:.3g} (goal {goal:.3g})"
        strain = float(self.strain[row, -1])
        return {
            "reached": told,
            "already there": f"{words}: the image is there as it is (score {first:.3g}, goal {goal:.3g})",
            "outside the support": f"{told}, but the shown image lies at {strain:.2f} of the support's limit",
            "not reached": f"no valid counterfactual; {told}",
        }[self.status[row]]

    def exaggerate(self, doses: Sequence[float] = _STRIP) -> Exaggeration:
        """Show the change in other doses, such as its opposite and three times as much.

        Parameters
        ----------
        doses
            Rising, in units of each image's own counterfactual.

        Raises
        ------
        ShapeError
            When the doses do not rise or are fewer than three.
        """
        if len(doses) < 3 or any(a >= b for a, b in itertools.pairwise(doses)):
            raise ShapeError(f"exaggerate(doses={tuple(doses)}) needs three doses or more that rise")
        images, scores, strain = self.read(self.move, self.aim, tuple(doses))
        return Exaggeration.of(tuple(doses), images, scores, strain)

    def plot(self, rows: Sequence[int] | None = None, *, most: int = 6, record: Any = None) -> "Figure":
        """Draw the path of each image with the score under every dose, the difference, and the gate's verdict.

        Parameters
        ----------
        rows
            Which images; default: the first `most`.
        record
            `ImageRecord` of the images, for the display range and the scale bar.
        """
        from pellucid.show.counterfactual import plot_counterfactuals  # noqa: PLC0415  # pictures know results

        return plot_counterfactuals(self, rows=rows, most=most, record=record)


def rank_correlation(doses: Sequence[float], scores: Tensor) -> Tensor:
    """Return Spearman's correlation ``(N,)`` of doses with each row of scores ``(N, K)``; NaN where all scores are equal."""
    ranks = torch.from_numpy(rankdata(scores.double().cpu().numpy(), axis=1))
    along = torch.from_numpy(rankdata(list(doses)))
    a, b = ranks - ranks.mean(1, keepdim=True), along - along.mean()
    size = a.norm(dim=1) * b.norm()
    return torch.where(size > 0, (a @ b) / size.clamp(min=1e-12), torch.nan)
