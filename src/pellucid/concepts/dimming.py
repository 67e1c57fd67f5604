"""Dimming parts of a layer's activations at random: how much of the output hangs on each."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.attribution.perturbation.sobol import pick_freeze, total_indices
from pellucid.errors import CannotExplain
from pellucid.models import Passes, ReadOut, take_rows

__all__ = ["Dimming"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Dimming:
    """The output on activations that are added up from parts, some of them dimmed."""

    passes: Passes
    inputs: Tensor
    read: ReadOut
    layer: str
    parts: Tensor
    strength: Tensor

    def refuse_other_layouts(self, maps: Tensor) -> None:
        """Check that feature maps can be put back as they were taken."""
        given = self.passes.outputs((self.inputs[:1],), self.layer)
        if given.shape[1:] != maps.shape[1:]:
            raise CannotExplain(
                f"layer {self.layer!r} gives {('N', *given.shape[1:])}; concepts are discovered in feature maps (N, C, *S)"
            )

    def scores(self, row: int, masks: Tensor) -> Tensor:
        """Return the output of one image under masks ``(M, K)`` of its parts."""
        found = []
        for part in _blocks(len(masks), self.passes.batch_size((self.inputs,))):
            dimmed = masks[part][(...,) + (None,) * (self.strength.ndim - 2)] * self.strength[row]
            placed = torch.einsum("mk...,kc->mc...", dimmed, self.parts).to(self.inputs)
            rows = torch.full((len(placed),), row)
            given = take_rows((self.inputs,), rows.to(self.inputs.device))
            found.append(self.passes.scores(given, self.read, rows, placed={self.layer: placed}).cpu())
        return torch.cat(found).double()

    def importance(self, samples: int, seed: int) -> Array:
        """Return total Sobol indices ``(K, N)``."""
        design = pick_freeze(len(self.parts), samples, seed)
        masks = design.members(slice(None))
        answers = torch.stack([self.scores(row, masks) for row in range(len(self.inputs))], dim=1)
        return np.asarray(total_indices(design, answers)[0].numpy())

    def lesions(self) -> tuple[Tensor, Tensor]:
        """Return the output with all parts ``(N,)`` and without each ``(N, K)``."""
        count = len(self.parts)
        masks = torch.cat([torch.ones(1, count), 1 - torch.eye(count)])
        answers = torch.stack([self.scores(row, masks) for row in range(len(self.inputs))])
        return answers[:, 0], answers[:, 1:]


def _blocks(rows: int, size: int) -> Iterator[slice]:
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))
