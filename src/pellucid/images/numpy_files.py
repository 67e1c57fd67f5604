"""Arrays of NumPy, one a file."""

import math
import tokenize
from pathlib import Path
from typing import IO, Any

import numpy as np

from pellucid.errors import BadImage
from pellucid.images.axes import RawImage
from pellucid.images.reader import Reader, Wanted, refuse_too_large

__all__ = ["NPY", "stated_array"]

BROKEN = (ValueError, EOFError, OSError, SyntaxError, tokenize.TokenError, MemoryError, TypeError, AttributeError, RecursionError)  # fmt: skip


def stated_array(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and type that an array's header states, without its pixels."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return tuple(shape), dtype


def _refuse_absurd(path: Path, limit: int) -> None:
    with path.open("rb") as file:
        shape, dtype = stated_array(file)
    if min(shape, default=1) < 0:
        raise BadImage(f"{path}: the array's header states the shape {shape}")
    refuse_too_large(math.prod(shape) * max(1, dtype.itemsize // 8), limit, path)


def _read(path: Path, wanted: Wanted) -> RawImage:
    try:
        _refuse_absurd(path, wanted.limit)
        array = np.load(path, allow_pickle=False)
    except BadImage:
        raise
    except BROKEN as error:
        raise BadImage(f"{path}: the array cannot be read ({' '.join(str(error).split())})") from None
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
