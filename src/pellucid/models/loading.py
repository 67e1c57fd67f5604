"""Open a trained model without executing anything that came with its file."""

import importlib
import inspect
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from pellucid.errors import CannotExplain, PellucidError, UntrustedModel
from pellucid.models.model import Model, Source, Task
from pellucid.models.weights import Described, Kind, file_kind, read_safetensors, read_state_dict, weights_hash

__all__ = ["load_model"]

_OWN = frozenset({"pellucid.models.networks:residual_net"})
_WHAT: Mapping[Kind, str] = {
    "torchscript": "is a TorchScript archive, a program of its own",
    "export": "is an exported program (.pt2)",
}


def load_model(
    weights: Path | str,
    *,
    factory: str | Callable[..., nn.Module] | None = None,
    settings: Mapping[str, Any] | None = None,
    classes: Sequence[str] = (),
    trust: bool = False,
    preprocess: Callable[[Tensor], Tensor] | Sequence[Callable[[Tensor], Tensor]] | None = None,
    task: Task | None = None,
    embedding: str | None = None,
    device: torch.device | str | None = None,
) -> Model:
    """Open a trained model; a file that could execute code is refused unless it is trusted.

    Parameters
    ----------
    weights
        A safetensors file, or a state dict saved by ``torch.save``: these open freely. A pickled module, a
        TorchScript archive and an exported program (``.pt2``) open with `trust` only.
    factory
        ``"package.module:function"`` (or the function) that builds the untrained network. Naming one is naming code:
        its module is imported. Files of `save_model` need none where the network is this library's own.
    settings
        Keyword arguments of the factory.
    classes, preprocess, task, embedding, device
        Of the `Model`; what is not given is taken from the file where `save_model` wrote it.
    trust
        Consent to execute what the file holds, or to call the factory that it names.

    Returns
    -------
    Model
        In eval mode, with `Source.sha256` the content hash of the file.

    Raises
    ------
    UntrustedModel
        When opening the file could execute code; the sentence says how to convert it.
    CannotExplain
        When the file or the factory cannot be used, or the weights do not fit the network.
    """
    path = Path(weights)
    kind = file_kind(path)
    digest = weights_hash(path)
    if kind == "onnx":
        raise CannotExplain(
            f"{path} is an ONNX model, which needs the onnx extra and is not read yet; give its torch weights"
        )
    if kind in _WHAT:
        network, described, source = _trusted_program(path, kind, trust=trust), Described(), Source()
    else:
        network, described, source = _built(path, kind, factory, settings, trust=trust)
    return Model(
        network,
        classes=tuple(classes) or described.classes,
        preprocess=preprocess if preprocess is not None else described.normalise,
        task=task or cast("Task | None", described.task),
        embedding=embedding or described.embedding,
        device=device,
        temperature=described.temperature,
        source=replace(source, sha256=digest),
    )


def _trusted_program(path: Path, kind: Kind, *, trust: bool) -> nn.Module:
    if not trust:
        raise UntrustedModel(
            f"{path} {_WHAT[kind]}, and opening it could execute code: give its state dict and factory=, or say trust=True"
        )
    try:
        if kind == "torchscript":
            scripted: nn.Module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
            return scripted.eval()
        return torch.export.load(path).module()
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise CannotExplain(f"{path} cannot be opened: {_first_line(error)}") from error


def _built(
    path: Path,
    kind: Kind,
    factory: str | Callable[..., nn.Module] | None,
    settings: Mapping[str, Any] | None,
    *,
    trust: bool,
) -> tuple[nn.Module, Described, Source]:
    described = Described()
    if kind == "safetensors":
        tensors, described = read_safetensors(path)
    else:
        try:
            tensors = read_state_dict(path)
        except UntrustedModel:
            if not trust:
                raise
            return _unpickled(path), described, Source()
    build = _factory(factory, described, path, trust=trust)
    arguments = settings if settings is not None else _own_settings(factory, described, path, trust=trust)
    text = _spelt(factory) if factory is not None else described.factory
    network = _called(build, arguments, text)
    _fill(network, tensors, path)
    return network.eval(), described, Source(factory=text, settings=dict(arguments), shape=described.shape)


def _spelt(factory: str | Callable[..., nn.Module]) -> str:
    return factory if isinstance(factory, str) else f"{factory.__module__}:{factory.__qualname__}"


def _unpickled(path: Path) -> nn.Module:
    """Open a pickled module: executes what it holds, hence only with consent."""
    try:
        with path.open("rb") as file:
            held = torch.load(file, map_location="cpu", weights_only=False)
    except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError, ImportError) as error:
        raise CannotExplain(f"{path} cannot be opened: {_first_line(error)}") from error
    if not isinstance(held, nn.Module):
        raise CannotExplain(f"{path} holds {type(held).__name__} and no network; a state dict needs factory=")
    return held.eval()


def _factory(
    factory: str | Callable[..., nn.Module] | None, described: Described, path: Path, *, trust: bool
) -> Callable[..., Any]:
    if callable(factory):
        return factory
    text = factory or described.factory
    if text is None:
        raise CannotExplain(f"{path} holds weights only; say factory='package.module:function' that builds the network")
    if factory is None and text not in _OWN and not trust:
        raise UntrustedModel(f"{path} asks to call {text}, which is code: say factory={text!r} yourself, or trust=True")
    return _imported(text)


def _own_settings(
    factory: str | Callable[..., nn.Module] | None, described: Described, path: Path, *, trust: bool
) -> Mapping[str, Any]:
    """Return the arguments that the file gives for its factory; for foreign code a file may not choose them."""
    if not described.settings or (factory is not None and factory != described.factory):
        return {}
    if described.factory not in _OWN and not trust:
        raise UntrustedModel(
            f"{path} gives arguments for {described.factory}, which is code: say settings={dict(described.settings)!r} "
            "yourself, or trust=True"
        )
    return described.settings


def _imported(text: str) -> Callable[..., Any]:
    module_name, colon, name = text.partition(":")
    if not colon or not name.isidentifier() or not all(part.isidentifier() for part in module_name.split(".")):
        raise CannotExplain(f"factory={text!r} is not of the form 'package.module:function'")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, SyntaxError) as error:
        raise CannotExplain(f"factory={text!r} cannot be imported: {_first_line(error)}") from error
    build = getattr(module, name, None)
    if build is None:
        raise CannotExplain(f"factory={text!r}: the module {module_name} has no {name!r}")
    if not callable(build):
        raise CannotExplain(f"factory={text!r} is {type(build).__name__} and cannot be called; name a function")
    return cast("Callable[..., Any]", build)


def _called(build: Callable[..., Any], settings: Mapping[str, Any], name: str | None) -> nn.Module:
    try:
        inspect.signature(build).bind(**settings)
    except TypeError as error:
        raise CannotExplain(f"the factory {name} cannot be called with settings {dict(settings)!r}: {error}") from error
    try:
        network = build(**settings)
    except PellucidError:
        raise
    except (TypeError, ValueError, RuntimeError, LookupError, AttributeError) as error:
        raise CannotExplain(f"the factory {name} failed: {_first_line(error)}") from error
    if not isinstance(network, nn.Module):
        raise CannotExplain(f"the factory {name} returned {type(network).__name__}; it must return an nn.Module")
    return network


def _fill(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    own = network.state_dict()
    missing, unexpected = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or unexpected:
        told = [f"{len(names)} {word} (first {names[0]!r})" for word, names in (("missing", missing), ("unexpected", unexpected)) if names]  # fmt: skip
        raise CannotExplain(
            f"{path} does not fit the network: {' and '.join(told)}; check the factory and its settings"
        )
    for name, tensor in own.items():
        if tensor.shape != tensors[name].shape:
            raise CannotExplain(
                f"{path} does not fit the network: {name!r} has shape {tuple(tensors[name].shape)} in the file and "
                f"{tuple(tensor.shape)} in the network; check the number of classes and channels"
            )
    network.load_state_dict(dict(tensors))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
