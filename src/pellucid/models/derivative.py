"""The derivative of a target at rows that go through the model at once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from pellucid.errors import CannotExplain
from pellucid.models.agreement import check_agreement
from pellucid.models.graph import lay_out_gradients
from pellucid.models.model import Inputs
from pellucid.models.rows import take_rows
from pellucid.models.tapping import Rules
from pellucid.models.targets import ReadOut

__all__ = ["FORWARDS", "Derivative", "Slopes", "differentiate"]

FORWARDS = "use a method that only needs forwards: occlusion, ablation, rise, lime or kernel_shap"

Slopes = tuple[Tensor, Inputs, Inputs]
"""The target's values ``(N,)``, what was differentiated by, and the gradients, of the same shapes."""


class Call(Protocol):
    """One call of the network: its output, and the layers that were asked for, by name."""

    def __call__(
        self,
        inputs: Inputs,
        taps: tuple[str, ...],
        placed: Mapping[str, Tensor],
        rules: Rules | None,
        *,
        read: bool,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Call it; `read` says whether anything looks at the output."""


@dataclass(frozen=True)
class Derivative:
    """What is to be differentiated; the fields are as in `Passes.gradient`."""

    inputs: Inputs
    read: ReadOut
    rows: Tensor
    rules: Rules | None
    known: Tensor | None
    at: str | None
    place: Tensor | None

    def __len__(self) -> int:
        return len(self.inputs[0])

    def __getitem__(self, part: slice) -> "Derivative":
        place, known = (None if values is None else values[part] for values in (self.place, self.known))
        return replace(self, inputs=take_rows(self.inputs, part), rows=self.rows[part], known=known, place=place)

    @property
    def taps(self) -> tuple[str, ...]:
        """Layers whose outputs are needed."""
        return tuple({name for name in (self.read.layer, self.at) if name is not None})

    def readable(self, output: Tensor, tapped: Mapping[str, Tensor]) -> Tensor:
        """Return what the target is read from."""
        return output if self.read.layer is None else tapped[self.read.layer]


def differentiate(asked: Derivative, call: Call) -> Slopes:
    """Differentiate the target at each row.

    Raises
    ------
    CannotExplain
        When the target does not depend on what it is differentiated by.
    GuardError
        When the forward under the rules is not the plain one.
    """
    with torch.enable_grad(), torch.autocast(asked.rows.device.type, enabled=False):
        leaves = tuple(tensor.detach().clone().requires_grad_(asked.place is None) for tensor in asked.inputs)
        placed = {}
        if asked.at is not None and asked.place is not None:
            placed[asked.at] = asked.place.detach().clone().requires_grad_()
        given = tuple(leaf.clone() for leaf in leaves)  # a network may write into its input
        output, tapped = call(given, asked.taps, placed, asked.rules, read=asked.read.layer is None)
        readable = asked.readable(output, tapped)
        score = asked.read(readable, asked.rows)
        points = leaves if asked.at is None else (tapped[asked.at],)
        if not score.requires_grad:
            raise _cut(asked.at)
        if asked.rules is not None:
            _check(asked, call, placed, score.detach(), readable.detach())
        return score.detach(), tuple(point.detach() for point in points), _gradients(score, points, asked.at)


def _gradients(score: Tensor, points: Inputs, at: str | None) -> Inputs:
    lay_out_gradients(score)
    found = torch.autograd.grad(score.sum(), points, allow_unused=True)
    if all(gradient is None for gradient in found):
        raise _cut(at)
    return tuple(
        torch.zeros_like(point) if gradient is None else gradient.detach()
        for point, gradient in zip(points, found, strict=True)
    )


def _cut(at: str | None) -> CannotExplain:
    where = f"layer {at!r}" if at is not None else "its input"
    return CannotExplain(f"the model's output does not depend on {where} through differentiable steps; {FORWARDS}")


@torch.no_grad()
def _check(asked: Derivative, call: Call, placed: Mapping[str, Tensor], score: Tensor, readable: Tensor) -> None:
    plain = asked.known
    if plain is None:
        given = tuple(tensor.clone() for tensor in asked.inputs)
        plain = asked.read(asked.readable(*call(given, asked.taps, placed, None, read=True)), asked.rows)
    check_agreement(
        score,
        plain,
        readable,
        under="the rules",
        use="gradient, integrated_gradients, occlusion or kernel_shap",
    )
