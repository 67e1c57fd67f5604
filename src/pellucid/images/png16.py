"""PNG with 16 bits a colour, which Pillow would halve: the pixels of the file itself."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pellucid.errors import BadImage
from pellucid.images.axes import Array

__all__ = ["read_png16"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
SAMPLES = {2: 3, 4: 2, 6: 4}
"""Samples a pixel by colour type: RGB, grey with alpha, RGB with alpha."""


def read_png16(path: Path) -> Array:
    """Return the samples of a 16-bit colour PNG, uint16 ``(Y, X, samples)``; a transparent colour becomes alpha.

    Raises
    ------
    BadImage
        When the file is corrupt or interlaced.
    """
    parts = list(_chunks(path.read_bytes(), path))
    width, height, _, colour, _, _, interlaced = struct.unpack(">IIBBBBB", parts[0][1])
    if interlaced:
        raise BadImage(f"{path}: an interlaced PNG of 16-bit colours is not read; save it without interlacing")
    samples = SAMPLES[colour]
    packed = b"".join(data for kind, data in parts if kind == b"IDAT")
    size = height * (1 + 2 * samples * width)
    try:
        rows = zlib.decompressobj().decompress(packed, size + 1)
    except zlib.error as error:
        raise BadImage(f"{path}: the PNG is corrupt ({error})") from None
    if len(rows) != size:
        raise BadImage(f"{path}: the PNG is incomplete: {len(rows)} of {size} bytes of pixels are there")
    stored = np.frombuffer(rows, np.uint8).reshape(height, -1)
    if (stored[:, 0] > 4).any():
        raise BadImage(f"{path}: the PNG is corrupt (row filter {stored[:, 0].max()})")
    plain = _unfiltered(stored[:, 0], stored[:, 1:].reshape(height, width, 2 * samples))
    array = plain.reshape(height, width, samples, 2).view(">u2")[..., 0].astype(np.uint16)
    clear = [data for kind, data in parts if kind == b"tRNS"]
    if clear and samples == 3:
        transparent = (array == np.frombuffer(clear[0][:6], ">u2")).all(-1, keepdims=True)
        array = np.concatenate([array, np.where(transparent, 0, 65535).astype(np.uint16)], -1)
    return array


def _chunks(data: bytes, path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of each chunk whose checksum is right."""
    place = len(SIGNATURE)
    kind = b""
    while kind != b"IEND":
        if place + 12 > len(data):
            raise BadImage(f"{path}: the PNG is incomplete")
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        content, check = data[place + 8 : place + 8 + length], data[place + 8 + length : place + 12 + length]
        if check != struct.pack(">I", zlib.crc32(kind + content)):
            raise BadImage(f"{path}: the PNG is corrupt or incomplete (checksum of its part {kind!r})")
        yield kind, content
        place += 12 + length


def _unfiltered(filters: Array, stored: Array) -> Array:
    """Undo the filter of each row. A byte needs its left, upper and upper-left ones, so that diagonals go at once."""
    height, width, _ = stored.shape
    plain = np.zeros((height + 1, width + 1, stored.shape[2]), np.uint8)
    for diagonal in range(height + width - 1):
        y = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        x = diagonal - y
        left, up, corner = (plain[y + 1 - dy, x + 1 - dx].astype(np.int16) for dy, dx in ((0, 1), (1, 0), (1, 1)))
        guess = np.choose(filters[y, None], (np.zeros_like(left), left, up, (left + up) // 2, _paeth(left, up, corner)))
        plain[y + 1, x + 1] = (stored[y, x] + guess) % 256
    return plain[1:, 1:]


def _paeth(left: Array, up: Array, corner: Array) -> Array:
    """Return whichever neighbour lies nearest to left + up − corner."""
    sum_ = left + up - corner
    far_left, far_up, far_corner = (np.abs(sum_ - one) for one in (left, up, corner))
    take_left = (far_left <= far_up) & (far_left <= far_corner)
    return np.where(take_left, left, np.where(far_up <= far_corner, up, corner))
