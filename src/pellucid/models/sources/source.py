"""What a source of models is: it tells whether a path is one of its own, and opens it."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from pellucid.errors import CannotExplain
from pellucid.models.content import files_in
from pellucid.models.model import Known, Task
from pellucid.models.sources.consent import Consent

__all__ = ["Asked", "Factory", "ModelSource", "Opened", "fetched", "first_line", "own_settings"]

Factory = str | Callable[..., nn.Module]
"""``"package.module:function"`` or the function: what builds an untrained network."""


@dataclass(frozen=True)
class Asked:
    """What a source is given.

    Attributes
    ----------
    path
        The file or folder.
    consent
        Whether it may be executed.
    factory, settings
        As the user gave them to `load_model`.
    """

    path: Path
    consent: Consent
    factory: Factory | None = None
    settings: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What a source returns: the network, and all that is known of it.

    Attributes
    ----------
    network
        An ``nn.Module`` in eval mode, or a callable on tensors.
    classes, preprocess, task, embedding, temperature, known
        Of the `Model`; what the user says wins.
    factory, settings, shape, notes
        Of its `Source`.
    """

    network: Callable[..., Any]
    classes: tuple[str, ...] = ()
    preprocess: Callable[[Tensor], Tensor] | None = None
    task: Task | None = None
    embedding: str | None = None
    temperature: float = 1.0
    known: Known = field(default_factory=Known)
    factory: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()


class ModelSource(ABC):
    """One way in which trained models come.

    To add one, subclass it and name an instance in an entry point of the group ``pellucid.model_sources``; built-in
    sources are asked first.

    Attributes
    ----------
    name
        What it is called in `Source.kind` and in the documents.
    title
        What a biologist calls it.
    consent
        What could execute on opening, in words, or "" where nothing could.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    consent: ClassVar[str] = ""

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """Say whether what lies there is of this kind, by its content; nothing may be executed."""

    @abstractmethod
    def open(self, asked: Asked) -> Opened:
        """Open it.

        Raises
        ------
        UntrustedModel
            When that could execute code and there is no consent.
        CannotExplain
            When it cannot be used.
        """

    def files(self, path: Path) -> list[Path]:
        """Return the files that make up the model: what its hash is taken of."""
        return files_in(path)


def fetched(module: str, extra: str, *, what: str) -> Any:
    """Import a module of an extra.

    Raises
    ------
    CannotExplain
        Naming the extra, when it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise CannotExplain(
            f'{what} needs the package {module.partition(".")[0]}: pip install "pellucid[{extra}]" ({first_line(error)})'
        ) from error


def own_settings(asked: Asked, what: str, **defaults: Any) -> dict[str, Any]:
    """Return the settings of a source that needs no factory, defaults filled in.

    Raises
    ------
    CannotExplain
        When a factory or an unknown setting was given.
    """
    if asked.factory is not None:
        raise CannotExplain(f"{asked.path} is {what}, which holds its own network: leave factory= out")
    given = dict(asked.settings or {})
    for name in given:
        if name not in defaults:
            takes = f"takes {', '.join(defaults)}" if defaults else "takes none"
            raise CannotExplain(f"settings={given!r}: {what} has no setting {name!r}; it {takes}")
    return defaults | given


def first_line(error: Exception) -> str:
    """Return what an error says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
