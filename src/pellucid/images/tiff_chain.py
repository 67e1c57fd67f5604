"""The chain of pages in a TIFF file, walked once before anything else: a chain that closes on itself would be read for ever."""

import struct
from pathlib import Path

from pellucid.errors import BadImage

__all__ = ["refuse_endless"]


def refuse_endless(path: Path) -> None:
    """Refuse a TIFF in which the page after the last is an earlier one, or lies outside the file.

    Raises
    ------
    BadImage
        When it does.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        order = {b"II": "<", b"MM": ">"}.get(file.read(2))
        kind = struct.unpack(f"{order}H", file.read(2))[0] if order and size >= 16 else 0
        if kind not in (42, 43):
            return
        count, entry, link = ("H", 12, "I") if kind == 42 else ("Q", 20, "Q")
        file.seek(4 if kind == 42 else 8)
        seen: set[int] = set()
        while offset := _number(file.read(struct.calcsize(link)), f"{order}{link}"):
            if offset in seen or offset >= size:
                where = "an earlier one" if offset in seen else "outside the file"
                raise BadImage(f"{path}: the TIFF is corrupt: after page {len(seen)} it goes on at {where}")
            seen.add(offset)
            file.seek(offset)
            tags = _number(file.read(struct.calcsize(count)), f"{order}{count}")
            file.seek(min(offset + struct.calcsize(count) + tags * entry, size))


def _number(data: bytes, form: str) -> int:
    return int(struct.unpack(form, data)[0]) if len(data) == struct.calcsize(form) else 0
