"""What people say of a study: ratings of maps whose method they do not see, and masks they draw; one file each, written whole."""

import hmac
import io
import json
import os
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from pellucid.errors import BadImage, BadStudy
from pellucid.hashing import hash_key
from pellucid.study import Study

__all__ = ["Item", "Reviews"]

_RATER = re.compile(r"[A-Za-z0-9_-]{1,40}")
_SCALE = range(1, 6)
_RATINGS = pa.schema(
    [("rater", pa.string()), ("image", pa.string()), ("method", pa.string()), ("rating", pa.int64()), ("note", pa.string()),
     ("seconds", pa.float64()), ("at", pa.int64())]
)  # fmt: skip


@dataclass(frozen=True)
class Item:
    """One map to be rated: a code stands for image and method, so that whoever rates sees neither name."""

    code: str
    image: str
    method: str


@dataclass(frozen=True)
class Reviews:
    """The reviews of one study, in its folder ``reviews``.

    Attributes
    ----------
    study
        The study.
    """

    study: Study

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self.study.path / "reviews"

    @cached_property
    def _secret(self) -> bytes:
        path = self.folder / "blinding"
        if not path.is_file():
            _write(path, secrets.token_bytes(32))
        return path.read_bytes()

    @cached_property
    def items(self) -> dict[str, Item]:
        """Every map that can be rated by its code, controls included: a rater who likes them gives a measure of taste."""
        pairs = [(image, method) for image in self.study.mapped for method in self._methods]
        made = [
            Item(hmac.digest(self._secret, f"{image}\n{method}".encode(), "sha256").hex()[:24], *(image, method))
            for image, method in pairs
        ]
        return {item.code: item for item in made}

    @property
    def _methods(self) -> Sequence[str]:
        shape = len(self.study.images.shape)
        return [
            method for method in self.study.methods if self.study.maps(method, self.study.mapped[:1]).ndim == shape + 1
        ]

    def following(self, rater: str) -> Item | None:
        """Return the next map for a rater, in an order of their own, or None when all are rated.

        Raises
        ------
        BadStudy
            When the name is not made of letters, digits, ``-`` and ``_``.
        """
        return min(self.left(rater), key=lambda item: hash_key(rater, item.code), default=None)

    def left(self, rater: str) -> list[Item]:
        """Return what a rater has not rated yet."""
        _refuse_name(rater)
        names = {path.stem for path in (self.folder / "ratings").glob(f"{rater}-*.json")}
        return [item for item in self.items.values() if f"{rater}-{item.code}" not in names]

    def rate(self, code: str, rater: str, rating: int, *, note: str = "", seconds: float = 0.0) -> None:
        """Save a rating from 1 (does not convince) to 5 (convinces).

        Raises
        ------
        BadStudy
            When code, name or rating are none.
        """
        _refuse_name(rater)
        if code not in self.items:
            raise BadStudy("there is no map of that code")
        if rating not in _SCALE:
            raise BadStudy(f"a rating is a whole number from 1 to 5, not {rating}")
        item = self.items[code]
        row = {"rater": rater, "image": item.image, "method": item.method, "rating": rating, "note": note[:2000],
               "seconds": seconds, "at": int(time.time())}  # fmt: skip
        _write(self.folder / "ratings" / f"{rater}-{code}.json", json.dumps(row, ensure_ascii=False).encode())

    def _rows(self) -> list[dict[str, Any]]:
        return [
            json.loads(path.read_text(encoding="utf-8")) for path in sorted((self.folder / "ratings").glob("*.json"))
        ]

    @property
    def ratings(self) -> pa.Table:
        """One row a rating: rater, image, method, rating, note, seconds it took, when."""
        return pa.Table.from_pylist(self._rows(), schema=_RATINGS)

    def save_mask(self, image: str, rater: str, png: bytes) -> Path:
        """Save a mask that somebody drew, a picture of the image's rows and columns in which all but black is marked.

        Raises
        ------
        BadStudy
            When the study does not explain the image, or the name is none.
        BadImage
            When the bytes are no picture of that size.
        """
        _refuse_name(rater)
        if image not in self.study.mapped:
            raise BadStudy("the study explains no such image")
        size = self.study.images.shape[-2:]
        try:
            with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
                if picture.size != (size[1], size[0]):
                    raise BadImage(
                        f"the mask has {picture.height} rows and {picture.width} columns, the image {size[0]} and {size[1]}"
                    )
                marked = np.asarray(picture.convert("L")) > 0
        except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError):
            raise BadImage("the mask is no PNG picture") from None
        buffer = io.BytesIO()
        Image.fromarray(255 * marked.astype(np.uint8)).save(buffer, "PNG")
        path = self.folder / "masks" / rater / f"{hash_key(image).hex()[:16]}.png"
        _write(path, buffer.getvalue())
        _write(path.with_suffix(".json"), json.dumps({"image": image, "rater": rater, "at": int(time.time())}).encode())
        return path


def _refuse_name(rater: str) -> None:
    if not _RATER.fullmatch(rater):
        raise BadStudy("a name has 1 to 40 letters, digits, - and _")


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_bytes(content)
    partial.replace(path)
