"""What is explained: from the model's output to one scalar a row, frozen before anything is perturbed."""

import operator
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import BadTarget
from pellucid.models.model import Model
from pellucid.recipes import Recipe, Registry

__all__ = [
    "TARGETS", "Class", "Contrast", "Latent", "LogOdds", "Output", "ReadOut", "Region", "Similarity", "Target", "resolve",
]  # fmt: skip

Index = int | str | tuple[int | str, ...]


@dataclass(frozen=True)
class ReadOut:
    """A target frozen for the explained rows.

    Call it with outputs ``(B, ...)`` and ``rows (B,)``, the explained row each output belongs to; it returns ``(B,)``.
    `layer` names the layer whose output it reads instead of the model's.
    """

    read: Callable[[Tensor, Tensor], Tensor]
    layer: str | None = None

    def __call__(self, outputs: Tensor, rows: Tensor) -> Tensor:
        """Return the target's value ``(B,)`` for outputs of the explained `rows`."""
        return self.read(outputs, rows)


@dataclass(frozen=True, repr=False)
class Target(Recipe):
    """Turns outputs into one scalar a row; a value that prints and parses like a method."""

    @abstractmethod
    def freeze(self, model: Model, outputs: Tensor) -> ReadOut:
        """Fix the target on the unperturbed `outputs` ``(N, K)`` or ``(N, K, *S)``.

        Raises
        ------
        BadTarget
            When it does not fit them.
        """


TARGETS: Registry[Target] = Registry("target", Target, "pellucid.targets")  # type: ignore[type-abstract]


def _columns(index: Index, model: Model, outputs: Tensor, spelt: str) -> Tensor:
    """Return one output number a row, with names looked up and ranges checked."""
    rows, width = outputs.shape[:2]
    chosen = index if isinstance(index, tuple) else (index,) * rows
    if len(chosen) != rows:
        raise BadTarget(f"{spelt} names {len(chosen)} classes for {rows} rows; give one, or one a row")
    numbers = []
    for name in chosen:
        if isinstance(name, str) and name not in model.classes:
            raise BadTarget(
                f"{spelt}: there is no class {name!r}; the model has {', '.join(model.classes) or 'no class names'}"
            )
        number = model.classes.index(name) if isinstance(name, str) else name
        if not -width <= number < width:
            raise BadTarget(
                f"{spelt}: output {number} does not exist; the model returns {width} (shape {tuple(outputs.shape)})"
            )
        numbers.append(number % width)
    return torch.tensor(numbers, device=outputs.device)


def _flat(outputs: Tensor, spelt: str) -> None:
    if outputs.ndim != 2:
        raise BadTarget(
            f"{spelt} reads outputs (N, K); this model returns {tuple(outputs.shape)}: use Region(index, box=...)"
        )


def _pick(outputs: Tensor, columns: Tensor) -> Tensor:
    return outputs.gather(1, columns[:, None])[:, 0]


@TARGETS.register
@dataclass(frozen=True, repr=False)
class Class(Target):
    """The logit of a class: an index, a class name, or one a row."""

    index: Index

    def freeze(self, model: Model, outputs: Tensor) -> ReadOut:
        """Fix the class of every row."""
        _flat(outputs, str(self))
        columns = _columns(self.index, model, outputs, str(self))
        return ReadOut(lambda out, rows: _pick(out, columns[rows]))


@TARGETS.register
@dataclass(frozen=True, repr=False)
class Output(Class):
    """One output of a regression net, as it is."""


@TARGETS.register
@dataclass(frozen=True, repr=False)
class Contrast(Target):
    """Logit of one class less that of another: why this rather than that."""

    positive: Index
    negative: Index

    def freeze(self, model: Model, outputs: Tensor) -> ReadOut:
        """Fix both classes of every row."""
        _flat(outputs, str(self))
        plus = _columns(self.positive, model, outputs, str(self))
        minus = _columns(self.negative, model, outputs, str(self))
        return ReadOut(lambda out, rows: _pick(out, plus[rows]) - _pick(out, minus[rows]))


@TARGETS.register
@dataclass(frozen=True, repr=False)
class LogOdds(Target):
    """``log p / (1 − p)`` of a class under the softmax; for a one-logit net the logit itself."""

    index: Index

    def freeze(self, model: Model, outputs: Tensor) -> ReadOut:
        """Fix the class of every row."""
        _flat(outputs, str(self))
        columns = _columns(self.index, model, outputs, str(self))

        def read(out: Tensor, rows: Tensor) -> Tensor:
            own = columns[rows]
            if out.shape[1] == 1:
                return out[:, 0]
            others = torch.ones_like(out, dtype=torch.bool).scatter(1, own[:, None], value=False)
            return _pick(out, own) - out.masked_fill(~others, -torch.inf).logsumexp(1)

        return ReadOut(read)


@TARGETS.register
@dataclass(frozen=True, repr=False)
class Region(Target):
    """Mean logit of a class over a region of a segmentation ``(N, K, *S)``.

    Without `mask`, `box` and `point` the region is the object itself: where the unperturbed prediction is this class.

    Attributes
    ----------
    index
        Class number or name.
    mask
        Boolean ``(*S)`` or ``(N, *S)``.
    box
        Corners ``((y0, x0), (y1, x1))``, the second excluded; one number a spatial axis.
    point
        One position a spatial axis.
    """

    index: Index
    mask: Tensor | None = None
    box: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    point: tuple[int, ...] | None = None

    def freeze(self, model: Model, outputs: Tensor) -> ReadOut:
        """Fix the region and the class of every row."""
        if outputs.ndim < 3:
            raise BadTarget(
                f"{self.name} reads outputs (N, K, *S); this model returns {tuple(outputs.shape)}: use Class"
            )
        columns = _columns(self.index, model, outputs, self.name)
        region = self._region(outputs, columns)
        empty = (region.flatten(1).sum(1) == 0).nonzero()
        if len(empty):
            why = "no pixel is predicted as this class" if self.mask is None else "the mask holds no pixel"
            raise BadTarget(f"{self.name}: the region of row {int(empty[0])} is empty: {why}")

        def read(out: Tensor, rows: Tensor) -> Tensor:
            maps = out[torch.arange(len(out), device=out.device), columns[rows]].flatten(1)
            weight = region[rows].flatten(1).to(out.dtype)
            return (maps * weight).sum(1) / weight.sum(1)

        return ReadOut(read)

    def _region(self, outputs: Tensor, columns: Tensor) -> Tensor:
        rows, _, *shape = outputs.shape
        given = [name for name in ("mask", "box", "point") if getattr(self, name) is not None]
        if len(given) > 1:
            raise BadTarget(f"Region() takes one of mask, box and point, not {' and '.join(given)}")
        if not given:
            expand = columns.view(-1, *[1] * len(shape))
            return outputs.argmax(1) == expand if outputs.shape[1] > 1 else outputs[:, 0] > 0
        region = torch.zeros(shape, dtype=torch.bool, device=outputs.device)
        if self.mask is not None:
            if tuple(self.mask.shape) not in {tuple(shape), (rows, *shape)}:
                raise BadTarget(
                    f"Region(mask=...) has shape {tuple(self.mask.shape)}; the output's axes are {tuple(shape)}"
                )
            return self.mask.bool().to(outputs.device).expand(rows, *shape)
        corners = self.box if self.box is not None else (self.point, tuple(place + 1 for place in self.point or ()))
        low, high = corners
        if low is None or len(low) != len(shape) or len(high) != len(shape):
            raise BadTarget(
                f"Region({given[0]}={getattr(self, given[0])}) has not one number for each axis of {tuple(shape)}"
            )
        if not all(0 <= start < stop <= length for start, stop, length in zip(low, high, shape, strict=True)):
            raise BadTarget(
                f"Region({given[0]}={getattr(self, given[0])}) does not lie in the output's axes {tuple(shape)}"
            )
        region[tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))] = True
        return region.expand(rows, *shape)


def _layer(model: Model, layer: str | None, spelt: str) -> str:
    name = layer or model.embedding
    if name is None:
        raise BadTarget(f"{spelt} reads an embedding; say layer=, or name it once with Model(..., embedding=)")
    model.layer(name)
    return name


@TARGETS.register
@dataclass(frozen=True, repr=False)
class Similarity(Target):
    """Cosine similarity of a layer's output to a reference vector: what makes this image like that one."""

    reference: Tensor
    layer: str | None = None

    def freeze(self, model: Model, outputs: Tensor) -> ReadOut:
        """Fix the reference direction."""
        direction = self.reference.flatten().to(outputs.device, outputs.dtype)
        if not direction.norm() > 0:
            raise BadTarget("Similarity: the reference is zero or not a number, so it has no direction")
        direction = direction / direction.norm()

        def read(out: Tensor, _rows: Tensor) -> Tensor:
            flat = out.flatten(1)
            if flat.shape[1] != len(direction):
                raise BadTarget(f"Similarity: the reference has {len(direction)} numbers and the layer {flat.shape[1]}")
            cosine: Tensor = flat @ direction / flat.norm(dim=1)
            return cosine

        return ReadOut(read, _layer(model, self.layer, self.name))


@TARGETS.register
@dataclass(frozen=True, repr=False)
class Latent(Target):
    """One unit of a layer, averaged over space where it is a feature map."""

    index: int
    layer: str | None = None

    def freeze(self, model: Model, outputs: Tensor) -> ReadOut:  # noqa: ARG002  # a latent does not depend on the outputs
        """Fix the layer and unit."""

        def read(out: Tensor, _rows: Tensor) -> Tensor:
            if not 0 <= self.index < out.shape[1]:
                raise BadTarget(f"{self}: the layer has {out.shape[1]} units (shape {tuple(out.shape)})")
            return out[:, self.index].reshape(len(out), -1).mean(1)

        return ReadOut(read, _layer(model, self.layer, str(self)))


def resolve(target: Any, model: Model, outputs: Tensor) -> Target:
    """Return the target that a user's argument means for these outputs.

    None is the predicted class (the one output of a one-logit net); an int or name is a class; a sequence one a row.

    Raises
    ------
    BadTarget
        Where a default would be a guess (several regression outputs, a segmentation): the sentence names what would do.
    """
    if isinstance(target, Target):
        return target
    if isinstance(target, str):
        return Class(target)
    if isinstance(target, Tensor | np.ndarray):
        target = target.tolist()
    if isinstance(target, SupportsIndex):
        return Class(operator.index(target))
    if isinstance(target, Sequence) and all(isinstance(one, str | SupportsIndex) for one in target):
        return Class(tuple(one if isinstance(one, str) else operator.index(one) for one in target))
    if target is not None:
        raise BadTarget(f"target={target!r} is no class, sequence of classes or pellucid.targets value")
    shape = tuple(outputs.shape)
    if outputs.ndim > 2:
        raise BadTarget(
            f"target=None has no meaning for a dense output {shape}: give pellucid.targets.Region(index), "
            "Region(index, box=...), Region(index, point=...) or Region(index, mask=...)"
        )
    if shape[1] == 1:
        return Output(0)
    if model.task == "regression":
        raise BadTarget(
            f"target=None has no meaning for {shape[1]} regression outputs: give pellucid.targets.Output(index)"
        )
    return Class(tuple(outputs.argmax(1).tolist()))
