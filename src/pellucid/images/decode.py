"""Which reader opens which file."""

import tokenize
from pathlib import Path

import numpy as np

from pellucid.errors import BadImage
from pellucid.images.axes import RawImage
from pellucid.images.raster import read_raster
from pellucid.images.tiff import read_tiff

__all__ = ["SUFFIXES", "decode"]

LOSSY = (".jpg", ".jpeg")
SUFFIXES = (".png", *LOSSY, ".tif", ".tiff", ".npy")


def decode(path: Path, *, mask: bool) -> RawImage:
    """Read one file by its suffix.

    Raises
    ------
    BadImage
        When the file is missing, corrupt, of another kind, or a mask that JPEG compression has altered.
    """
    suffix = path.suffix.lower()
    if mask and suffix in LOSSY:
        raise BadImage(f"{path}: JPEG alters the values of a mask; save masks as PNG, TIFF or .npy")
    if not path.is_file():
        raise BadImage(f"{path}: there is no such file")
    if suffix in (".tif", ".tiff"):
        return read_tiff(path)
    if suffix == ".npy":
        return _read_npy(path)
    if suffix in SUFFIXES:
        return read_raster(path, palette=mask)
    raise BadImage(f"{path}: files of kind {suffix or 'without a suffix'} are not read; {', '.join(SUFFIXES)} are")


def _read_npy(path: Path) -> RawImage:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError, tokenize.TokenError) as error:
        raise BadImage(f"{path}: the array cannot be read ({' '.join(str(error).split())})") from None
    if not isinstance(array, np.ndarray):
        raise BadImage(f"{path}: the file is an archive of arrays; name it .npz")
    return RawImage(array, "YX" if array.ndim == 2 else None)
