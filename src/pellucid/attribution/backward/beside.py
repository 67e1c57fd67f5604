"""Two points at once: the network runs on the baselines first, then on the images, and every rule sees both.

Whatever order the network's axes are in, call k of one run is call k of the other: no rule needs to know where rows lie.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.attribution.backward.intercept import RuleSet, intercepted
from pellucid.attribution.backward.operation import Operation, Pullback, Rule
from pellucid.errors import GuardError
from pellucid.models import Forward, Model, ReadOut

__all__ = ["Beside", "Comparison", "PairRule", "at_both"]

_NODES = 32
"""Points of the quadrature that takes the mean slope of a target that is not linear in the outputs."""

PairRule = Callable[[Operation, tuple[Tensor, ...]], tuple[Any, Pullback]]
"""Runs an operation, given its active operands' values at the baselines, and returns its output and its pull-back."""


@dataclass
class Beside:
    """The active operands of every ruled call at the baselines, in order, and the masks that comparisons made."""

    kept: deque[tuple[str, tuple[Tensor, ...]]] | None = None
    met: deque[tuple[str, tuple[Tensor, ...]]] = field(default_factory=deque)
    masks: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def keep(self, name: str, values: tuple[Tensor, ...]) -> None:
        """Keep copies at the baselines: the network may write over the originals."""
        self.met.append((name, tuple(value.clone() for value in values)))

    def take(self, name: str, values: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return what the same call had at the baselines."""
        called, before = self.kept.popleft() if self.kept else ("nothing", ())
        if called != name or [value.shape for value in before] != [value.shape for value in values]:
            shapes = [tuple(value.shape) for value in before]
            raise GuardError(
                f"for the baseline the network calls {called} on {shapes} where it calls {name} on "
                f"{[tuple(value.shape) for value in values]} for the image: it takes another course, which slopes "
                "between the two cannot follow; use integrated_gradients or occlusion"
            )
        return before


def at_both(rule: PairRule) -> Rule:
    """Return the rule that keeps operands while the baselines pass, and compares with them while the images do."""

    def run(operation: Operation, state: Beside) -> tuple[Any, Pullback]:
        if state.kept is None:
            state.keep(operation.name, operation.active)
            nothing = (None,) * len(operation.active)  # the operation itself, kept, would hold on to the graph
            return operation.run(*operation.active), lambda _arrived: nothing
        return rule(operation, state.take(operation.name, operation.active))

    return run


class Comparison:
    """Rules, for `Passes.gradient`, between images and baselines, and the read-out that goes with them.

    The pass is given `inputs` image tensors followed by as many baseline tensors.
    """

    def __init__(self, rules: RuleSet, inputs: int, begin: Callable[..., Any] = Beside) -> None:
        self.name, self._set, self._inputs, self._begin = rules.name, rules, inputs, begin
        self._ends: list[tuple[Tensor, Tensor]] = []

    def rules(self, model: Model, forward: Forward) -> Forward:
        """Change a forward into one that runs on the baselines and returns what it gives for the images."""

        def changed(*given: Tensor) -> tuple[Tensor, ...]:
            images, baselines = given[: self._inputs], given[self._inputs :]
            first = self._begin()
            before = intercepted(self._set, first, model, forward, baselines)
            after = intercepted(self._set, self._begin(kept=first.met), model, forward, images)
            self._ends = [(here, there.detach()) for here, there in zip(after, before, strict=True)]
            return after

        return changed

    def between(self, read: ReadOut) -> ReadOut:
        """Return a read-out of the image's outputs that slopes from the baseline's.

        A target that is linear in the outputs has one slope; for another (`LogOdds`, `Similarity`) it is the mean
        gradient along the line between the two outputs, so that slope × Δoutput is the target's difference.
        """

        def compared(outputs: Tensor, rows: Tensor) -> Tensor:
            before = next(there for here, there in self._ends if here is outputs)
            slope = _mean_slope(lambda values: read(values, rows), before, outputs.detach())
            return read(outputs.detach(), rows) + (slope * (outputs - outputs.detach())).flatten(1).sum(1)

        return ReadOut(compared, read.layer)


def _mean_slope(read: Callable[[Tensor], Tensor], start: Tensor, end: Tensor) -> Tensor:
    def slope(share: float) -> Tensor:
        place = (start + share * (end - start)).requires_grad_()
        (there,) = torch.autograd.grad(read(place).sum(), place)
        return there

    ends = [slope(share) for share in (0.0, 0.3, 1.0)]
    if all(torch.equal(ends[0], other) for other in ends[1:]):
        return ends[0]
    points, weights = np.polynomial.legendre.leggauss(_NODES)
    parts = (slope(float(point)) * float(weight) for point, weight in zip((points + 1) / 2, weights / 2, strict=True))
    return sum(parts, start=torch.zeros_like(start))
