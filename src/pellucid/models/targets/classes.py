"""Targets on the outputs of a classifier or a regression net ``(N, K)``."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.errors import BadTarget
from pellucid.models.model import Model
from pellucid.models.targets.columns import Index, columns_of, pick
from pellucid.models.targets.target import TARGETS, ReadOut, Target

__all__ = ["Class", "Contrast", "LogOdds", "Output"]


def _flat(outputs: Tensor, spelt: str) -> None:
    if outputs.ndim != 2:
        raise BadTarget(
            f"{spelt} reads outputs (N, K); this model returns {tuple(outputs.shape)}: use Region(index, box=...)"
        )


@TARGETS.register
@dataclass(frozen=True, repr=False)
class Class(Target):
    """The logit of a class: an index, a class name, or one a row."""

    index: Index

    def freeze(self, model: Model, outputs: Tensor) -> ReadOut:
        """Fix the class of every row."""
        _flat(outputs, str(self))
        columns = columns_of(self.index, model, outputs, str(self))
        return ReadOut(lambda out, rows: pick(out, columns[rows]))


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
        plus = columns_of(self.positive, model, outputs, str(self))
        minus = columns_of(self.negative, model, outputs, str(self))
        return ReadOut(lambda out, rows: pick(out, plus[rows]) - pick(out, minus[rows]))


@TARGETS.register
@dataclass(frozen=True, repr=False)
class LogOdds(Target):
    """``log p / (1 − p)`` of a class under the softmax; for a one-logit net the logit itself."""

    index: Index

    def freeze(self, model: Model, outputs: Tensor) -> ReadOut:
        """Fix the class of every row."""
        _flat(outputs, str(self))
        columns = columns_of(self.index, model, outputs, str(self))

        def read(out: Tensor, rows: Tensor) -> Tensor:
            own = columns[rows]
            if out.shape[1] == 1:
                return out[:, 0]
            others = torch.ones_like(out, dtype=torch.bool).scatter(1, own[:, None], value=False)
            return pick(out, own) - out.masked_fill(~others, -torch.inf).logsumexp(1)

        return ReadOut(read)
