"""Targets on the outputs of a segmentation net ``(N, K, *S)``."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.errors import BadTarget
from pellucid.models.model import Model
from pellucid.models.targets.columns import Index, columns_of
from pellucid.models.targets.target import TARGETS, ReadOut, Target

__all__ = ["Region"]


@TARGETS.register
@dataclass(frozen=True, repr=False)
class Region(Target):
    """Mean logit of a class over a region of a segmentation ``(N, K, *S)``.

    Without `mask`, `box` and `point` the region is the object itself: where the unperturbed prediction is this class.

    Attributes
    ----------
    index
        Class number or name.
    mask
        Boolean ``(*S)`` or ``(N, *S)``.
    box
        Corners ``((y0, x0), (y1, x1))``, the second excluded; one number a spatial axis.
    point
        One position a spatial axis.
    """

    index: Index
    mask: Tensor | None = None
    box: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    point: tuple[int, ...] | None = None

    def freeze(self, model: Model, outputs: Tensor) -> ReadOut:
        """Fix the region and the class of every row."""
        if outputs.ndim < 3:
            raise BadTarget(
                f"{self.name} reads outputs (N, K, *S); this model returns {tuple(outputs.shape)}: use Class"
            )
        columns = columns_of(self.index, model, outputs, self.name)
        region = self._region(outputs, columns)
        empty = (region.flatten(1).sum(1) == 0).nonzero()
        if len(empty):
            why = "no pixel is predicted as this class" if self.mask is None else "the mask holds no pixel"
            raise BadTarget(f"{self.name}: the region of row {int(empty[0])} is empty: {why}")

        def read(out: Tensor, rows: Tensor) -> Tensor:
            maps = out[torch.arange(len(out), device=out.device), columns[rows]].flatten(1)
            weight = region[rows].flatten(1).to(out.dtype)
            return (maps * weight).sum(1) / weight.sum(1)

        return ReadOut(read)

    def _region(self, outputs: Tensor, columns: Tensor) -> Tensor:
        rows, _, *shape = outputs.shape
        given = [name for name in ("mask", "box", "point") if getattr(self, name) is not None]
        if len(given) > 1:
            raise BadTarget(f"Region() takes one of mask, box and point, not {' and '.join(given)}")
        if not given:
            expand = columns.view(-1, *[1] * len(shape))
            return outputs.argmax(1) == expand if outputs.shape[1] > 1 else outputs[:, 0] > 0
        region = torch.zeros(shape, dtype=torch.bool, device=outputs.device)
        if self.mask is not None:
            if tuple(self.mask.shape) not in {tuple(shape), (rows, *shape)}:
                raise BadTarget(
                    f"Region(mask=...) has shape {tuple(self.mask.shape)}; the output's axes are {tuple(shape)}"
                )
            return self.mask.bool().to(outputs.device).expand(rows, *shape)
        corners = self.box if self.box is not None else (self.point, tuple(place + 1 for place in self.point or ()))
        low, high = corners
        if low is None or len(low) != len(shape) or len(high) != len(shape):
            raise BadTarget(
                f"Region({given[0]}={getattr(self, given[0])}) has not one number for each axis of {tuple(shape)}"
            )
        if not all(0 <= start < stop <= length for start, stop, length in zip(low, high, shape, strict=True)):
            raise BadTarget(
                f"Region({given[0]}={getattr(self, given[0])}) does not lie in the output's axes {tuple(shape)}"
            )
        region[tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))] = True
        return region.expand(rows, *shape)
