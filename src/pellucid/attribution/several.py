"""Several targets from one run: how a result that holds T of each is taken apart into T results of one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pellucid.attribution.method import Attribution
from pellucid.models import ReadOut

__all__ = ["ByTarget", "for_target", "together"]


@dataclass(frozen=True, eq=False)
class ByTarget:
    """A detail or a warning that differs from target to target: one a target."""

    values: tuple[Any, ...]


def together(reads: Sequence[ReadOut]) -> ReadOut:
    """Return the read-out of all targets at once, ``(B, T)``; they read the same layer."""

    def read(outputs: Tensor, rows: Tensor) -> Tensor:
        return torch.stack([own(outputs, rows) for own in reads], 1)

    return ReadOut(read, reads[0].layer)


def for_target(found: Attribution, target: int) -> Attribution:
    """Return the result of one target out of a run that explained several."""

    def own(value: Any) -> Any:
        return value.values[target] if isinstance(value, ByTarget) else value

    def cut(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor[:, target]

    return replace(
        found,
        values=tuple(values[:, target] for values in found.values),
        reference_output=cut(found.reference_output),
        absorbed=cut(found.absorbed),
        error=None if found.error is None else tuple(error[:, target] for error in found.error),
        warnings=tuple(told for told in map(own, found.warnings) if told),
        details={name: own(value) for name, value in found.details.items()},
    )
