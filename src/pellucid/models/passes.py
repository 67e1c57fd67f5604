"""The one way through a model: every forward and backward of every engine and metric goes through `Passes`.

While a `Passes` is open the network is in eval mode with frozen parameters; afterwards modes, buffers, hooks,
``requires_grad`` and ``.grad`` are what they were, also after an exception.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any, Self

import torch
from rich.progress import Progress
from torch import Tensor

from pellucid.errors import CannotExplain, GuardError, PellucidError, ShapeError
from pellucid.models.frozen import frozen
from pellucid.models.model import Inputs, Model
from pellucid.models.tapping import Forward, Rules, tapping
from pellucid.models.targets import ReadOut

__all__ = ["Passes", "repeat_rows", "take_rows"]

_AGREEMENT = 1e-4
"""How far, relative to a row's largest output, a forward under rules may lie from the plain forward."""

_ELEMENTS = {"cpu": 2**21, "cuda": 2**25}
_LARGEST = {"cpu": 64, "cuda": 1024}


def take_rows(inputs: Inputs, rows: Tensor | slice) -> Inputs:
    """Return those rows of every input."""
    return tuple(tensor[rows] for tensor in inputs)


def repeat_rows(inputs: Inputs, times: int) -> Inputs:
    """Return every row `times` times in a run: rows 0, 0, ..., 1, 1, ..."""
    return tuple(tensor.repeat_interleave(times, 0) for tensor in inputs)


def _out_of_memory(error: RuntimeError) -> bool:
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in said or "out of memory" in said


def _versions(batch: Inputs) -> list[int]:
    """Return counters that grow with every write into the tensors; those of inference mode keep none."""
    return [0 if tensor.is_inference() else tensor._version for tensor in batch]  # noqa: SLF001  # no public name


class Passes:
    """A frozen, counted, batched way through one model, open inside a ``with`` block.

    Parameters
    ----------
    model
        The model; taken as it is, inputs are in model space.
    batch_size
        Rows a pass; default: chosen from the size of a row and the device.
    progress
        Whether to show a bar; engines announce their cost with `expect`.

    Attributes
    ----------
    forwards, backwards
        Rows that went forward and backward so far.
    warnings
        What happened on the way that the reader of a result should know (a batch halved for lack of memory).
    """

    def __init__(self, model: Model, *, batch_size: int | None = None, progress: bool = False) -> None:
        if batch_size is not None and batch_size < 1:
            raise ShapeError(f"batch_size={batch_size} must be at least 1")
        self.model = model
        self.forwards = 0
        self.backwards = 0
        self.warnings: list[str] = []
        self._batch_size = batch_size
        self._frozen = frozen(model.module)
        self._bar: Progress | None = Progress(transient=True) if progress else None
        self._task: Any = None
        self._expected = 0

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        self._frozen.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._frozen.__exit__(kind, error, trace)
        if self._bar is not None:
            self._bar.stop()

    def expect(self, rows: int, description: str = "explaining") -> None:
        """Announce that about `rows` more rows will pass, for the progress bar."""
        if self._bar is None:
            return
        if self._task is None:
            self._task = self._bar.add_task(description, total=0)
        self._expected += rows
        self._bar.update(self._task, total=self._expected, description=description)

    def _advance(self, rows: int) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, rows)

    def batch_size(self, inputs: Inputs) -> int:
        """Return the number of rows to send at once for inputs like these."""
        if self._batch_size is None:
            kind = self.model.device.type
            elements = sum(tensor[0].numel() for tensor in inputs) if len(inputs[0]) else 1
            self._batch_size = max(1, min(_ELEMENTS.get(kind, 2**21) // max(1, elements), _LARGEST.get(kind, 64)))
        return self._batch_size

    def _slices(self, inputs: Inputs) -> Iterator[slice]:
        """Yield the batches; one that was halved for lack of memory makes those after it smaller too."""
        rows, start = len(inputs[0]), 0
        if not rows:
            raise ShapeError("there are no rows to send through the model: the batch is empty")
        while start < rows:
            size = self.batch_size(inputs)
            yield slice(start, min(start + size, rows))
            start += size

    def _call(
        self,
        inputs: Inputs,
        taps: tuple[str, ...],
        placed: Mapping[str, Tensor] | None = None,
        rules: Rules | None = None,
        *,
        read: bool = True,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        forward = tapping(self.model, taps, placed or {})
        if not read:  # rules need not follow what comes after the layer that is read
            forward = _unread(forward)
        output, *layers = (forward if rules is None else rules(self.model, forward))(*inputs)
        self.forwards += len(inputs[0])
        return output, dict(zip(taps, layers, strict=True))

    def outputs(
        self,
        inputs: Inputs,
        layer: str | None = None,
        *,
        placed: Mapping[str, Tensor] | None = None,
        rules: Rules | None = None,
        spent: bool = False,
    ) -> Tensor:
        """Return the model's outputs (or a layer's) for all rows, without gradients, batch by batch.

        `placed` holds values, one row a row, to put in the place of the outputs of the layers that it names; `rules`
        may watch the forward, or take inputs of their own beside the network's. `spent` inputs are given to the network
        as they are, not as copies: it may write into them.

        Raises
        ------
        ShapeError
            When the model refuses the rows' shape, or returns no tensor with one row a row.
        """
        there = placed or {}
        parts = self._slices(inputs)
        call = partial(self._forward, layer=layer, rules=rules, spent=spent)
        return torch.cat([call(take_rows(inputs, part), placed=_part(there, part)) for part in parts])

    def _forward(
        self, batch: Inputs, *, layer: str | None, placed: Mapping[str, Tensor], rules: Rules | None, spent: bool
    ) -> Tensor:
        taps = tuple({*placed, *(() if layer is None else (layer,))})
        before = _versions(batch)
        try:
            with torch.inference_mode():
                given = batch if spent else tuple(tensor.clone() for tensor in batch)  # it may write into them
                output, tapped = self._call(given, taps, placed, rules)
        except PellucidError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, AssertionError) as error:
            again = len(batch[0]) > 1 and _versions(batch) == before
            if not (isinstance(error, RuntimeError) and _out_of_memory(error) and again):
                raise _refused(batch, error) from error
        else:
            self._advance(len(batch[0]))
            return tapped[layer] if layer is not None else output
        # only here, out of the handler, has the error let go of what the failed pass held in memory
        halves = self._halve(len(batch[0]))
        call = partial(self._forward, layer=layer, rules=rules, spent=spent)
        return torch.cat([call(take_rows(batch, part), placed=_part(placed, part)) for part in halves])

    def _halve(self, rows: int) -> tuple[slice, slice]:
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        half = rows // 2
        self._batch_size = min(self._batch_size or half, half)
        self.warnings.append(f"the batch was halved to {half} rows for lack of memory")
        return slice(0, half), slice(half, rows)

    def scores(
        self,
        inputs: Inputs,
        read: ReadOut,
        rows: Tensor | None = None,
        *,
        placed: Mapping[str, Tensor] | None = None,
        spent: bool = False,
    ) -> Tensor:
        """Return the target's value for each row, without gradients.

        `rows` says which explained row each one is; `placed` and `spent` are as for `outputs`.
        """
        rows = torch.arange(len(inputs[0])) if rows is None else rows
        return read(self.outputs(inputs, read.layer, placed=placed, spent=spent), rows.to(self.model.device))

    def observe(self, inputs: Inputs, rules: Rules) -> None:
        """Send all rows forward, batch by batch, under rules that only look at what the network computes."""
        for part in self._slices(inputs):
            batch = take_rows(inputs, part)
            with torch.enable_grad(), torch.autocast(self.model.device.type, enabled=False):
                leaves = tuple(tensor.detach().clone().requires_grad_() for tensor in batch)
                self._call(tuple(leaf.clone() for leaf in leaves), (), rules=rules)
            self._advance(len(batch[0]))

    def gradient(
        self,
        inputs: Inputs,
        read: ReadOut,
        rows: Tensor | None = None,
        *,
        rules: Rules | None = None,
        known: Tensor | None = None,
        at: str | None = None,
        place: Tensor | None = None,
    ) -> tuple[Tensor, Inputs, Inputs]:
        """Differentiate the target at each row, batch by batch.

        Parameters
        ----------
        inputs
            Rows in model space.
        read
            The target; `rows` says which explained row each input row belongs to (default: the same).
        rules
            Changes what is propagated through the network; what reads the target afterwards stays plain.
        known
            ``(N,)`` the target's plain values here, if they are known: spares `rules` the forward that checks them.
            Rules that are given inputs of their own beside the network's need it.
        at
            Name of a layer: differentiate with respect to its output instead of the inputs.
        place
            Values to put in the place of that layer's output, one row a row: the derivative is taken there.

        Returns
        -------
        scores
            ``(N,)`` the target's values.
        points
            What was differentiated by: the inputs, or one tensor, the layer's output.
        gradients
            Of the same shapes.

        Raises
        ------
        CannotExplain
            When the target does not depend on the inputs through differentiable steps.
        """
        rows = torch.arange(len(inputs[0])) if rows is None else rows
        parts = []
        for part in self._slices(inputs):
            there, plain = (None if values is None else values[part] for values in (place, known))
            batch = _Batch(take_rows(inputs, part), read, rows[part].to(self.model.device), rules, plain, at, there)
            parts += self._backward(batch)
        scores, points, gradients = zip(*parts, strict=True)
        return torch.cat(scores), _joined(points), _joined(gradients)

    def _backward(self, batch: "_Batch") -> list[tuple[Tensor, Inputs, Inputs]]:
        try:
            return [self._differentiate(batch)]
        except PellucidError:
            raise
        except (RuntimeError, TypeError, ValueError) as error:
            if not (isinstance(error, RuntimeError) and _out_of_memory(error)):
                said = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise CannotExplain(f"the model cannot be differentiated ({said}); {_FORWARDS}") from error
            if len(batch) < 2:
                raise
        return [result for part in self._halve(len(batch)) for result in self._backward(batch[part])]

    def _differentiate(self, batch: "_Batch") -> tuple[Tensor, Inputs, Inputs]:
        read, at = batch.read, batch.at
        taps = tuple({name for name in (read.layer, at) if name is not None})
        with torch.enable_grad(), torch.autocast(self.model.device.type, enabled=False):
            leaves = tuple(tensor.detach().clone().requires_grad_(batch.place is None) for tensor in batch.inputs)
            placed = {}
            if at is not None and batch.place is not None:
                placed[at] = batch.place.detach().clone().requires_grad_()
            given = tuple(leaf.clone() for leaf in leaves)  # a network may write into its input
            output, tapped = self._call(given, taps, placed, batch.rules, read=read.layer is None)
            readable = tapped[read.layer] if read.layer is not None else output
            score = read(readable, batch.rows)
            points = (tapped[at],) if at is not None else leaves
            if not score.requires_grad:
                raise _cut(at)
            if batch.rules is not None:
                plain = self._plain(batch, taps, placed) if batch.known is None else batch.known
                _agree(score.detach(), plain, readable.detach())
            gradients = torch.autograd.grad(score.sum(), points, allow_unused=True)
            if all(gradient is None for gradient in gradients):
                raise _cut(at)
        self.backwards += len(batch)
        self._advance(len(batch))
        filled = tuple(
            torch.zeros_like(point) if gradient is None else gradient.detach()
            for point, gradient in zip(points, gradients, strict=True)
        )
        return score.detach(), tuple(point.detach() for point in points), filled

    @torch.no_grad()
    def _plain(self, batch: "_Batch", taps: tuple[str, ...], placed: Mapping[str, Tensor]) -> Tensor:
        read = batch.read
        output, tapped = self._call(tuple(tensor.clone() for tensor in batch.inputs), taps, placed)
        return read(tapped[read.layer] if read.layer is not None else output, batch.rows)


def _unread(forward: Forward) -> Forward:
    """Return the same call with the network's own output cut from the graph."""

    def run(*given: Tensor) -> tuple[Tensor, ...]:
        output, *layers = forward(*given)
        return (output.detach(), *layers)

    return run


def _cut(at: str | None) -> CannotExplain:
    where = f"layer {at!r}" if at is not None else "its input"
    return CannotExplain(f"the model's output does not depend on {where} through differentiable steps; {_FORWARDS}")


def _agree(score: Tensor, plain: Tensor, outputs: Tensor) -> None:
    away = (score - plain.to(score)).abs()
    scale = outputs.flatten(1).abs().amax(1)
    if bool((away > _AGREEMENT * scale).any()):
        worst = int((away - _AGREEMENT * scale).argmax())
        raise GuardError(
            f"the forward under the rules gives {float(score[worst]):.6g} in row {worst} and the plain forward "
            f"{float(plain[worst]):.6g}: the network computes in a way that the rules cannot follow; use gradient, "
            "integrated_gradients, occlusion or kernel_shap"
        )


_FORWARDS = "use a method that only needs forwards: occlusion, ablation, rise, lime or kernel_shap"


@dataclass(frozen=True)
class _Batch:
    """Rows that are differentiated at once."""

    inputs: Inputs
    read: ReadOut
    rows: Tensor
    rules: Rules | None
    known: Tensor | None
    at: str | None
    place: Tensor | None

    def __len__(self) -> int:
        return len(self.inputs[0])

    def __getitem__(self, part: slice) -> "_Batch":
        place, known = (None if values is None else values[part] for values in (self.place, self.known))
        return replace(self, inputs=take_rows(self.inputs, part), rows=self.rows[part], known=known, place=place)


def _part(placed: Mapping[str, Tensor], part: slice) -> dict[str, Tensor]:
    return {name: values[part] for name, values in placed.items()}


def _joined(parts: tuple[Inputs, ...]) -> Inputs:
    return parts[0] if len(parts) == 1 else tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))


def _refused(batch: Inputs, error: Exception) -> ShapeError:
    shapes = " and ".join(str(tuple(tensor.shape[1:])) for tensor in batch)
    said = str(error).strip().splitlines() or [type(error).__name__]
    return ShapeError(f"the model cannot take images of shape {shapes} (C, *S): {said[0]}")
