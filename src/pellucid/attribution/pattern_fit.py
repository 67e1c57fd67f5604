"""Fitting patterns: for each unit of a network, the direction in its inputs that its response comes from.

The estimator is streamed: sums over a batch of images are all that is kept.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pellucid.attribution.backward.linear_calls import LinearCall
from pellucid.attribution.backward.patterned import watching
from pellucid.attribution.patterns import Patterns
from pellucid.errors import CannotExplain, GuardError, ShapeError
from pellucid.images import ImageSet
from pellucid.models import Model, Passes

__all__ = ["fit_patterns"]

_ALIGNED = 1e-4
"""Cosine between a unit's weight and its covariance with the input below which it has no pattern."""

_AT_ONCE = 64


@dataclass
class _Sums:
    """What is kept of one call over all images; outputs are counted from `shift`, which changes no covariance."""

    call: LinearCall
    shift: Tensor
    places: float
    outputs: Tensor
    chosen: Tensor
    inputs: Tensor
    products: Tensor

    @classmethod
    def of(cls, call: LinearCall) -> "_Sums":
        units = _per_unit(call, call.output).double()
        weight = torch.zeros_like(call.weight, dtype=torch.float64)
        shift = units / (call.output.numel() / len(units))
        return cls(
            call, shift.to(call.output), 0.0, torch.zeros_like(units), torch.zeros_like(units), weight, weight.clone()
        )

    def add(self, call: LinearCall) -> None:
        """Take one batch in: gradients by the weight are the sums of input × whatever stands at the output."""
        if call.rectified != self.call.rectified or call.weight.shape != self.call.weight.shape:
            raise CannotExplain(
                f"the network runs otherwise from batch to batch (at {call.name}): its calls have no patterns"
            )
        if call.op.entering._version != call.version:  # noqa: SLF001
            raise GuardError(f"the input of {call.name} was overwritten in place afterwards; write it out of place")
        on = (call.output > 0).to(call.output) if call.rectified else torch.ones_like(call.output)
        above = call.output - call.op.column(self.shift, call.output)
        with torch.enable_grad():
            weight = call.weight.clone().requires_grad_()
            output = call.op.apply(call.op.entering, weight, None)
        (inputs,) = torch.autograd.grad(output, weight, on, retain_graph=True)
        (products,) = torch.autograd.grad(output, weight, on * above)
        self.places += above.numel() / len(self.shift)
        self.outputs += _per_unit(call, above).double()
        self.chosen += _per_unit(call, on).double()
        self.inputs += inputs.double()
        self.products += products.double()

    def pattern(self) -> Tensor:
        """Return (E₊[xy] − E₊[x] E[y]) / wᵀ(the same), and nothing for units that no image switched on."""
        op = self.call.op
        share = 1 / self.chosen.clamp(min=1)
        mean = share * self.outputs / self.places
        covariance = op.scaled(self.products, share) - op.scaled(self.inputs, mean)
        weight = self.call.weight.double()
        signal = self.call.over_inputs(weight * covariance)
        lengths = (self.call.over_inputs(part.square()) for part in (weight, covariance))
        least = _ALIGNED * torch.stack([length.sqrt() for length in lengths]).prod(0)
        known = (signal.abs() > least) & (self.chosen > 1)
        return op.scaled(covariance, torch.where(known, 1 / torch.where(known, signal, 1), 0)).float()


def _per_unit(call: LinearCall, values: Tensor) -> Tensor:
    """Return the sum over rows and places of each unit."""
    return values.movedim(call.op.axis, 0).flatten(1).sum(1)


def fit_patterns(
    model: Model | Callable[..., Any],
    images: Tensor | Sequence[Tensor] | ImageSet | Iterable[Tensor | Sequence[Tensor]],
    *,
    batch_size: int | None = None,
    progress: bool = False,
) -> Patterns:
    """Learn what signal each unit of a network picks up, from images without labels.

    A unit's weight also cancels what it must ignore, such as uneven illumination; its pattern is the direction in which
    its input changes with its response: the covariance of input and response, scaled so that weight · pattern = 1. Where a
    ReLU follows, only inputs that switch the unit on count, the two-component estimator (E₊[xy] − E₊[x] E[y]) / wᵀ(...).
    BatchNorm is folded into the layer before it.

    Parameters
    ----------
    model
        A `Model`, or any ``nn.Module`` or callable.
    images
        Images ``(N, C, *S)`` such as the model was trained on (a tuple of tensors for nets of several inputs), an
        `ImageSet`, or an iterable of batches: only one batch is held at a time.
    batch_size
        Rows a pass; default automatic.
    progress
        Whether to show a bar.

    Returns
    -------
    Patterns
        For ``pattern_net(patterns=...)`` and ``pattern_attribution(patterns=...)``.

    Raises
    ------
    GuardError
        When the network holds an operation without a pattern; the sentence names it.
    CannotExplain
        When it has no layer with weights.

    References
    ----------
    Kindermans et al. 2018, Learning how to explain neural networks, ICLR.
    """
    model = Model.of(model)
    known: list[_Sums] = []

    def see(calls: list[LinearCall]) -> None:
        if not known:
            known.extend(_Sums.of(call) for call in calls)
        if len(known) != len(calls):
            raise CannotExplain(
                f"the network makes {len(known)} calls with weights for one batch and {len(calls)} for another"
            )
        for sums, call in zip(known, calls, strict=True):
            sums.add(call)

    with Passes(model, batch_size=batch_size, progress=progress) as passes:
        for batch in _batches(images):
            inputs = model.prepare(batch)
            passes.expect(len(inputs[0]), "fitting patterns")
            passes.observe(inputs, watching(see))
    if not known:
        raise CannotExplain("the network has no convolution or linear layer that could have a pattern")
    return Patterns({_key(place, sums.call): sums.pattern() for place, sums in enumerate(known)})


def _key(place: int, call: LinearCall) -> str:
    return f"{place:04d} {call.name}, {'before a ReLU' if call.rectified else 'linear'}"


def _batches(images: Any) -> Iterator[Tensor | Sequence[Tensor]]:
    """Yield batches; a tensor, or a tuple of them, is one."""
    if isinstance(images, ImageSet):
        yield from (images.tensor(images.ids[at : at + _AT_ONCE]) for at in range(0, len(images.ids), _AT_ONCE))
    elif isinstance(images, Tensor) or (isinstance(images, tuple) and all(isinstance(one, Tensor) for one in images)):
        yield images
    elif isinstance(images, Iterable):
        yield from images
    else:
        raise ShapeError(f"fit_patterns takes images (N, C, *S), an ImageSet or batches, not {type(images).__name__}")
