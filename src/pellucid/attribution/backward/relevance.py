"""LRP: relevance per unit of activation, c = R / a, pulled back operation by operation, with every loss booked."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.nn import functional

from pellucid.attribution.backward.bends import linearly, rectified, shifted, taylor, through
from pellucid.attribution.backward.constants import joins_constants, written
from pellucid.attribution.backward.factors import TURNED, multiplied, quotient, weights
from pellucid.attribution.backward.functions import ACTIVATIONS, COMPARISONS, PRODUCTS, QUOTIENTS
from pellucid.attribution.backward.graph import LINEAR, PEAKS
from pellucid.attribution.backward.intercept import Entry, RuleSet, entries, intercepted
from pellucid.attribution.backward.ledger import Books, Enter, Leave, Ledger
from pellucid.attribution.backward.operands import detached, one, several
from pellucid.attribution.backward.operation import Operation, Pullback, Rule, apply_rule, tensors_in
from pellucid.attribution.backward.parts import ATTENTION, PARTS, RECURRENT
from pellucid.attribution.backward.rows import in_rows
from pellucid.attribution.backward.spread import Composite, RelevanceState, spread
from pellucid.attribution.backward.standardised import NORMS, running, standardised
from pellucid.attribution.backward.sums import addcmul, added, addmm, lerp
from pellucid.attribution.backward.weighted import CONVOLUTIONS, DENSE, Weighted, normalisation
from pellucid.errors import CannotExplain
from pellucid.models import Forward, Model, Rules

__all__ = ["relevance_rules"]

_SUMS = ("add", "sub", "subtract", "rsub")
_JOINS = ("cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "index_copy", "index_put")
_FILLS = ("where", "masked_fill", "index_fill", "masked_scatter", "scatter")
_LARGER = ("maximum", "minimum", "max", "min", "fmax", "fmin")

_CHOICES = frozenset({
    "Amin", "Cummax", "Fmax", "Fmin", "Gather", "Kthvalue", "Maximum", "Median", "Min", "Minimum", "RepeatInterleave",
    "Scatter", "Sort", "Where",
})  # fmt: skip
"""Nodes that choose among activations: the plain gradient is the contribution."""


def _normalise(state: RelevanceState, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Fold a BatchNorm into the operation that made its input; elsewhere it is a scale and a shift that absorbs."""
    source = args[0] if args else kwargs["input"]
    before = getattr(getattr(source.grad_fn, "pullback", None), "op", None)
    if not isinstance(before, Weighted) or not before.foldable:
        return apply_rule(in_rows(shifted), state, function, args, kwargs)
    output = function(*detached(args), **{name: detached(value) for name, value in kwargs.items()})
    scale, shift = normalisation(Operation(function, args, kwargs, (), ()))
    folded = before.folded(scale, shift, output)

    def rule(_operation: Operation, state: RelevanceState) -> tuple[Tensor, Pullback]:
        return output, spread(folded, "conv + batch_norm" if folded.convolution else "linear + batch_norm", state)

    return apply_rule(rule, state, function, (before.source,), {})


def _standardise(state: RelevanceState, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Tell an instance normalisation by running statistics from one by the image's own."""
    if function is not functional.instance_norm or not running(args, kwargs):
        return apply_rule(in_rows(standardised), state, function, args, kwargs)
    names = ("input", "running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    given.pop("use_input_stats")
    return _normalise(state, functional.batch_norm, (given.pop("input"),), given)


def _mask(_state: RelevanceState, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Take a mask of activations for a constant: ``h * (h > 0)`` then hands relevance on as a ReLU does."""
    return function(*detached(args), **{name: detached(value) for name, value in kwargs.items()})


def _route(operation: Operation, state: RelevanceState) -> tuple[Tensor, Pullback]:
    """Take the places that a grid samples for constants."""
    output, back = linearly(operation, state)
    return output, lambda arrived: tuple(part if not place else None for place, part in enumerate(back(arrived)))


def _fills(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    return bool(args[3] if len(args) > 3 else kwargs.get("value"))


def _divided(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a quotient divides by an activation."""
    return several(args, kwargs) or (len(args) > 1 and isinstance(args[1], Tensor) and args[1].requires_grad)


def _against_constant(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    return one(args, kwargs) and len(list(tensors_in((args, dict(kwargs))))) > 1


def _rule(rule: Rule, when: Any = None) -> Entry:
    return Entry(in_rows(rule)) if when is None else Entry(in_rows(rule), when)


_REST = {name: part for name, part in PARTS.items() if name in {*ATTENTION, *RECURRENT}
         or name in {"glu", "bilinear", "normalize", "norm", "vector_norm", "std", "var"}}  # fmt: skip

_RULES = RuleSet(
    "lrp",
    {
        **{function: Entry(parts=part) for name, part in _REST.items() for function in entries((name,), Entry())},
        **entries((*ACTIVATIONS, "prelu", "pow"), _rule(through, one)),
        **entries(("relu",), _rule(rectified)),
        **entries(("softmax", "log_softmax", "logsumexp"), _rule(taylor)),
        **entries(_LARGER, _rule(through, _against_constant)),
        **entries(CONVOLUTIONS, _rule(weights, one)),
        **entries(PRODUCTS, Entry(make=multiplied, when=several)),
        **entries(DENSE, Entry(make=multiplied)),
        **entries(QUOTIENTS, _rule(quotient, _divided)),
        **dict.fromkeys(TURNED, _rule(quotient)),
        **entries(_SUMS, _rule(shifted, one)),
        **entries(_JOINS, _rule(shifted, joins_constants)),
        **entries(_FILLS, _rule(shifted, one)),
        **entries(("pad",), _rule(shifted, _fills)),
        **entries(COMPARISONS, Entry(make=_mask)),
        **entries(("addmm", "baddbmm", "addmv"), Entry(parts=addmm)),
        **entries(("addcmul",), Entry(parts=addcmul)),
        **entries(("lerp",), Entry(parts=lerp)),
        **entries(("grid_sample",), _rule(_route, several)),
        **dict.fromkeys(NORMS, Entry(make=_standardise, when=one)),
        **dict.fromkeys((Tensor.__setitem__, Tensor.copy_), Entry(make=written)),
        functional.batch_norm: Entry(make=_normalise),
    },
    LINEAR | PEAKS | _CHOICES,
    ours=(Enter, Leave),
)
_POSITIVE = replace(_RULES, table={**_RULES.table, **entries(_SUMS, Entry(make=added))})


def relevance_rules(composite: Composite, books: Books, at: str | None = None) -> Rules:
    """Return rules for `Passes.gradient` that give relevance, and write down what was absorbed.

    Parameters
    ----------
    composite
        Which rule goes where.
    books
        Accounts of all rows. The pass is given the inputs followed by one column ``(N, 1)`` with the rows' numbers.
    at
        The layer at whose output relevance is asked for: there the "gradients" are relevance per unit of activation;
        without, they are the inputs' relevance.
    """

    def change(model: Model, forward: Forward) -> Forward:
        def changed(*given: Tensor) -> tuple[Tensor, ...]:
            *inputs, numbers = given
            ledger = Ledger(books, numbers.detach()[:, 0].long())
            entered = Enter.apply(ledger, *inputs)  # type: ignore[no-untyped-call]
            state = RelevanceState(composite, ledger, entered)
            rules = _POSITIVE if composite.positive_sums else _RULES
            outputs = intercepted(rules.named(composite.method), state, model, forward, entered)
            if composite.first is not None and at is None and not state.seen:
                raise CannotExplain(
                    f"{composite.method}: no convolution or linear layer of the network sees the pixels themselves, which "
                    "the first layer's rule needs; use lrp(composite='epsilon')"
                )
            out = [Leave.apply(ledger, output) for output in (outputs if at is None else outputs[:1])]  # type: ignore[no-untyped-call]
            return (*out, *outputs[len(out) :])

        return changed

    return change
