"""The one way through a model: every forward and backward of every engine and metric goes through `Passes`.

While a `Passes` is open the network is in eval mode with frozen parameters; afterwards modes, buffers, hooks,
``requires_grad`` and ``.grad`` are what they were, also after an exception.
"""

from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from pellucid.errors import CannotExplain, PellucidError, ShapeError
from pellucid.models.bar import Bar
from pellucid.models.batches import Batches, out_of_memory
from pellucid.models.derivative import FORWARDS, Derivative, Slopes, differentiate
from pellucid.models.frozen import frozen
from pellucid.models.model import Inputs, Model
from pellucid.models.rows import join_rows, take_part, take_rows
from pellucid.models.tapping import Rules, tapping, unread
from pellucid.models.targets import ReadOut

__all__ = ["Passes"]


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
        Rows a pass; default: chosen from the size of a row and the device. Never more than the model takes at once.
    progress
        Whether to show a bar; engines announce their cost with `expect`.

    Attributes
    ----------
    forwards, backwards
        Rows that went forward and backward so far.
    """

    def __init__(self, model: Model, *, batch_size: int | None = None, progress: bool = False) -> None:
        self.model = model
        self.forwards = 0
        self.backwards = 0
        self._batches = Batches(model.device, batch_size, most=model.known.rows)
        self._frozen = frozen(model.module)
        self._bar = Bar(shown=progress)

    @property
    def warnings(self) -> list[str]:
        """What happened on the way that the reader of a result should know: batches halved for lack of memory."""
        return self._batches.warnings

    def __enter__(self) -> Self:
        self._bar.start()
        self._frozen.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._frozen.__exit__(kind, error, trace)
        self._bar.stop()

    def expect(self, rows: int, description: str = "explaining") -> None:
        """Announce that about `rows` more rows will pass, for the progress bar."""
        self._bar.expect(rows, description)

    def batch_size(self, inputs: Inputs) -> int:
        """Return the number of rows to send at once for inputs like these."""
        return self._batches.size(inputs)

    def _call(
        self,
        inputs: Inputs,
        taps: tuple[str, ...],
        placed: Mapping[str, Tensor],
        rules: Rules | None,
        *,
        read: bool = True,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        forward = tapping(self.model, taps, placed)
        if not read:  # rules need not follow what comes after the layer that is read
            forward = unread(forward)
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
        parts = self._batches.parts(inputs)
        call = partial(self._forward, layer=layer, rules=rules, spent=spent)
        return torch.cat([call(take_rows(inputs, part), placed=take_part(there, part)) for part in parts])

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
            if not (out_of_memory(error) and again):
                raise _refused(batch, error) from error
        else:
            self._bar.advance(len(batch[0]))
            return tapped[layer] if layer is not None else output
        # only here, out of the handler, has the error let go of what the failed pass held in memory
        halves = self._batches.halves(len(batch[0]))
        call = partial(self._forward, layer=layer, rules=rules, spent=spent)
        return torch.cat([call(take_rows(batch, part), placed=take_part(placed, part)) for part in halves])

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
        for part in self._batches.parts(inputs):
            batch = take_rows(inputs, part)
            with torch.enable_grad(), torch.autocast(self.model.device.type, enabled=False):
                leaves = tuple(tensor.detach().clone().requires_grad_() for tensor in batch)
                self._call(tuple(leaf.clone() for leaf in leaves), (), {}, rules)
            self._bar.advance(len(batch[0]))

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
        for part in self._batches.parts(inputs):
            there, plain = (None if values is None else values[part] for values in (place, known))
            device_rows = rows[part].to(self.model.device)
            parts += self._backward(Derivative(take_rows(inputs, part), read, device_rows, rules, plain, at, there))
        scores, points, gradients = zip(*parts, strict=True)
        return torch.cat(scores), join_rows(points), join_rows(gradients)

    def _backward(self, asked: Derivative) -> list[Slopes]:
        try:
            found = differentiate(asked, self._call)
        except PellucidError:
            raise
        except (RuntimeError, TypeError, ValueError) as error:
            if not out_of_memory(error):
                said = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise CannotExplain(f"the model cannot be differentiated ({said}); {FORWARDS}") from error
            if len(asked) < 2:
                raise
        else:
            self.backwards += len(asked)
            self._bar.advance(len(asked))
            return [found]
        return [slopes for part in self._batches.halves(len(asked)) for slopes in self._backward(asked[part])]


def _refused(batch: Inputs, error: Exception) -> ShapeError:
    shapes = " and ".join(str(tuple(tensor.shape[1:])) for tensor in batch)
    said = str(error).strip().splitlines() or [type(error).__name__]
    return ShapeError(f"the model cannot take images of shape {shapes} (C, *S): {said[0]}")
