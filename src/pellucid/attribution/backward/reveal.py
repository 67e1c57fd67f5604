"""RevealCancel: positive and negative parts of every difference go through a nonlinearity on their own.

A layer with weights gives each of its outputs two parts, what raised it and what lowered it (Δz⁺ + Δz⁻ = Δz). They are
tensors of the graph: sums, normalisations and moves carry them, a nonlinearity takes them in. They are made when one asks.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from pellucid.attribution.backward.beside import Beside, at_both
from pellucid.attribution.backward.functions import ACTIVATIONS, STRAIGHT, functions
from pellucid.attribution.backward.intercept import Entry, RuleSet, entries
from pellucid.attribution.backward.masks import MASKS
from pellucid.attribution.backward.operation import Function, Operation, apply_rule, substituted, tensors_in
from pellucid.attribution.backward.rescale import RESCALE
from pellucid.attribution.backward.slopes import bent, middle, ratio, straight

__all__ = ["REVEAL", "Kind", "Revealing"]

Kind = Literal["convolution", "dense"]

_CONVOLUTIONS = tuple(f"conv{kind}{rank}d" for kind in ("", "_transpose") for rank in (1, 2, 3))
_CARRIERS = (
    "view", "reshape", "flatten", "unflatten", "permute", "transpose", "movedim", "squeeze", "unsqueeze", "cat", "concat",
    "dropout", "dropout2d", "dropout3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d",
    "adaptive_avg_pool2d", "adaptive_avg_pool3d", "mean", "sum", "contiguous", "clone", "getitem", "pixel_shuffle",
)  # fmt: skip
"""Linear with weights that are nought or positive: parts go through as they are."""

_BOUNDED = frozenset(("log", "log1p", "log2", "log10", "logit", "sqrt", "rsqrt", "reciprocal", "tan"))
"""Not defined everywhere, so not at a baseline with one part alone."""

_SUMS = ("add", "sub", "subtract")


@dataclass
class Parts:
    """What raised a tensor and what lowered it, made when asked for; void once the tensor is written over."""

    of: Tensor
    kind: Kind
    make: Callable[[], tuple[Tensor, Tensor]]
    version: int = 0
    made: tuple[Tensor, Tensor] | None = None

    def __post_init__(self) -> None:
        self.version = self.of._version  # noqa: SLF001

    def get(self) -> tuple[Tensor, Tensor]:
        """Return the parts."""
        if self.made is None:
            self.made = self.make()
        return self.made


@dataclass
class Revealing(Beside):
    """The state of a pass: what the baselines went through, and the parts of tensors by their ids."""

    parts: dict[int, Parts] = field(default_factory=dict)
    reveal: frozenset[Kind] = frozenset()

    def differences(self, name: str, *operands: Tensor) -> tuple[Tensor, ...]:
        """Return how far operands lie from the baselines'; while the baselines pass, keep theirs."""
        values = tuple(operand.detach() for operand in operands)
        if self.kept is None:
            self.keep(name, values)
            return values
        return tuple(value - before for value, before in zip(values, self.take(name, values), strict=True))

    def known(self, tensor: Any) -> Parts | None:
        """Return a tensor's parts if there are any."""
        found = self.parts.get(id(tensor))
        return found if found is not None and found.version == tensor._version else None  # noqa: SLF001

    def note(self, tensor: Tensor, kind: Kind, make: Callable[[], tuple[Tensor, Tensor]]) -> None:
        """Note how a tensor's parts are made; its baseline's run needs none."""
        if self.kept is not None:
            self.parts[id(tensor)] = Parts(tensor, kind, make)


class _Raised(torch.autograd.Function):
    """From a layer's input to its output's two parts: each input goes to one of them, by the sign of weight × Δinput."""

    @staticmethod
    def forward(ctx: Any, apart: Tensor, layer: Callable[..., Tensor], weight: Tensor, _entering: Tensor) -> Any:
        """Return both parts."""
        ctx.apart, ctx.layer, ctx.weights = apart, layer, (weight.clamp(min=0), weight.clamp(max=0))
        sides = (apart.clamp(min=0), apart.clamp(max=0))
        up, down = ctx.weights
        return layer(sides[0], up) + layer(sides[1], down), layer(sides[0], down) + layer(sides[1], up)

    @staticmethod
    def backward(ctx: Any, raised: Tensor, lowered: Tensor) -> Any:
        """Pull both multipliers back; an input that does not differ gets half of each."""
        up, down = ctx.weights
        above = _pulled(ctx.layer, ctx.apart, up, raised) + _pulled(ctx.layer, ctx.apart, down, lowered)
        below = _pulled(ctx.layer, ctx.apart, up, lowered) + _pulled(ctx.layer, ctx.apart, down, raised)
        sent = torch.where(ctx.apart > 0, above, torch.where(ctx.apart < 0, below, (above + below) / 2))
        return None, None, None, sent


def _pulled(layer: Callable[..., Tensor], at: Tensor, weight: Tensor, arrived: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = at.detach().requires_grad_()
        (slope,) = torch.autograd.grad(layer(leaf, weight), leaf, arrived)
    return slope


class _Split(torch.autograd.Function):
    """From a tensor to its two parts where nothing is known of them: each unit is all risen or all fallen."""

    @staticmethod
    def forward(ctx: Any, apart: Tensor, _whole: Tensor) -> Any:
        """Return both parts."""
        ctx.apart = apart
        return apart.clamp(min=0), apart.clamp(max=0)

    @staticmethod
    def backward(ctx: Any, raised: Tensor, lowered: Tensor) -> Any:
        """Pull back the multiplier of the part that a unit is."""
        return None, torch.where(ctx.apart > 0, raised, torch.where(ctx.apart < 0, lowered, (raised + lowered) / 2))


class _Revealed(torch.autograd.Function):
    """A function of one number, of two parts: each part's effect is the mean of its effects before and after the other's."""

    @staticmethod
    def forward(ctx: Any, call: Operation, baseline: Tensor, raised: Tensor, lowered: Tensor) -> Any:
        """Return the output and its two parts."""
        output = call.run(*call.active)
        start, top, low = (call.run(at) for at in (baseline, baseline + raised, baseline + lowered))
        ups, downs = (top - start + output - low) / 2, (low - start + output - top) / 2
        whole = ratio(output - start, raised + lowered, 0.0)
        ctx.slopes = ratio(ups, raised, whole), ratio(downs, lowered, whole)
        return output, ups, downs

    @staticmethod
    def backward(ctx: Any, whole: Tensor, raised: Tensor, lowered: Tensor) -> Any:
        """Pull each part's multiplier back to it."""
        up, down = ctx.slopes
        return None, None, (whole + raised) * up, (whole + lowered) * down


def _active(args: Any, kwargs: Mapping[str, Any]) -> list[Tensor]:
    found = [tensor for tensor in tensors_in((args, dict(kwargs))) if tensor.requires_grad]
    return list({id(tensor): tensor for tensor in found}.values())


def _name(function: Function) -> str:
    return str(function.__name__).strip("_")


def _weigh(state: Revealing, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Make a layer with weights, and note what raises and lowers its outputs."""
    active = _active(args, kwargs)
    given = {**dict(zip(("input", "weight", "bias"), args, strict=False)), **kwargs}
    entering, weight = given.pop("input"), given.pop("weight")
    given.pop("bias", None)
    if len(active) > 1:
        return apply_rule(at_both(middle), state, function, args, kwargs)
    output = function(*args, **kwargs)
    if not active or active[0] is not entering:
        return output
    (apart,) = state.differences(_name(function), entering)

    def layer(values: Tensor, weights: Tensor) -> Tensor:
        return function(values, weights, None, *args[3:], **given)  # type: ignore[no-any-return]

    kind: Kind = "dense" if function in _DENSE else "convolution"
    state.note(output, kind, lambda: _Raised.apply(apart, layer, weight, entering))  # type: ignore[no-untyped-call]
    return output


def _normalise(state: Revealing, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Carry parts through BatchNorm: a negative scale turns what raised into what lowered."""
    output = function(*args, **kwargs)
    rest = {name: value for name, value in kwargs.items() if name != "input"}
    entering = args[0] if args else kwargs["input"]
    found = state.known(entering)
    if found is None:
        return output

    def parts() -> tuple[Tensor, Tensor]:
        one, none = (function(make(entering), *args[1:], **rest) for make in (torch.ones_like, torch.zeros_like))
        up, down = (one - none).clamp(min=0), (one - none).clamp(max=0)
        raised, lowered = found.get()
        return raised * up + lowered * down, raised * down + lowered * up

    state.note(output, found.kind, parts)
    return output


def _carry(state: Revealing, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Carry parts along with what moves or averages their tensors."""
    if state.masks and function in MASKS:
        return MASKS[function].make(state, function, args, kwargs)  # type: ignore[misc]
    output, active = function(*args, **kwargs), _active(args, kwargs)
    found = {id(tensor): parts for tensor in active if (parts := state.known(tensor)) is not None}
    if not isinstance(output, Tensor) or not found or len(found) < len(active):
        return output
    constants = {
        id(tensor): torch.zeros_like(tensor) for tensor in tensors_in((args, dict(kwargs))) if not tensor.requires_grad
    }

    def side(place: int) -> Tensor:
        own = {**constants, **{key: parts.get()[place] for key, parts in found.items()}}
        given, named = substituted((args, dict(kwargs)), own)
        return function(*given, **named)  # type: ignore[no-any-return]

    state.note(output, _kind(*found.values()), lambda: (side(0), side(1)))
    return output


def _sum(state: Revealing, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Add up the parts of both terms; what is taken away lowers by what raised it."""
    output, active = function(*args, **kwargs), _active(args, kwargs)
    if kwargs or len(args) != 2 or not active:
        return output
    aparts = dict(zip(map(id, active), state.differences(_name(function), *active), strict=True))
    found = {id(term): state.known(term) for term in active}
    if state.kept is None or not any(found.values()):
        return output

    def parts_of(term: Any) -> tuple[Any, Any]:
        if id(term) not in aparts:
            return 0.0, 0.0
        known = found[id(term)]
        return _Split.apply(aparts[id(term)], term) if known is None else known.get()  # type: ignore[no-untyped-call]

    def parts() -> tuple[Tensor, Tensor]:
        (raised, lowered), (more, less) = (parts_of(term) for term in args)
        return (raised - less, lowered - more) if "sub" in _name(function) else (raised + more, lowered + less)

    state.note(output, _kind(*(known for known in found.values() if known is not None)), parts)
    return output


def _reveal(state: Revealing, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Take parts through a function of one number; without parts, or where they are not wanted, by Rescale."""
    rule, (entering,) = straight if function in _STRAIGHT else bent, _active(args, kwargs)
    found = state.known(entering)
    if state.kept is None or found is None or found.kind not in state.reveal:
        return apply_rule(at_both(rule), state, function, args, kwargs)
    call = Operation(function, args, kwargs, (entering.detach(),), (entering,))
    (baseline,) = state.take(call.name, call.active)
    output, raised, lowered = _Revealed.apply(call, baseline, *found.get())  # type: ignore[no-untyped-call]
    state.note(output, found.kind, lambda: (raised, lowered))
    return output


def _kind(*parts: Parts) -> Kind:
    return "convolution" if any(part.kind == "convolution" for part in parts) else "dense"


def _one(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    return len(_active(args, kwargs)) == 1


def _written(state: Revealing, target: Tensor, result: Any) -> None:
    """Hand on the parts of what was written over a tensor."""
    found = state.known(result)
    if found is not None:
        state.note(target, found.kind, found.get)


_STRAIGHT = frozenset(functions(STRAIGHT))
_DENSE = frozenset(functions(("linear",)))
REVEAL = RuleSet(
    "deeplift_reveal_cancel",
    {
        **RESCALE.table,
        **entries(
            tuple(name for name in (*ACTIVATIONS, *STRAIGHT) if name not in _BOUNDED), Entry(make=_reveal, when=_one)
        ),
        **entries(_CARRIERS, Entry(make=_carry)),
        **entries(_SUMS, Entry(make=_sum)),
        **entries((*_CONVOLUTIONS, "linear"), Entry(make=_weigh)),
        functional.batch_norm: Entry(make=_normalise),
    },
    RESCALE.allowed,
    ours=(_Raised, _Split, _Revealed),
    follow=RESCALE.follow,
    written=_written,
)
"""Rescale, with parts where there are such."""
