"""Maps that know nothing of the model: a method that does not beat them has shown nothing."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy, row_seeds
from pellucid.errors import ShapeError

__all__ = ["edge_map", "edges", "random_map"]


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class random_map(Method):
    """Pure chance: a standard normal number for every pixel, from the image's own seed."""

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="control",
        question="What would a map that knows nothing score?",
        cost="no passes",
        reference="Adebayo et al. 2018, NeurIPS",
        warning="A control, not an explanation: it never looks at the model or the image.",
        kind="control",
        mechanism="none",
    )

    def attribute(self, call: Call) -> Attribution:
        """Draw every row from a stream of its own, apart from the streams of other methods."""
        streams = [torch.Generator().manual_seed(row_seeds(seed, (self.name,), 1)[0]) for seed in call.seeds]
        return Attribution(
            tuple(torch.stack([torch.randn(x.shape[1:], generator=stream) for stream in streams]).to(x)
                  for x in call.inputs)
        )  # fmt: skip


def edges(x: Tensor) -> Tensor:
    """Return the Sobel gradient magnitude of every channel of ``(N, C, *S)``, in any number of spatial axes.

    One central difference an axis, smoothed by (1, 2, 1) / 4 along the others; the rim is repeated.
    """
    slope, smooth = (-0.5, 0.0, 0.5), (0.25, 0.5, 0.25)
    axes = range(2, x.ndim)
    total = torch.zeros_like(x)
    for along in axes:
        part = x
        for axis in axes:
            part = _along(part, axis, slope if axis == along else smooth)
        total += part.square()
    return total.sqrt()


def _along(x: Tensor, axis: int, kernel: tuple[float, float, float]) -> Tensor:
    lines = x.movedim(axis, -1)
    flat = functional.pad(lines.reshape(-1, 1, lines.shape[-1]), (1, 1), mode="replicate")
    return functional.conv1d(flat, x.new_tensor(kernel).view(1, 1, 3)).reshape(lines.shape).movedim(-1, axis)


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class edge_map(Method):
    """The edges of the image itself, whatever the model: what a map that only looks convincing would show."""

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="control",
        question="What would a map that only redraws the image's edges score?",
        sign="unsigned",
        cost="no passes",
        reference="Adebayo et al. 2018, NeurIPS; Sobel and Feldman 1968",
        warning="A control, not an explanation: it never looks at the model.",
        kind="control",
        mechanism="none",
    )

    def attribute(self, call: Call) -> Attribution:
        """Take the Sobel magnitude of every row."""
        for place, x in enumerate(call.inputs):
            if x.ndim < 3:
                raise ShapeError(f"{self} needs spatial axes; input {place} has shape {tuple(x.shape)}: use random_map")
        return Attribution(tuple(edges(x) for x in call.inputs))
