"""Counterfactuals of images: the path of shown images, what the model says of each, and whether they may be believed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from pellucid.counterfactual.aim import Aim
from pellucid.counterfactual.moves import Move
from pellucid.counterfactual.strip import DOSES, Exaggeration, Stripper
from pellucid.counterfactual.verdict import GateVerdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Counterfactuals", "Status"]

Status = Literal["reached", "already there", "outside the support", "not reached"]


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
    stripper
        What `exaggerate` goes further with.
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
    stripper: Stripper = field(repr=False)
    status: tuple[Status, ...]

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

    def exaggerate(self, doses: Sequence[float] = DOSES) -> Exaggeration:
        """Show the image from the far end of its own side, over the counterfactual, to the far end of the target's side.

        Parameters
        ----------
        doses
            Rising; 0 is the image, 1 the counterfactual, −3 and 3 the far ends of the score, see `Exaggeration`.

        Raises
        ------
        ShapeError
            When the doses do not rise or are fewer than three.
        """
        return self.stripper.strip(self.images, self.changed, self.move, self.aim, doses)

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
