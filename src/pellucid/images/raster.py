"""PNG and JPEG through Pillow, without its silent conversions."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from pellucid.errors import BadImage
from pellucid.images.axes import Array, RawImage

__all__ = ["opaque", "read_raster"]

PLAIN = ("1", "L", "RGB", "I;16")


def read_raster(path: Path, *, palette: bool) -> RawImage:
    """Read a PNG or JPEG; pixels as stored (an EXIF orientation is not applied).

    Parameters
    ----------
    path
        The file.
    palette
        True keeps the colour numbers of a palette file (a label image), False turns them into colours.

    Raises
    ------
    BadImage
        When the file is corrupt, has several frames, a transparency that matters, or colours that are not grey or RGB.
    """
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            if getattr(image, "n_frames", 1) > 1:
                raise BadImage(f"{path}: the file holds several frames; save one picture a file or a TIFF stack")
            _refuse_lost_depth(image, path)
            image.load()
            array = _pixels(image, path, palette=palette)
    except UnidentifiedImageError:
        raise BadImage(f"{path}: the file is corrupt or no PNG or JPEG") from None
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    ) as error:
        if isinstance(error, BadImage):
            raise
        raise BadImage(f"{path}: the file is corrupt or incomplete ({_one_line(error)})") from None
    names = {2: None, 3: ("red", "green", "blue")}[array.ndim]
    return RawImage(array, "YX" if array.ndim == 2 else "YXC", channels=names)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _refuse_lost_depth(image: Image.Image, path: Path) -> None:
    """Pillow halves 16-bit colour without a word."""
    if image.mode not in ("I;16", "I") and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())):
        raise BadImage(f"{path}: 16-bit colour PNG cannot be read without losing half its depth; save it as TIFF")


def _pixels(image: Image.Image, path: Path, *, palette: bool) -> Array:
    if image.mode == "P" and palette:
        return np.array(image)
    if image.has_transparency_data or image.mode in ("LA", "RGBA"):
        grey = image.mode in ("L", "LA", "1")
        return opaque(np.array(image.convert("LA" if grey else "RGBA")), path)
    if image.mode == "P":
        image = image.convert("RGB")
    if image.mode == "I" and image.format == "PNG":
        return np.array(image).astype(np.uint16)
    if image.mode not in PLAIN:
        raise BadImage(f"{path}: colour mode {image.mode} is neither grey nor RGB; save it as one of these")
    array: Array = np.array(image)
    return array.astype(array.dtype.newbyteorder("="))


def opaque(array: Array, path: Path) -> Array:
    """Drop the last channel, an alpha that is opaque everywhere; refuse any other."""
    alpha = array[..., -1]
    full = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "iu" else 1
    if (alpha != full).any():
        raise BadImage(f"{path}: the alpha channel is not opaque everywhere; flatten it on a background of your choice")
    return array[..., 0] if array.shape[-1] == 2 else array[..., :-1]
