"""The bench: explanations of the same images side by side, and the forwards that their metrics share.

What does not depend on a map (hidden subsets, noisy copies, randomised models) is drawn and computed once an image
for all methods, so that twenty methods cost as much as one and are compared on the same draws.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from pellucid.attribution import Explanation
from pellucid.attribution.fills import reference
from pellucid.attribution.method import Method, row_seeds
from pellucid.errors import ShapeError
from pellucid.evaluation.imputation import Imputation, impute
from pellucid.evaluation.positions import Grid, Placed, orders, place
from pellucid.models import Inputs, Model, Passes, ReadOut, Target, take_rows
from pellucid.models.targets import Class, LogOdds, Output

__all__ = ["Bench"]

T = TypeVar("T")
_SAME = 1e-2
"""Part of the largest |f(x)| by which an explanation's f(x) may differ from the model's: other batch, other device."""


class Bench:
    """Explanations of the same images, ready to be scored.

    Parameters
    ----------
    passes
        The open way through the model.
    inputs
        The images in model space, one tensor ``(N, C, *S)`` an input.
    explanations
        One or more, each of all these images.
    masks
        Annotator to one boolean mask ``(P)`` an image, None where this annotator did not mark the image.
    ids
        One text an image; row i's draws are hash(seed, id). Without, every row has the same draws.
    seed
        Of everything random.
    regions
        ``(N, P)`` the labelled region of every position, 0 for background.
    models
        The same task learnt again: other seeds, folds or data.
    """

    def __init__(
        self,
        passes: Passes,
        inputs: Inputs,
        explanations: Sequence[Explanation],
        *,
        masks: Mapping[str, Sequence[Tensor | None]] | None = None,
        ids: Sequence[str] | None = None,
        seed: int = 0,
        regions: Tensor | None = None,
        models: Sequence[Model] = (),
    ) -> None:
        self.passes, self.inputs, self.explanations = passes, inputs, tuple(explanations)
        self.masks, self.regions, self.models = dict(masks or {}), regions, tuple(models)
        self.seed, self.ids = seed, ids
        self.grid = Grid.of(inputs)
        self.seeds = row_seeds(seed, ids, len(inputs[0]))
        self._shared: dict[Hashable, Any] = {}
        self.targets: list[Target] = []
        self._target_of = [self._enter(explanation.target) for explanation in self.explanations]
        plain = passes.outputs(inputs)
        self.reads = [target.freeze(passes.model, plain) for target in self.targets]
        if plain.ndim == 2:  # those of a segmentation net are large, and few metrics ask
            self._shared["plain outputs"] = plain
        self.outputs = self._values({None: plain}, inputs, torch.arange(len(self)), passes, self.reads)
        self._check()

    def __len__(self) -> int:
        return len(self.inputs[0])

    def _enter(self, target: Target) -> int:
        for place_, known in enumerate(self.targets):
            if _same(target, known):
                return place_
        self.targets.append(target)
        return len(self.targets) - 1

    @staticmethod
    def _values(
        known: dict[str | None, Tensor], inputs: Inputs, rows: Tensor, passes: Passes, reads: Sequence[ReadOut]
    ) -> Tensor:
        rows = rows.to(passes.model.device)
        for read in reads:
            if read.layer not in known:
                known[read.layer] = passes.outputs(inputs, read.layer)
        return torch.stack([read(known[read.layer], rows).double() for read in reads])

    def _check(self) -> None:
        for place_, explanation in enumerate(self.explanations):
            own = self.output(place_)
            told = explanation.output.to(own)
            if bool(((own - told).abs() > _SAME * own.abs().max().clamp_min(1e-6)).any()):
                raise ShapeError(
                    f"{explanation.name} was made for other images or another model: its f(x) differs from the model's"
                )

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` gives, made once a bench: how metrics share forwards."""
        if key not in self._shared:
            self._shared[key] = make()
        found: T = self._shared[key]
        return found

    def read(
        self, inputs: Inputs, rows: Tensor, passes: Passes | None = None, *, reads: Sequence[ReadOut] | None = None
    ) -> Tensor:
        """Return every target's value ``(T, B)`` float64 for inputs that derive from the explained `rows` ``(B,)``.

        One forward serves all targets, or other `reads`, of the same layer.
        """
        return self._values({}, inputs, rows, passes or self.passes, reads or self.reads)

    def plain(self) -> Tensor:
        """Return the model's outputs ``(N, K, ...)`` at the images."""
        return self.once("plain outputs", lambda: self.passes.outputs(self.inputs))

    def decides(self, target: Target) -> bool:
        """Say whether a target is a class among those that the model decides between, so that it has a probability."""
        amount = isinstance(target, Output) and self.plain().shape[1] > 1
        return isinstance(target, Class | LogOdds) and not amount and self.passes.model.task != "regression"

    @contextmanager
    def beside(self, model: Model) -> Iterator[Passes]:
        """Open the way through another model; its passes are counted with the bench's."""
        with Passes(model, batch_size=self.passes.batch_size(self.inputs)) as passes:
            try:
                yield passes
            finally:
                self.passes.forwards += passes.forwards
                self.passes.backwards += passes.backwards

    def own(self, scores: Tensor, index: int) -> Tensor:
        """Return the row of ``(T, ...)`` that belongs to the target of explanation `index`."""
        return scores[self._target_of[index]]

    def output(self, index: int) -> Tensor:
        """Return f(x) ``(N,)`` of the target of explanation `index`, float64."""
        return self.own(self.outputs, index)

    def read_of(self, index: int) -> ReadOut:
        """Return the frozen target of explanation `index`."""
        return self.reads[self._target_of[index]]

    def same_target(self, index: int, other: int) -> bool:
        """Say whether two explanations explain the same target."""
        return self._target_of[index] == self._target_of[other]

    def control(self, index: int) -> bool:
        """Say whether explanation `index` is of a control, a map that never looked at the model."""
        method = self.explanations[index].method
        return isinstance(method, Method) and method.taxonomy.is_control

    @cached_property
    def maps(self) -> tuple[Placed, ...]:
        """Every explanation at image positions."""
        device = self.passes.model.device
        return tuple(
            place(tuple(tensor.to(device) for tensor in explanation.tensors), self.grid)
            for explanation in self.explanations
        )

    def order(self, index: int) -> Tensor:
        """Return the place ``(N, P)`` of every position when the most relevant goes first."""
        return self.once(("order", index), lambda: orders(self.maps[index].values, self.seeds))

    def fill(self, name: Any) -> Inputs:
        """Return what takes the place of hidden positions, or is added to what is imputed there."""
        if isinstance(name, Imputation):
            return self.once(("noise of", name), lambda: name.noise(self.inputs, self.seeds))
        return self.once(("fill", name), lambda: reference(name, self.inputs, self.seeds))

    def without(self, rows: Tensor, fill: Any, hidden: Tensor) -> Inputs:
        """Return the images of `rows` ``(b,)`` with the positions of a boolean mask ``(b, P)`` replaced."""
        masks, kept = self.grid.split(hidden.to(rows.device)), take_rows(self.inputs, rows)
        gone = take_rows(self.fill(fill), rows)
        if isinstance(fill, Imputation):
            gone = tuple(impute(x, mask) + noise for x, mask, noise in zip(kept, masks, gone, strict=True))
        return tuple(torch.where(mask, new, old) for mask, new, old in zip(masks, gone, kept, strict=True))

    def hidden(
        self,
        rows: Tensor,
        fill: Any,
        hide: Callable[[slice], Tensor],
        read: Callable[[Inputs, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Return every target's value ``(T, B)`` with positions replaced, slab by slab.

        Parameters
        ----------
        rows
            ``(B,)`` the image that each of the B rows derives from.
        fill
            What takes their place: a named fill, a number, or an `Imputation` from what is left.
        hide
            Gives the boolean mask ``(b, P)`` of hidden positions for a slice of the B rows.
        read
            Gives ``(T, b)`` numbers for changed inputs and the rows they derive from; default: the targets' values.
        """
        size = self.passes.batch_size(self.inputs)
        rows = rows.to(self.inputs[0].device)
        read = read or self.read
        parts = []
        for start in range(0, len(rows), size):
            part = slice(start, min(start + size, len(rows)))
            parts.append(read(self.without(rows[part], fill, hide(part)), rows[part]))
        return torch.cat(parts, 1)


def _same(left: Target, right: Target) -> bool:
    if type(left) is not type(right):
        return False
    pairs = zip(left.settings.values(), right.settings.values(), strict=True)
    return all(_equal(one, other) for one, other in pairs)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one, other)
    return bool(one == other)
