"""Weights on disk: reading without executing; writing with what is needed to build again."""

import json
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pellucid.errors import CannotExplain, UntrustedModel
from pellucid.models.model import Model, Normalise

__all__ = ["CONVERT", "Described", "read_safetensors", "read_state_dict", "save_model"]

_FORMAT = "1"
CONVERT = "torch.save(model.state_dict(), 'weights.pt')"
"""How weights are saved so that they open freely."""


@dataclass(frozen=True)
class Described:
    """What a weights file says of itself besides the tensors; plain values, never code.

    Attributes
    ----------
    classes, normalise, task, embedding, temperature
        Of the `Model`.
    factory, settings, shape
        Of its `Source`.
    """

    classes: tuple[str, ...] = ()
    normalise: Normalise | None = None
    task: str | None = None
    embedding: str | None = None
    temperature: float = 1.0
    factory: str | None = None
    settings: Mapping[str, Any] | None = None
    shape: tuple[int, ...] | None = None


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a ``torch.save`` file without executing anything in it.

    Raises
    ------
    UntrustedModel
        When it holds more than tensors and plain values.
    """
    try:
        with path.open("rb") as file, warnings.catch_warnings():  # a path would be read by its name, not its content
            warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
            held = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UntrustedModel(
            f"{path} holds Python objects and not only tensors, and opening it could execute code: where you trust it, "
            f"convert it once with {CONVERT}, or say trust=True"
        ) from error
    except (RuntimeError, EOFError, AttributeError, ValueError, TypeError, LookupError) as error:
        raise CannotExplain(f"{path} is damaged or no torch file; save the weights anew by {CONVERT}") from error
    return _tensors(held, path)


def _tensors(held: object, path: Path) -> dict[str, Tensor]:
    """Return the state dict of what was saved: the dict itself, or the one inside a training checkpoint."""
    if isinstance(held, Mapping):
        for name in ("state_dict", "model_state_dict", "model"):
            if isinstance(held.get(name), Mapping):
                return _tensors(held[name], path)
        tensors = {str(name): value for name, value in held.items() if isinstance(value, Tensor)}
        if tensors and len(tensors) == len(held):
            prefix = "module."  # what DataParallel puts before every name
            wrapped = all(name.startswith(prefix) for name in tensors)
            return {name.removeprefix(prefix): value for name, value in tensors.items()} if wrapped else tensors
    raise CannotExplain(
        f"{path} holds no state dict (names to tensors) but {type(held).__name__}; save it by {CONVERT}"
    )


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], Described]:
    """Read tensors and what the file says of itself.

    Raises
    ------
    CannotExplain
        When the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # the handle is no mapping
    except SafetensorError as error:
        raise CannotExplain(f"{path} is a damaged safetensors file: {error}") from error
    return tensors, _described(metadata, path)


def _described(metadata: Mapping[str, str], path: Path) -> Described:
    if "pellucid" not in metadata:
        return Described()
    try:
        told = json.loads(metadata["pellucid"])
        normalise = told["normalise"]
        shape = told["shape"]
        return Described(
            classes=tuple(str(name) for name in told["classes"]),
            normalise=Normalise(tuple(map(float, normalise["mean"])), tuple(map(float, normalise["std"])))
            if normalise
            else None,
            task=told["task"],
            embedding=told["embedding"],
            temperature=float(told["temperature"]),
            factory=told["factory"],
            settings=dict(told["settings"]),
            shape=tuple(map(int, shape)) if shape else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CannotExplain(
            f"the description inside {path} is damaged ({error!r}); say classes=, factory= and preprocess="
        ) from error


def save_model(model: Model, path: Path | str) -> None:
    """Write a model's weights with all that is needed to load it again: classes, normalisation, task, factory, shape.

    Parameters
    ----------
    model
        Its network is an ``nn.Module``; its preprocessing is None or a `Normalise`.
    path
        A ``.safetensors`` file; replaced whole.

    Raises
    ------
    CannotExplain
        When the network or its preprocessing cannot be written as tensors and plain values.
    """
    path = Path(path)
    if model.module is None:
        raise CannotExplain("a plain callable has no weights to save; wrap an nn.Module")
    if model.preprocess is not None and not isinstance(model.preprocess, Normalise):
        raise CannotExplain(
            f"the preprocessing {model.preprocess!r} is code and cannot be saved; use Normalise(mean, std)"
        )
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.module.state_dict().items()}
    source = model.source
    told = {
        "format": _FORMAT,
        "classes": model.classes,
        "normalise": {"mean": model.preprocess.mean, "std": model.preprocess.std} if model.preprocess else None,
        "task": model.task,
        "embedding": model.embedding,
        "temperature": model.temperature,
        "factory": source.factory if source else None,
        "settings": dict(source.settings) if source else {},
        "shape": source.shape if source else None,
    }
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, metadata={"pellucid": json.dumps(told, sort_keys=True)})
    partial.replace(path)
