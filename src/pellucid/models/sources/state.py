"""Weights with a factory: safetensors and state dicts open freely; the factory is the user's own code."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

from torch import Tensor

from pellucid.errors import CannotExplain, UntrustedModel
from pellucid.models.content import file_kind
from pellucid.models.model import Task
from pellucid.models.sources.estimators import unpickled
from pellucid.models.sources.factories import build, fill, found, spelt
from pellucid.models.sources.source import Asked, ModelSource, Opened
from pellucid.models.weights import CONVERT, Described, read_safetensors, read_state_dict

__all__ = ["Safetensors", "TorchFile"]

_OWN = frozenset({"pellucid.models.networks:residual_net"})


class Safetensors(ModelSource):
    """A safetensors file with a factory; files of `save_model` name their own."""

    name: ClassVar[str] = "safetensors"
    title: ClassVar[str] = "safetensors file with a factory"

    def recognises(self, path: Path) -> bool:
        """Look for the header of the format."""
        return file_kind(path) == "safetensors"

    def open(self, asked: Asked) -> Opened:
        """Read the tensors and put them into the factory's network."""
        return _built(asked, *read_safetensors(asked.path))


class TorchFile(ModelSource):
    """A file of ``torch.save`` or ``pickle``: a state dict opens freely, Python objects with consent only."""

    name: ClassVar[str] = "torch_file"
    title: ClassVar[str] = "torch state dict with a factory; pickled network or scikit-learn pipeline"
    consent: ClassVar[str] = "pickled objects run code of their choice"

    def recognises(self, path: Path) -> bool:
        """Look for the header of a pickle, or for one inside the archive of ``torch.save``."""
        return file_kind(path) == "pickle"

    def open(self, asked: Asked) -> Opened:
        """Read tensors only; where there is more, ask for consent and unpickle."""
        try:
            tensors = read_state_dict(asked.path)
        except UntrustedModel:
            asked.consent.demand(
                "holds Python objects and not only tensors",
                f"convert it once with {CONVERT} and give factory=",
            )
            return unpickled(asked)
        return _built(asked, tensors, Described())


def _built(asked: Asked, tensors: Mapping[str, Tensor], described: Described) -> Opened:
    text = spelt(asked.factory) if asked.factory is not None else described.factory
    factory = _factory(asked, described)
    arguments = asked.settings if asked.settings is not None else _own_settings(asked, described)
    network = build(factory, arguments, text)
    fill(network, tensors, asked.path)
    return Opened(
        network=network.eval(),
        classes=described.classes,
        preprocess=described.normalise,
        task=cast("Task | None", described.task),
        embedding=described.embedding,
        temperature=described.temperature,
        factory=text,
        settings=dict(arguments),
        shape=described.shape,
    )


def _factory(asked: Asked, described: Described) -> Callable[..., Any]:
    if callable(asked.factory):
        return asked.factory
    text = asked.factory or described.factory
    if text is None:
        raise CannotExplain(
            f"{asked.path} holds weights only; say factory='package.module:function' that builds the network"
        )
    if asked.factory is None and text not in _OWN:
        asked.consent.demand(f"asks to call {text}, which is code", f"say factory={text!r} yourself")
    return found(text)


def _own_settings(asked: Asked, described: Described) -> Mapping[str, Any]:
    """Return the arguments that the file gives for its factory; for foreign code a file may not choose them."""
    if not described.settings or (asked.factory is not None and asked.factory != described.factory):
        return {}
    if described.factory not in _OWN:
        asked.consent.demand(
            f"gives arguments for {described.factory}, which is code",
            f"say settings={dict(described.settings)!r} yourself",
        )
    return described.settings
