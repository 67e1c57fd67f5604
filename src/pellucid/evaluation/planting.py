"""Changes planted in one's own images, and how far each moved the model: a truth that needs no annotation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from scipy import ndimage
from torch import Tensor

from pellucid.errors import ShapeError
from pellucid.hashing import hash_seed
from pellucid.measure import Edit
from pellucid.measure.clumps import clump, highest
from pellucid.models import Model, Passes

__all__ = ["Planted", "Planting", "with_effects"]

_GRAIN = 4.0
_SMOOTH = 2.0
"""Standard deviation in pixels by which claims are smoothed before the place that they agree on is cut."""


@dataclass(frozen=True)
class Planted:
    """One edit of one image: the edited image, where it differs, and how far it moved the score of the called class."""

    row: int
    edit: str
    image: Tensor
    support: Tensor
    effect: float = 0.0


@dataclass(frozen=True)
class Planting:
    """Which edits are made in every image, and how large a place takes them.

    Attributes
    ----------
    edits
        Made at a random place of the object and at the place that maps point at.
    on_object
        Made on the whole object.
    share
        Part of the object's area that one place takes.
    seed
        Of everything random.
    """

    edits: Sequence[Edit]
    on_object: Sequence[Edit]
    share: float
    seed: int

    def planted(self, row: int, image: Tensor, outline: Tensor, maps: Sequence[Tensor], name: str) -> Iterator[Planted]:
        """Yield the edits of one image ``(C, *S)``; what fits nothing there is left out.

        `maps` ``(*S)`` of several methods point at a place of the outlined object ``(*S)``; `name` is the image's.
        """
        count, claimed = self._pixels(outline), self._claimed(maps, outline)
        at_random = [(edit, "place", None) for edit in self.edits]
        at_claim = [(edit, "claim", claimed) for edit in self.edits if claimed is not None]
        for edit, kind, given in (*at_random, *at_claim, *((edit, "object", outline) for edit in self.on_object)):
            generator = torch.Generator().manual_seed(hash_seed(self.seed, f"calibrate {kind} {edit} {name}"))
            where = clump(outline, count, generator, _GRAIN) if given is None else given
            try:
                result = edit(image, where, generator=generator)
            except ShapeError:  # nothing of that kind fits there
                continue
            if bool(result.support.any()):
                yield Planted(row, f"{edit} {kind}", result.image, result.support)

    def _claimed(self, maps: Sequence[Tensor], outline: Tensor) -> Tensor | None:
        """Return the place ``(*S)`` that maps together point at; None where all are zero.

        Every map counts by its share of relevance, whatever its sign and scale, so that no method chooses alone.
        """
        shares = [relevance.abs() / relevance.abs().sum() for relevance in maps if bool(relevance.any())]
        if not shares:
            return None
        field = ndimage.gaussian_filter(torch.stack(shares).mean(0).double().cpu().numpy(), _SMOOTH)
        return highest(torch.from_numpy(field), self._pixels(outline))

    def _pixels(self, outline: Tensor) -> int:
        return max(1, round(self.share * int(outline.sum())))


def with_effects(
    model: Model, planted: Sequence[Planted], scores: Tensor, called: Sequence[int], batch_size: int | None
) -> list[Planted]:
    """Return the edits with how far each moved the score of the class ``called[row]`` from ``scores[row]``."""
    edited = torch.stack([one.image for one in planted])
    with Passes(model, batch_size=batch_size) as passes:
        after = passes.outputs(model.prepare(edited)).cpu().double()
    return [
        replace(one, effect=float(outputs[called[one.row]] - scores[one.row]))
        for one, outputs in zip(planted, after, strict=True)
    ]
