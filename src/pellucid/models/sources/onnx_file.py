"""What an ONNX file says of itself, read from its bytes alone: that it is one, and which files beside it hold its tensors."""

import mmap
from collections.abc import Iterator
from pathlib import Path

from pellucid.errors import CannotExplain

__all__ = ["external_names", "is_onnx"]

# Numbers of the fields of onnx.proto through which a tensor can be reached, by message.
_REACHES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_IR_VERSION, _GRAPH = 1, 7
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def is_onnx(path: Path) -> bool:
    """Say whether a file is an ONNX model: it begins with a version and holds one graph, or it is damaged and named one."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        if file.read(1) != b"\x08":
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
            try:
                numbers = [number for number, _, _ in _fields(held, 0, len(held))]
            except ValueError:
                numbers = []
    whole = numbers[:1] == [_IR_VERSION] and numbers.count(_GRAPH) == 1
    return whole or path.suffix.lower() == ".onnx"


def external_names(path: Path) -> list[str]:
    """Return the names of the files that hold tensors of the graph, as they are written in it.

    Raises
    ------
    CannotExplain
        When the file is damaged.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
        try:
            return sorted(set(_locations(held, 0, len(held), "model")))
        except (ValueError, UnicodeDecodeError) as error:
            raise CannotExplain(f"{path} is a damaged ONNX file: {error}") from error


def _locations(held: mmap.mmap, start: int, end: int, message: str) -> Iterator[str]:
    waiting = [(start, end, message)]
    while waiting:
        begin, stop, kind = waiting.pop()
        for number, first, last in _fields(held, begin, stop):
            inner = _REACHES[kind].get(number)
            if inner == "entry":
                pair = {field: held[low:high] for field, low, high in _fields(held, first, last)}
                if pair.get(1) == b"location":
                    yield pair.get(2, b"").decode()
            elif inner is not None:
                waiting.append((first, last, inner))


def _fields(held: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield every field of a protocol-buffer message: its number, and where its content begins and ends."""
    at = start
    while at < end:
        key, at = _varint(held, at, end)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            first = at
            _, at = _varint(held, at, end)
        elif wire in {_FIXED64, _FIXED32}:
            first, at = at, at + (8 if wire == _FIXED64 else 4)
        elif wire == _BYTES:
            length, first = _varint(held, at, end)
            at = first + length
        else:
            raise ValueError(f"a field of wire type {wire} at byte {at}")
        if at > end or not number:
            raise ValueError(f"a field ends behind its message at byte {first}")
        yield number, first, at


def _varint(held: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if at >= end:
            break
        byte = held[at]
        at += 1
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at
    raise ValueError(f"a number that does not end at byte {at}")
