"""Networks from factories: ``"package.module:function"`` becomes a network, and weights are put into it."""

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from torch import Tensor, nn

from pellucid.errors import CannotExplain, PellucidError
from pellucid.models.sources.source import Factory, first_line

__all__ = ["build", "fill", "found", "module_of", "spelt"]


def spelt(factory: Factory) -> str:
    """Return the factory as it is written in a study file."""
    return factory if isinstance(factory, str) else f"{factory.__module__}:{factory.__qualname__}"


def found(text: str) -> Callable[..., Any]:
    """Return the function that a text names; importing its module runs it.

    Raises
    ------
    CannotExplain
        When there is none.
    """
    module_name, colon, name = text.partition(":")
    if not colon or not name.isidentifier() or not all(part.isidentifier() for part in module_name.split(".")):
        raise CannotExplain(f"factory={text!r} is not of the form 'package.module:function'")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, SyntaxError) as error:
        raise CannotExplain(f"factory={text!r} cannot be imported: {first_line(error)}") from error
    named = getattr(module, name, None)
    if named is None:
        raise CannotExplain(f"factory={text!r}: the module {module_name} has no {name!r}")
    if not callable(named):
        raise CannotExplain(f"factory={text!r} is {type(named).__name__} and cannot be called; name a function")
    return cast("Callable[..., Any]", named)


def module_of(content: bytes, name: str) -> ModuleType:
    """Run Python source and return what it defines; only after consent. No compiled file is read or left behind.

    Raises
    ------
    CannotExplain
        When it fails.
    """
    module = ModuleType(f"pellucid_source_{hashlib.sha256(content).hexdigest()[:16]}")
    module.__file__ = name
    sys.modules[module.__name__] = module  # where dataclasses and pickles look for what it defines
    try:
        exec(compile(content, name, "exec"), module.__dict__)  # noqa: S102  # the user consented to this content
    except Exception as error:
        del sys.modules[module.__name__]
        raise CannotExplain(f"the source code {name} failed: {type(error).__name__}: {first_line(error)}") from error
    return module


def build(factory: Callable[..., Any], settings: Mapping[str, Any], name: str | None) -> nn.Module:
    """Call a factory.

    Raises
    ------
    CannotExplain
        When it does not take the settings, fails, or returns no network.
    """
    try:
        inspect.signature(factory).bind(**settings)
    except TypeError as error:
        raise CannotExplain(f"the factory {name} cannot be called with settings {dict(settings)!r}: {error}") from error
    try:
        network = factory(**settings)
    except PellucidError:
        raise
    except (TypeError, ValueError, RuntimeError, LookupError, AttributeError) as error:
        raise CannotExplain(f"the factory {name} failed: {first_line(error)}") from error
    if not isinstance(network, nn.Module):
        raise CannotExplain(f"the factory {name} returned {type(network).__name__}; it must return an nn.Module")
    return network


def fill(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Put weights into a network.

    Raises
    ------
    CannotExplain
        When they do not fit, name by name and shape by shape.
    """
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
