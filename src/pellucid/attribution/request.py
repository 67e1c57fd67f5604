"""One request to explain, checked, carried out, and told as explanations."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor

from pellucid.attribution.explanation import Explanation
from pellucid.attribution.method import METHODS, Attribution, Call, Method, row_seeds
from pellucid.attribution.several import for_target
from pellucid.errors import CannotExplain, ShapeError
from pellucid.models import Inputs, Model, Passes, ReadOut, Target

__all__ = ["Request", "Spent"]


@dataclass(frozen=True)
class Request:
    """What is to be explained with what, checked and in model space.

    Attributes
    ----------
    model, method
        As values.
    inputs
        One tensor ``(N, C, *S)`` an input, in model space.
    tupled
        Whether the images came as a tuple.
    ids, seed
        As given.
    """

    model: Model
    method: Method
    inputs: Inputs
    tupled: bool
    ids: tuple[str, ...] | None
    seed: int

    @classmethod
    def of(
        cls,
        model: Model | Callable[..., Any],
        x: Tensor | Sequence[Tensor],
        method: str | Method,
        ids: Sequence[str] | None,
        seed: int,
    ) -> Self:
        """Check that the method, the model and the images go together.

        Raises
        ------
        BadRecipe, ShapeError, CannotExplain
            When they do not.
        """
        own, recipe = Model.of(model), METHODS.parse(method)
        _capable(recipe, own)
        inputs = tuple(tensor.detach() for tensor in own.prepare(x))
        rows = len(inputs[0])
        if ids is not None and len(ids) != rows:
            raise ShapeError(f"{len(ids)} ids were given for {rows} images")
        return cls(own, recipe, inputs, not isinstance(x, Tensor), None if ids is None else tuple(ids), seed)

    def call(self, passes: Passes, outputs: Tensor, read: ReadOut) -> Call:
        """Return what the method is given; `read` may score several targets."""
        output = (passes.scores(self.inputs, read) if read.layer else read(outputs, _every(outputs))).clone()
        return Call(passes, self.inputs, read, output, row_seeds(self.seed, self.ids, len(output)))

    def one(self, spent: "Spent", outputs: Tensor, target: Target) -> Explanation:
        """Explain one target."""
        call = self.call(spent.passes, outputs, target.freeze(self.model, outputs))
        _finite(call.output, target)
        return self._told(self.method.attribute(call), target, call.output, spent)

    def all(self, spent: "Spent", outputs: Tensor, targets: Sequence[Target], read: ReadOut) -> tuple[Explanation, ...]:
        """Explain several targets in one run; `read` scores them all."""
        call = self.call(spent.passes, outputs, read)
        for place, target in enumerate(targets):
            _finite(call.output[:, place], target)
        found = self.method.attribute(call)
        return tuple(
            self._told(for_target(found, place), target, call.output[:, place], spent)
            for place, target in enumerate(targets)
        )

    def _told(self, result: Attribution, target: Target, output: Tensor, spent: "Spent") -> Explanation:
        _sound(result, self.method, self.inputs)
        several = self.tupled and len(result.values) > 1
        return Explanation(
            values=tuple(_home(result.values)) if several else _home(result.values)[0],
            method=self.method,
            target=target,
            output=output.cpu(),
            reference_output=_cpu(result.reference_output),
            absorbed=_cpu(result.absorbed),
            gap=_gap(result, self.method, output),
            error=None if result.error is None else (_home(result.error) if several else _home(result.error)[0]),
            ids=self.ids,
            seed=self.seed,
            warnings=(*result.warnings, *spent.passes.warnings),
            details=dict(result.details),
            **spent.since(),
        )


class Spent:
    """What has passed through a model since it was last asked."""

    def __init__(self, passes: Passes) -> None:
        self.passes = passes
        self._seconds, self._forwards, self._backwards = time.perf_counter(), passes.forwards, passes.backwards

    def since(self) -> dict[str, Any]:
        """Return seconds, forwards and backwards since the last time; targets that share a run after its first have none."""
        passes, now = self.passes, time.perf_counter()
        spent = {
            "seconds": now - self._seconds,
            "forwards": passes.forwards - self._forwards,
            "backwards": passes.backwards - self._backwards,
        }
        self._seconds, self._forwards, self._backwards = now, passes.forwards, passes.backwards
        return spent


def _every(outputs: Tensor) -> Tensor:
    return outputs.new_ones(len(outputs)).cumsum(0).long() - 1


def _cpu(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().cpu()


def _home(tensors: Inputs) -> Inputs:
    return tuple(tensor.detach().cpu() for tensor in tensors)


def _capable(method: Method, model: Model) -> None:
    has = model.capabilities
    for need in method.needs:
        if getattr(has, need) is False:
            would = [name for name, known in METHODS.items()
                     if all(getattr(has, other) is not False for other in known.taxonomy.needs)]  # fmt: skip
            raise CannotExplain(
                f"{method} needs {need}, which {model!r} does not offer; these methods do not: {', '.join(would)}"
            )


def _finite(output: Tensor, target: Target) -> None:
    broken = (~output.isfinite()).nonzero()
    if len(broken):
        row = int(broken[0])
        raise CannotExplain(
            f"the model gives {float(output[row])} for {target} of row {row}: there is nothing to explain"
        )


def _sound(result: Attribution, method: Method, inputs: Inputs) -> None:
    for place, values in enumerate(result.values):
        if len(values) != len(inputs[0]):
            raise CannotExplain(f"{method} returned {len(values)} maps for {len(inputs[0])} images")
        if not bool(values.isfinite().all()):
            raise CannotExplain(
                f"{method} gave NaN or infinity for input {place} of shape {tuple(values.shape)}; no map is returned"
            )


def _gap(result: Attribution, method: Method, output: Tensor) -> Tensor | None:
    if method.taxonomy.complete == "none" or (result.reference_output is None and result.absorbed is None):
        return None
    total = sum((values.double().flatten(1).sum(1) for values in result.values), start=output.new_zeros(()).double())
    for part in (result.absorbed, result.reference_output):
        if part is not None:
            total = total + part.double()
    return (total - output.double()).abs().float().cpu()
