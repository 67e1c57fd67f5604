"""Operations with weights under LRP: which rule each gets, and how it pulls relevance back."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from pellucid.attribution.backward import shares
from pellucid.attribution.backward.graph import MOVES, node_name
from pellucid.attribution.backward.ledger import Enter, Ledger
from pellucid.attribution.backward.operation import Ruled
from pellucid.attribution.backward.shares import Part, Share, ShareRule, stabiliser
from pellucid.attribution.backward.weighted import Weighted, linear
from pellucid.errors import CannotExplain, GuardError

__all__ = ["SCALINGS", "SHIFTS", "STABILISER", "Composite", "RelevanceState", "spread"]

SCALINGS = frozenset({"Mul", "Div", "Neg", "Add", "Sub", "Rsub"})
"""Nodes that change numbers by constants."""

SHIFTS = frozenset({"add", "sub", "subtract", "rsub", "iadd", "isub", "radd", "batch_norm"})
"""Calls under a rule that do."""

STABILISER = 1e-6
"""ε of every rule but the epsilon rule, relative to the row's root mean square."""


@dataclass(frozen=True)
class Composite:
    """Which rule goes where.

    Attributes
    ----------
    method
        Who asks, for messages.
    convolution, dense
        Rules of convolutions and of linear layers.
    first
        Rule of the operations with weights that see the pixels themselves; None: no special one.
    epsilon
        Stabiliser of the epsilon rule, relative to the row's root mean square.
    positive_sums
        Whether a sum of activations hands relevance to its positive terms only, as z⁺ does in a layer.
    halves
        Whether a gate (sigmoid, softmax) shares relevance half and half with what it lets through, as any product of two
        activations does; otherwise it is a constant.
    """

    method: str = "lrp"
    convolution: ShareRule = shares.epsilon
    dense: ShareRule = shares.epsilon
    first: ShareRule | None = None
    epsilon: float = 1e-6
    positive_sums: bool = False
    halves: bool = False

    def stabiliser(self, rule: ShareRule) -> float:
        """Return the ε of a rule."""
        return self.epsilon if rule is shares.epsilon else STABILISER


@dataclass
class RelevanceState:
    """What the rules of one pass share: its composite, its books, its inputs, and the first layers that were met."""

    composite: Composite
    ledger: Ledger
    entered: tuple[Tensor, ...]
    seen: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Spread:
    """Pulls relevance back through an operation with weights; computed when it is needed, from the input alone."""

    op: Weighted
    name: str
    rule: ShareRule
    state: RelevanceState
    first: bool
    version: int

    def __call__(self, arrived: Tensor) -> tuple[Tensor]:
        if self.op.entering._version != self.version:  # noqa: SLF001
            raise GuardError(
                f"{self.state.composite.method}: the input of {self.name} was overwritten in place afterwards; write it out of place"
            )
        relevance = arrived * self.op.output
        shared = (self._shared(share, relevance) for share in self.rule(self.op))
        found = [given for given in shared if given is not None]
        total = sum(found[1:], found[0]) if found else torch.zeros_like(self.op.entering)
        if not self.first:
            return (total,)
        self._send(total)
        return (torch.zeros_like(total),)

    def _send(self, found: Tensor) -> None:
        """Move first-layer relevance to the pixels it belongs to; what lies on padding belongs to none."""
        ledger, entered = self.state.ledger, self.state.entered
        ledger.take(found, self.name)
        sent = torch.autograd.grad(self.op.source, entered, found, retain_graph=True, allow_unused=True)
        for place, relevance in enumerate(sent):
            if relevance is not None:
                ledger.send(place, relevance)
                ledger.take(-relevance, self.name)

    def _shared(self, share: Share, relevance: Tensor) -> Tensor | None:
        """Return what a share gives back per unit of input, or, in the first layer, outright."""
        kept = relevance if share.portion == 1 else relevance * share.portion
        if share.keep is not None:
            kept = kept * share.keep(self.op.output)
            if not float(kept.abs().amax()):
                return None
        whole, transposed = zip(*(self._product(part, None if place else share.bias)
                                  for place, part in enumerate(share.parts)), strict=True)  # fmt: skip
        denominator = sum(whole[1:], whole[0])
        added = stabiliser(denominator, self.state.composite.stabiliser(self.rule))
        unit = kept / (denominator + added)
        self._keep(unit, added, share.bias)
        given = [self._factored(back(unit), part) for back, part in zip(transposed, share.parts, strict=True)]
        return sum(given[1:], given[0])

    def _product(self, part: Part, bias: Tensor | None) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return what a part contributes to every unit of output, signed, and its transpose."""
        op, weight = self.op, part.weight
        if weight is None:
            spare = None if bias is not None else op.bias
            return op.output if spare is None else op.output - op.column(spare, op.output), op.transposed
        whole, transposed = linear(lambda values: op.apply(values, weight, bias), part.values)
        return whole * part.sign if part.sign != 1 else whole, lambda unit: transposed(unit.sum_to_size(whole.shape))

    def _factored(self, slope: Tensor, part: Part) -> Tensor:
        factor = part.values * part.sign if self.first else part.by
        return slope if isinstance(factor, float) and factor == 1 else slope * factor

    def _keep(self, unit: Tensor, added: Tensor, bias: Tensor | None) -> None:
        """Book what the stabiliser and the bias take."""
        ledger, name = self.state.ledger, self.name
        ledger.take(unit * added, name)
        if bias is not None:
            ledger.take(self.op.per_channel(unit) * bias, name)


def spread(op: Weighted, name: str, state: RelevanceState) -> _Spread:
    """Return how an operation with weights pulls relevance back under the composite's rule for it."""
    composite = state.composite
    first = composite.first is not None and _sees_pixels(op.source, name, composite.method)
    if first:
        state.seen.append(name)
    rule = composite.first if first else composite.convolution if op.convolution else composite.dense
    assert rule is not None  # noqa: S101
    kept = replace(op, output=op.output.clone())  # later calls may write into what the operation returned
    return _Spread(kept, name, rule, state, first, op.entering._version)  # noqa: SLF001


def _sees_pixels(source: Tensor, name: str, method: str) -> bool:
    """Say whether an operation sees nothing but the images themselves, moved about at most."""
    entry, ruled = (kind._backward_cls for kind in (Enter, Ruled))  # noqa: SLF001
    waiting, scaled = [source.grad_fn], False
    while waiting:
        node = waiting.pop()
        if node is None or isinstance(node, entry):
            continue
        called = getattr(node, "called", "") if isinstance(node, ruled) else ""
        if called in SHIFTS or node_name(node) in SCALINGS:
            scaled = True
        elif node_name(node) not in MOVES:
            return False
        waiting += [before for before, _ in node.next_functions]
    if scaled:
        raise CannotExplain(
            f"the network rescales its input before the first layer ({name}), so that the rule of {method} for that layer "
            "would not speak of the pixels; take that step out and give it as Model(..., preprocess=Normalise(mean, std)), "
            "or use lrp(composite='epsilon')"
        )
    return True
