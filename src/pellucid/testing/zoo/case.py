"""One explanation beside a second, plain way through the same net: double precision, torch's own autograd, no engine."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.attribution import Explanation, Method
from pellucid.models import Inputs, Model, ReadOut

__all__ = ["Case", "Hook"]

Hook = Callable[[Tensor], Tensor]
"""What becomes of a layer's output."""

_NONE: Mapping[str, Hook] = MappingProxyType({})


def _as_it_is(out: Tensor) -> Tensor:
    return out


@dataclass(frozen=True, eq=False)
class Case:
    """What a reference is computed from.

    Attributes
    ----------
    model
        The model that was explained.
    x
        What was explained, one tensor an input.
    found
        The explanation.
    """

    model: Model
    x: Inputs
    found: Explanation

    @property
    def method(self) -> Method:
        """The method that is checked."""
        assert isinstance(self.found.method, Method)
        return self.found.method

    @cached_property
    def inputs(self) -> Inputs:
        """The inputs in double precision."""
        return tuple(x.double() for x in self.x)

    @cached_property
    def rows(self) -> Tensor:
        """The explained rows' numbers."""
        return torch.arange(len(self.inputs[0]))

    @cached_property
    def network(self) -> nn.Module:
        """A copy of the network in double precision."""
        assert self.model.module is not None
        return copy.deepcopy(self.model.module).double().eval().requires_grad_(requires_grad=False)

    @cached_property
    def read(self) -> ReadOut:
        """The target, frozen on the unperturbed outputs."""
        return self.found.target.freeze(self.model, self._run(self.inputs, _NONE))

    def _run(self, inputs: Inputs, hooks: Mapping[str, Hook]) -> Tensor:
        handles = [
            self.network.get_submodule(name).register_forward_hook(lambda _m, _x, out, hook=hook: hook(out))
            for name, hook in hooks.items()
        ]
        try:
            output: Any = self.network(*(x.clone() for x in inputs))
        finally:
            for handle in handles:
                handle.remove()
        tensor: Tensor = output if isinstance(output, Tensor) else output.logits
        return tensor

    def score(self, inputs: Inputs, rows: Tensor | None = None, *, hooks: Mapping[str, Hook] = _NONE) -> Tensor:
        """Return the target ``(B,)`` for `inputs` that belong to explained `rows`; hooks see or change layers."""
        rows = self.rows if rows is None else rows
        if self.read.layer is None:
            return self.read(self._run(inputs, hooks), rows)
        kept: list[Tensor] = []
        before = hooks.get(self.read.layer, _as_it_is)

        def keep(out: Tensor) -> Tensor:
            kept.append(before(out))
            return kept[-1].clone()

        self._run(inputs, {**hooks, self.read.layer: keep})
        return self.read(kept[-1], rows)

    def gradient(self, inputs: Inputs, rows: Tensor | None = None) -> Inputs:
        """Return the target's derivative by every input."""
        leaves = tuple(x.clone().requires_grad_() for x in inputs)
        found = torch.autograd.grad(self.score(leaves, rows).sum(), leaves, allow_unused=True)
        return tuple(torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True))

    def layer(self, at: str) -> tuple[Tensor, Tensor]:
        """Return a layer's output and the target's derivative by it."""
        kept: list[Tensor] = []

        def cut(out: Tensor) -> Tensor:
            kept.append(out.detach().clone().requires_grad_())
            return kept[-1].clone()

        score = self.score(self.inputs, hooks={at: cut})
        slopes = torch.autograd.grad(score.sum(), kept[-1], allow_unused=True)[0] if score.requires_grad else None
        return kept[-1].detach(), torch.zeros_like(kept[-1]) if slopes is None else slopes

    def outputs_hidden(self, masks: list[Inputs]) -> Tensor:
        """Return the target ``(masks, N)`` where every mask, True where hidden, puts zeros into every row."""
        answers = []
        with torch.no_grad():
            for mask in masks:
                hidden = tuple(x.masked_fill(part, 0.0) for x, part in zip(self.inputs, mask, strict=True))
                answers.append(self.score(hidden))
        return torch.stack(answers)
