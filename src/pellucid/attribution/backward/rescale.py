"""DeepLIFT's rules: each operation's slope between two points, the image's and the baseline's.

Rows travel in pairs: the first half of every tensor belongs to the images, the second to their baselines. What is
pulled back through the first half is a multiplier m with Σ m·Δinput = Δoutput at every operation.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pellucid.attribution.backward.functions import ACTIVATIONS, MAX_POOLS, PRODUCTS, QUOTIENTS, functions
from pellucid.attribution.backward.graph import LINEAR, WEIGHTED
from pellucid.attribution.backward.intercept import Entry, RuleSet, entries, intercepted
from pellucid.attribution.backward.operation import Operation, Pullback, tensors_in
from pellucid.errors import GuardError
from pellucid.models import Forward, Model, ReadOut, Rules

__all__ = ["between", "rescale_rules"]

_SMALL = 1e-6
"""A difference below this fraction of the row's largest activation counts as none: the slope is the gradient."""

_NODES = 32
"""Points of the quadrature that takes the mean slope of a target that is not linear in the outputs."""


@dataclass(frozen=True)
class _Pairs:
    rows: int

    def halves(self, tensor: Tensor, operation: Operation) -> tuple[Tensor, Tensor]:
        if tensor.ndim == 0 or len(tensor) % (2 * self.rows):
            raise GuardError(
                f"deeplift: {operation.name} works on shape {tuple(tensor.shape)}, whose first axis does not hold the "
                f"{self.rows} rows; keep the row axis first, or use integrated_gradients"
            )
        image, baseline = tensor.chunk(2)
        return image, baseline


def _largest(tensor: Tensor) -> Tensor:
    return tensor.abs().flatten(1).amax(1).view(-1, *[1] * (tensor.ndim - 1)) if tensor.ndim > 1 else tensor.abs()


def _rescale(operation: Operation, pairs: _Pairs) -> tuple[Tensor, Pullback]:
    """Slope a function of one number: Δoutput / Δinput, or the gradient where the input hardly differs."""
    (entering,) = operation.active
    output: Tensor = operation.run(entering)
    if output.shape != entering.shape:
        raise GuardError(
            f"deeplift: {operation.name} gives shape {tuple(output.shape)} for {tuple(entering.shape)}; use integrated_gradients"
        )
    image, baseline = pairs.halves(entering, operation)
    above, below = pairs.halves(output, operation)
    apart = image - baseline
    small = apart.abs() <= _SMALL * torch.maximum(_largest(image), _largest(baseline))
    slope = (above - below) / torch.where(small, 1.0, apart)
    if bool(small.any()):
        slope = torch.where(small, _derivative(operation, entering)[: len(image)], slope)
    return output, lambda arrived: (torch.cat([arrived[: len(slope)] * slope, torch.zeros_like(slope)]),)


def _derivative(operation: Operation, entering: Tensor) -> Tensor:
    with torch.enable_grad():
        point = entering.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(operation.run(point).sum(), point)
    return slope


def _peak(operation: Operation, pairs: _Pairs) -> tuple[Any, Pullback]:
    """Send the difference of two maxima to the position that makes the larger one."""
    (entering,) = operation.active
    output, places, asked = _pooled(operation, entering)
    rank = int(operation.name.split("max_pool")[1][0])
    image, baseline = (half.flatten(-rank) for half in pairs.halves(entering, operation))
    above, below = pairs.halves(output, operation)
    place = torch.where(above >= below, *pairs.halves(places, operation)).flatten(-rank)
    apart = (image - baseline).gather(-1, place)
    same = apart == 0
    share = torch.where(same, 1.0, (above - below).flatten(-rank) / torch.where(same, 1.0, apart))

    rows, shape, blank = len(above), entering[: len(above)].shape, torch.zeros_like(image)

    def pull(arrived: Tensor) -> tuple[Tensor]:  # holds no view of the output, which would keep the graph alive
        sent = arrived[:rows].flatten(-rank) * share
        spread = blank.scatter_add(-1, place, sent).view(shape)
        return (torch.cat([spread, torch.zeros_like(spread)]),)

    return (output, places) if asked else output, pull


def _pooled(operation: Operation, entering: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Return maxima, their positions, and whether the model asked for positions."""
    name = operation.name.removesuffix("_with_indices")
    given = {key: value for key, value in operation.kwargs.items() if key not in {"return_indices", "input"}}
    last = {"max_pool": 6, "adaptive_max_pool": 2}[name[:-2]]
    asked = operation.name != name or operation.function is torch.adaptive_max_pool1d
    asked = asked or bool(operation.kwargs.get("return_indices")) or any(operation.args[last:])
    output, places = getattr(functional, f"{name}_with_indices")(entering, *operation.args[1:last], **given)
    return output, places, asked


def _product(operation: Operation, pairs: _Pairs) -> tuple[Tensor, Pullback]:
    """Slope a bilinear operation by the means of both points: Δ(ab) = b̄ Δa + ā Δb, exactly."""
    output: Tensor = operation.run(*operation.active)
    halves = [pairs.halves(factor, operation) for factor in operation.active]
    middles = [((image + baseline) / 2).requires_grad_() for image, baseline in halves]
    with torch.enable_grad():
        middle = operation.run(*middles)

    def pull(arrived: Tensor) -> tuple[Tensor, ...]:
        slopes = torch.autograd.grad(middle, middles, arrived[: len(middle)])
        return tuple(torch.cat([slope, torch.zeros_like(slope)]) for slope in slopes)

    return output, pull


def _quotient(_pairs: _Pairs, above: Any, below: Any) -> Tensor:
    return torch.mul(torch.reciprocal(below), above)


def _reflected(_pairs: _Pairs, below: Any, above: Any) -> Tensor:
    return torch.mul(torch.reciprocal(below), above)


def _exponentials(scores: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Subtract the larger of both points' maxima: the same constant for both, so that no difference is lost."""
    top = scores.detach().amax(dim, keepdim=True).chunk(2)
    shifted = scores - torch.maximum(*top).repeat(2, *[1] * (scores.ndim - 1))
    return shifted, torch.exp(shifted)


def _softmax(_pairs: _Pairs, input: Tensor, dim: int = -1, *_rest: Any, **_settings: Any) -> Tensor:  # noqa: A002
    _, weights = _exponentials(input, dim)
    return torch.mul(weights, torch.reciprocal(weights.sum(dim, keepdim=True)))


def _log_softmax(_pairs: _Pairs, input: Tensor, dim: int = -1, *_rest: Any, **_settings: Any) -> Tensor:  # noqa: A002
    shifted, weights = _exponentials(input, dim)
    return shifted - torch.log(weights.sum(dim, keepdim=True))


def _active(values: Any) -> int:
    return sum(tensor.requires_grad for tensor in tensors_in(values))


def _by_activation(args: tuple[Any, ...], kwargs: Any) -> bool:
    return _active((args[1:], kwargs)) > 0


_DIVISIONS = functions(QUOTIENTS)
_RULES = RuleSet(
    "deeplift",
    {
        **entries(ACTIVATIONS, Entry(_rescale)),
        **entries(("pow",), Entry(_rescale, lambda args, kwargs: _active((args, kwargs)) == 1)),
        **entries(MAX_POOLS, Entry(_peak)),
        **entries(PRODUCTS, Entry(_product, lambda args, kwargs: _active((args, kwargs)) > 1)),
        **{function: Entry(parts=_reflected) if function.__name__.startswith("__r")
           else Entry(parts=_quotient, when=_by_activation) for function in _DIVISIONS},
        **entries(("softmax",), Entry(parts=_softmax)),
        **entries(("log_softmax",), Entry(parts=_log_softmax)),
    },
    LINEAR | WEIGHTED,
)  # fmt: skip


def rescale_rules(inputs: int) -> Rules:
    """Return rules for `Passes.gradient` that propagate DeepLIFT multipliers.

    The pass is given `inputs` image tensors followed by as many baseline tensors; outputs come back with an axis of
    length two after the rows, image first, to be read by `between`.
    """

    def change(model: Model, forward: Forward) -> Forward:
        def changed(*given: Tensor) -> tuple[Tensor, ...]:
            pairs = _Pairs(len(given[0]))
            both = tuple(torch.cat(pair) for pair in zip(given[:inputs], given[inputs:], strict=True))
            outputs = intercepted(_RULES, pairs, model, forward, both)
            return tuple(torch.stack(output.chunk(2), 1) for output in outputs)

        return changed

    return change


def between(read: ReadOut) -> ReadOut:
    """Return a read-out of image-and-baseline outputs: the target's value at the image, sloped from the baseline.

    A target that is linear in the outputs has one slope; for another (`LogOdds`, `Similarity`) it is the mean gradient
    along the line between the two outputs, so that slope × Δoutput is the target's difference.
    """
    points, weights = np.polynomial.legendre.leggauss(_NODES)

    def paired(outputs: Tensor, rows: Tensor) -> Tensor:
        image, baseline = outputs.unbind(1)
        start, way = baseline.detach(), (image - baseline).detach()
        slope = torch.zeros_like(start)
        for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
            place = (start + float(point) * way).requires_grad_()
            (there,) = torch.autograd.grad(read(place, rows).sum(), place)
            slope = slope + float(weight) * there
        value = read(image.detach(), rows)
        return value + (slope * (image - image.detach())).flatten(1).sum(1)

    return ReadOut(paired, read.layer)
