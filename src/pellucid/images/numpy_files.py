"""Arrays of NumPy: one a file, and those that lie in an archive."""

import math
import tokenize
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from pellucid.errors import BadImage
from pellucid.images.axes import Array, RawImage
from pellucid.images.reader import Reader, Wanted, named, refuse_too_large

__all__ = ["ARCHIVE_ERRORS", "NPY", "StoredArray", "stated_array", "stored_array"]

ARCHIVE_ERRORS = (zipfile.BadZipFile, tokenize.TokenError)
"""What reading an archive of arrays may end in, beside errors of the system and of values."""

_AT_ONCE = 2**20


def stated_array(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and type that an array's header states, without its pixels."""
    shape, _, dtype = _header(file)
    return shape, dtype


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_column, dtype = read(file)
    return tuple(shape), by_column, dtype


@dataclass(frozen=True)
class StoredArray:
    """An array that lies in a file as it does in memory: its rows are read one by one, and nothing is held."""

    path: str
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, row: int) -> Array:
        count = math.prod(self.shape[1:])
        start = self.offset + row * count * self.dtype.itemsize
        with named(self.path, f"row {row} cannot be read"):
            return np.fromfile(self.path, self.dtype, count, offset=start).reshape(self.shape[1:])


@lru_cache(maxsize=16)
def stored_array(path: str, member: str) -> StoredArray | None:
    """Return an array of an archive that was saved without compression, its checksum compared; None for a compressed one.

    Raises
    ------
    BadImage
        When the archive is corrupt.
    """
    with named(path, f"{member} cannot be read", *ARCHIVE_ERRORS), zipfile.ZipFile(path) as archive:
        about = archive.getinfo(f"{member}.npy")
        if about.compress_type != zipfile.ZIP_STORED:
            return None
        with archive.open(about) as file:
            shape, by_column, dtype = _header(file)
            header = file.tell()
            while file.read(_AT_ONCE):
                pass
    if by_column or dtype.hasobject:
        return None
    return StoredArray(path, _content(path, about.header_offset) + header, shape, dtype)


def _content(path: str, header: int) -> int:
    """Return where the bytes of a member begin: after its local header, whose name and extra field vary in length."""
    lengths = np.fromfile(path, "<u2", 2, offset=header + 26)
    return header + 30 + int(lengths.sum())


def _refuse_absurd(path: Path, limit: int) -> None:
    with path.open("rb") as file:
        shape, dtype = stated_array(file)
    if min(shape, default=1) < 0:
        raise BadImage(f"{path}: the array's header states the shape {shape}")
    refuse_too_large(math.prod(shape) * max(1, dtype.itemsize // 8), limit, path)


def _read(path: Path, wanted: Wanted) -> RawImage:
    with named(path, "the array cannot be read", tokenize.TokenError):
        _refuse_absurd(path, wanted.limit)
        array = np.load(path, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise BadImage(f"{path}: the file is an archive of arrays; name it .npz")
    return RawImage(array, "YX" if array.ndim == 2 else None)


NPY = Reader(
    name="NumPy",
    suffixes=(".npy",),
    read=_read,
    reads="one array of integers up to 32 bit or floats; two dimensions are YX, others need `axes=`",
    refuses="pickled objects; 64-bit integers, complex numbers; NaN and infinity",
)
