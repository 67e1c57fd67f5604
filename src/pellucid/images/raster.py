"""PNG and JPEG, mostly through Pillow, without its silent conversions."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from pellucid.errors import BadImage
from pellucid.images.axes import Array, RawImage
from pellucid.images.png16 import read_png16
from pellucid.images.reader import Reader, Wanted, refuse_too_large

__all__ = ["JPEG", "PNG", "opaque"]

PLAIN = ("1", "L", "RGB", "I;16")
ORIENTATION = 274


def _read_raster(path: Path, wanted: Wanted) -> RawImage:
    """Read a PNG or JPEG; in a mask the colour numbers of a palette stay numbers, in an image they become colours.

    Raises
    ------
    BadImage
        When the file is corrupt, turned by EXIF, has several frames, a transparency that matters, or colours that are
        not grey or RGB.
    """
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            refuse_too_large(image.width * image.height * len(image.getbands()), wanted.limit, path)
            if getattr(image, "n_frames", 1) > 1:
                raise BadImage(f"{path}: the file holds several frames; save one picture a file or a TIFF stack")
            deep = image.mode not in ("I;16", "I") and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
            _refuse_turned(image, path)
            array = _opaque_or_plain(read_png16(path), path) if deep else _loaded(image, path, palette=wanted.mask)
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
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        TypeError,
        Warning,
    ) as error:
        if isinstance(error, BadImage):
            raise
        raise BadImage(f"{path}: the file is corrupt or incomplete ({_one_line(error)})") from None
    names = {2: None, 3: ("red", "green", "blue")}[array.ndim]
    return RawImage(array, "YX" if array.ndim == 2 else "YXC", channels=names)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _refuse_turned(image: Image.Image, path: Path) -> None:
    """Refuse what viewers show turned: masks drawn on the turned picture would not lie on the stored one."""
    turned = image.getexif().get(ORIENTATION, 1)
    if turned not in (0, 1):
        raise BadImage(
            f"{path}: its EXIF orientation is {turned}, so viewers show it turned or mirrored but its pixels are not; "
            "save it upright without that tag"
        )


def _loaded(image: Image.Image, path: Path, *, palette: bool) -> Array:
    image.load()
    return _pixels(image, path, palette=palette)


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


def _opaque_or_plain(array: Array, path: Path) -> Array:
    """Drop an alpha that is opaque everywhere, where there is one."""
    return array if array.shape[-1] == 3 else opaque(array, path)


def opaque(array: Array, path: Path) -> Array:
    """Drop the last channel, an alpha that is opaque everywhere; refuse any other."""
    alpha = array[..., -1]
    full = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "iu" else 1
    if (alpha != full).any():
        raise BadImage(f"{path}: the alpha channel is not opaque everywhere; flatten it on a background of your choice")
    return array[..., 0] if array.shape[-1] == 2 else array[..., :-1]


def _read_jpeg(path: Path, wanted: Wanted) -> RawImage:
    if wanted.mask:
        raise BadImage(f"{path}: JPEG alters the values of a mask; save masks as PNG, TIFF or .npy")
    return _read_raster(path, wanted)


REFUSED = "an EXIF orientation that turns the picture; alpha that is not opaque; several frames; colours that are neither grey nor RGB"
PNG = Reader(
    name="PNG",
    suffixes=(".png",),
    read=_read_raster,
    reads="grey of 1, 8 or 16 bit, RGB of 8 or 16 bit, palettes",
    refuses=REFUSED + "; interlaced files of 16-bit colours",
)
JPEG = Reader(
    name="JPEG",
    suffixes=(".jpg", ".jpeg"),
    read=_read_jpeg,
    reads="grey and RGB of 8 bit",
    refuses=REFUSED + "; masks, whose numbers JPEG alters",
)
