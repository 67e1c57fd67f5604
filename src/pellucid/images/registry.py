"""Which reader opens which file: the built-in ones and those that installed packages add."""

import os
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from pellucid.errors import BadImage
from pellucid.images.formats import FORMATS
from pellucid.images.reader import Reader

__all__ = ["is_image", "reader_of", "readers", "suffixes"]


@cache
def readers() -> tuple[Reader, ...]:
    """Return every reader: the built-in ones, then those of installed packages in the order of their names."""
    found = sorted(entry_points(group="pellucid.readers"), key=lambda entry: entry.name)
    return (*FORMATS, *(entry.load() for entry in found))


@cache
def _by_suffix() -> dict[str, Reader]:
    known: dict[str, Reader] = {}
    for reader in readers():
        for suffix in reader.suffixes:
            known.setdefault(suffix, reader)
    return known


@cache
def suffixes(*, folders: bool = False) -> tuple[str, ...]:
    """Return every ending of files, or of folders, that are one image."""
    return tuple(ending for ending, reader in _by_suffix().items() if reader.read and reader.folders == folders)


def _endings(name: str) -> Iterator[str]:
    """Yield the endings of a name, the longest first: ``.nii.gz`` before ``.gz``."""
    parts = name.lower().split(".")
    yield from ("." + ".".join(parts[place:]) for place in range(1, len(parts)))


def reader_of(path: Path) -> Reader:
    """Return the reader of a file by the ending of its name, else by its first bytes.

    Raises
    ------
    BadImage
        When no reader takes it.
    """
    for ending in _endings(path.name):
        found = _by_suffix().get(ending)
        if found is not None and found.folders == path.is_dir():
            return found
    found = _by_magic(path) if path.is_file() else _by_content(path)
    if found is not None:
        return found
    kind = path.suffix.lower() or "without a suffix"
    raise BadImage(f"{path}: files of kind {kind} are not read; {', '.join(suffixes())} are")


def _by_magic(path: Path) -> Reader | None:
    with path.open("rb") as file:
        head = file.read(132)
    return next((reader for reader in readers() if reader.magic is not None and reader.magic(head)), None)


def _by_content(folder: Path) -> Reader | None:
    """Return the reader of a folder that is one image: by a file that marks it, or by its first file, a slice of many."""
    for reader in readers():
        if any((folder / mark).is_file() for mark in reader.marks):
            return reader
    names = (entry.name for entry in os.scandir(folder) if entry.is_file() and entry.name[0] != ".")
    first = min(names, default=None)
    found = None if first is None else reader_of(folder / first)
    return found if found is not None and found.gather is not None else None


def is_image(path: Path) -> bool:
    """Say whether a file whose name tells nothing begins as one of the formats does."""
    try:
        return path.is_file() and _by_magic(path) is not None
    except OSError:
        return False
