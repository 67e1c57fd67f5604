"""Compiled networks: TorchScript archives and exported programs; both carry code, hence open with consent only."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from pellucid.errors import CannotExplain
from pellucid.models.content import file_kind
from pellucid.models.model import Known
from pellucid.models.sources.fixed import FixedBatch
from pellucid.models.sources.source import Asked, ModelSource, Opened, first_line, own_settings
from pellucid.models.weights import CONVERT

__all__ = ["ExportedProgram", "TorchScript", "scripted"]

_INSTEAD = f"give its weights, saved with {CONVERT}, and factory="
_RANKS = {f"Conv{transposed}{rank}d": rank for transposed in ("", "Transpose") for rank in (1, 2, 3)}


class TorchScript(ModelSource):
    """An archive of ``torch.jit.save``: derivatives reach its input, but nobody sees its layers."""

    name: ClassVar[str] = "torchscript"
    title: ClassVar[str] = "TorchScript archive"
    consent: ClassVar[str] = "the archive is a program"

    def recognises(self, path: Path) -> bool:
        """Look for code inside the archive."""
        return file_kind(path) == "torchscript"

    def open(self, asked: Asked) -> Opened:
        """Load it, with consent."""
        asked.consent.demand("is a TorchScript archive, a program of its own", _INSTEAD)
        own_settings(asked, "a TorchScript archive")
        return scripted(asked.path.read_bytes(), asked.path)


def scripted(content: bytes, path: Path) -> Opened:
    """Load a TorchScript archive; its rank is that of its convolutions.

    Raises
    ------
    CannotExplain
        When it cannot be loaded.
    """
    with _quiet(), _told(path):
        network: Any = torch.jit.load(io.BytesIO(content), map_location="cpu")  # type: ignore[no-untyped-call]
        network.eval()
    ranks = {_RANKS[part.original_name] for part in network.modules() if part.original_name in _RANKS}
    rank = ranks.pop() if len(ranks) == 1 else None
    return Opened(network=network, known=Known(gradients=True, layers=False, attention=False, spatial_rank=rank))


class ExportedProgram(ModelSource):
    """A program of ``torch.export.save``, unflattened so that its layers keep their names."""

    name: ClassVar[str] = "exported"
    title: ClassVar[str] = "exported program (.pt2)"
    consent: ClassVar[str] = "reading the program evaluates what it holds"

    def recognises(self, path: Path) -> bool:
        """Look for a program inside the archive."""
        return file_kind(path) == "export"

    def open(self, asked: Asked) -> Opened:
        """Load it, with consent."""
        asked.consent.demand("is an exported program (.pt2)", _INSTEAD)
        own_settings(asked, "an exported program")
        with _quiet(), _told(asked.path):
            program = torch.export.load(io.BytesIO(asked.path.read_bytes()))
            network: nn.Module = torch.export.unflatten(program)
        _refuse_training(program, asked.path)
        shape = _shape(program)
        rows = shape[0] if shape and isinstance(shape[0], int) else None
        inner = tuple(size if isinstance(size, int) else None for size in shape[1:])
        if rows is not None and rows > 1:
            network = FixedBatch(network, rows)
        return Opened(
            network=network,
            shape=tuple(size for size in inner if size is not None) if None not in inner and inner else None,
            known=Known(
                gradients=True,
                layers=False if rows is not None and rows > 1 else None,
                spatial_rank=len(shape) - 2 if len(shape) > 2 else None,
                rows=rows,
            ),
            notes=(f"it was exported for exactly {rows} image{'s' * (rows > 1)} at once",) if rows is not None else (),
        )


def _shape(program: Any) -> tuple[Any, ...]:
    """Return the sizes of the first input, ints where they are fixed."""
    names = program.graph_signature.user_inputs
    for node in program.graph.nodes:
        if names and node.name == names[0] and hasattr(node.meta.get("val"), "shape"):
            return tuple(node.meta["val"].shape)
    return ()


def _refuse_training(program: Any, path: Path) -> None:
    """Refuse a program whose rows depend on each other: batch norm or dropout frozen in training mode."""
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            continue
        names = [argument.name for argument in schema.arguments]
        given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
        if given.get("training") is True or given.get("train") is True:
            raise CannotExplain(
                f"{path} was exported in training mode ({node.target}): its answer for one image depends on chance or on "
                "the others; call model.eval() before torch.export.export"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's advice on how programs should be saved to those who save them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*deprecated", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*treespec, LeafSpec", category=FutureWarning)
        yield


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise CannotExplain(f"{path} cannot be opened: {first_line(error)}") from error
