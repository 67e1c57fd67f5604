"""The target that a user means by a class, a name, a sequence or nothing."""

import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
from torch import Tensor

from pellucid.errors import BadTarget
from pellucid.models.model import Model
from pellucid.models.targets.classes import Class, Output
from pellucid.models.targets.target import Target

__all__ = ["resolve"]


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
