"""Patterns as a value: what was fitted on data, that compares, prints, saves and loads."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Self

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pellucid.errors import BadRecipe

__all__ = ["Fitted", "Patterns"]


class Patterns:
    """The direction of the signal that each unit of a network responds to, fitted by `fit_patterns`.

    Two are equal when their contents are. As a setting they print as the file that they were loaded from, else as the
    digest of their content.

    Parameters
    ----------
    tensors
        One a call with weights, by number and name in the order of the network's forward, of the weight's shape.
    path
        Where they were loaded from.
    """

    def __init__(self, tensors: Mapping[str, Tensor], *, path: str | None = None) -> None:
        held = {name: tensors[name].detach().float().cpu().contiguous() for name in sorted(tensors)}
        self.tensors: Mapping[str, Tensor] = MappingProxyType(held)
        self.path = path
        content = hashlib.sha256()
        for name, tensor in held.items():
            content.update(f"{name}{tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
        self.digest = content.hexdigest()

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read patterns from a safetensors file.

        Raises
        ------
        BadRecipe
            When there is no such file, or it holds none.
        """
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise BadRecipe(f"{path} holds no patterns that can be read: {error}") from None
        if not tensors:
            raise BadRecipe(
                f"{path} holds no patterns; write them with pellucid.fit_patterns(model, images).save(path)"
            )
        return cls(tensors, path=str(path))

    def save(self, path: str | Path) -> None:
        """Write them to a safetensors file, from which ``pattern_net(patterns="path")`` reads them."""
        save_file(dict(self.tensors), path)

    def __len__(self) -> int:
        return len(self.tensors)

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, Patterns) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f'"{self.path}"' if self.path is not None else f'"patterns(sha256:{self.digest[:16]})"'


def _read(value: object) -> object:
    if not isinstance(value, str | Path):
        return value
    if str(value).startswith("patterns("):
        raise PydanticCustomError(
            "patterns", "patterns cannot be read back from their digest; pass the Patterns, or the path of a saved file"
        )
    try:
        return Patterns.load(value)
    except BadRecipe as error:
        raise PydanticCustomError("patterns", "{reason}", {"reason": str(error)}) from None


Fitted = Annotated[Patterns, BeforeValidator(_read)]
"""Annotation of a recipe's ``patterns``: the value, or the path of a saved one."""
