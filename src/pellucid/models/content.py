"""What lies at a path, told by its content and never by its name alone; its hash; nothing is executed."""

import hashlib
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from pellucid.errors import UntrustedModel

__all__ = ["Kind", "content_hash", "file_kind", "files_in", "inside", "zip_names"]

Kind = Literal["safetensors", "pickle", "torchscript", "export", "zip", "unknown"]

_PICKLED = b"\x80"


def content_hash(path: Path, files: Sequence[Path] | None = None) -> str:
    """Return the sha256 of a file, or of a folder: of the names and contents of all its files, in order.

    Parameters
    ----------
    path
        A file or folder.
    files
        What belongs to it where that is more than the file, as of a graph that keeps its tensors beside itself.
    """
    chosen = files_in(path) if files is None else files
    if list(chosen) == [path]:
        return _digest(path)
    root = path if path.is_dir() else path.parent
    told = hashlib.sha256()
    for file in sorted(chosen):
        told.update(f"{file.relative_to(root).as_posix()}\0{_digest(file)}\n".encode())
    return told.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_in(path: Path) -> list[Path]:
    """Return the file itself, or every file below a folder."""
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def file_kind(path: Path) -> Kind:
    """Tell what a file is from its first bytes, or from the names inside an archive."""
    if not path.is_file():
        return "unknown"
    if zipfile.is_zipfile(path):
        return _zip_kind(zip_names(path))
    with path.open("rb") as file:
        head = file.read(9)
    if len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return "safetensors"
    return "pickle" if head[:1] == _PICKLED else "unknown"


def zip_names(path: Path) -> list[str]:
    """Return the names inside an archive."""
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def _zip_kind(names: Iterable[str]) -> Kind:
    parts = [PurePosixPath(name).parts for name in names]
    inner = {part[1] for part in parts if len(part) > 1}
    last = {part[-1] for part in parts if part}
    if "data.pkl" in last and ("constants.pkl" in last or "code" in inner):
        return "torchscript"
    if last & {"archive_format", "serialized_exported_program.json"}:
        return "export"
    return "pickle" if "data.pkl" in last else "zip"


def inside(root: Path, name: str, *, what: str) -> Path:
    """Return the file of that name below a folder.

    Raises
    ------
    UntrustedModel
        When the name leads out of the folder: by being absolute, by ``..`` or through a link.
    """
    found = (root / name).resolve()
    if PurePosixPath(name).is_absolute() or not found.is_relative_to(root.resolve()):
        raise UntrustedModel(f"{what} names {name!r}, which lies outside {root}: it is never read, trusted or not")
    return found
