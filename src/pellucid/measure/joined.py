"""Measures of the user's own: a plain CSV joined to images by id, and objects' measures brought to one row an image."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pellucid.errors import BadImage

__all__ = ["Joined", "per_image", "read_measures"]

_ABSENT = {"", "na", "n/a", "nan", "null", "none", "-"}


@dataclass(frozen=True)
class Joined:
    """Measures from a file beside the images they belong to.

    Attributes
    ----------
    table
        ``image`` and a column of numbers for each measure: one row an image asked for; null where the file says nothing.
    unknown
        Ids of the file that are no image here.
    missing
        Images of which the file has no row.
    text
        Columns of the file that hold other than numbers, and are left out.
    """

    table: pa.Table
    unknown: tuple[str, ...]
    missing: tuple[str, ...]
    text: tuple[str, ...]

    @property
    def told(self) -> str:
        """What did not fit, in a sentence; empty where all did."""
        parts = [
            f"{len(names)} {what} ({', '.join(names[:5])}{', …' if len(names) > 5 else ''})"
            for what, names in (
                ("ids of the file are no image here", self.unknown), ("images have no row", self.missing),
                ("columns hold no numbers and were left out", self.text),
            )
            if names
        ]  # fmt: skip
        return "; ".join(parts)


def read_measures(path: str | Path, ids: Sequence[str], *, key: str = "image") -> Joined:
    """Read one row an image from a CSV file with a header and join it to images by id.

    A cell that is empty, ``NA`` or ``nan`` is null. A file's name with or without its ending finds the image.

    Parameters
    ----------
    path
        The file, comma- or tab- or semicolon-separated.
    ids
        Images, in the order of the rows.
    key
        Column of the ids.

    Raises
    ------
    BadImage
        When the file cannot be read, has no such column, names an image twice or names none of these.
    """
    header, rows = _cells(Path(path))
    if key not in header:
        raise BadImage(f"{path} has no column {key!r}; it has {', '.join(header)}")
    known = {name: name for name in ids}
    stems = {Path(name).stem: name for name in ids}
    found: dict[str, dict[str, str]] = {}
    unknown = []
    for row in rows:
        name = known.get(row[key]) or stems.get(Path(row[key]).stem)
        if name is None:
            unknown.append(row[key])
        elif name in found:
            raise BadImage(f"{path} has two rows for the image {name!r}; give one")
        else:
            found[name] = row
    if not found:
        raise BadImage(
            f"{path} names none of the {len(ids)} images; its first ids are {', '.join(unknown[:3]) or 'none'}"
        )
    numbers, text = _numbers(header, rows, key)
    columns = {name: [_value(found[image][name]) if image in found else None for image in ids] for name in numbers}
    table = pa.table({"image": pa.array(ids, pa.string())} | {n: pa.array(v, pa.float64()) for n, v in columns.items()})
    return Joined(table, tuple(unknown), tuple(name for name in ids if name not in found), text)


def _cells(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadImage(f"the measures {path} cannot be read: {error}") from error
    lines = text.splitlines()
    if not lines:
        raise BadImage(f"the measures {path} are empty; give a header and one row an image")
    separator = max(",;\t", key=lines[0].count)
    reader = csv.DictReader(lines, delimiter=separator)
    header = [name.strip() for name in reader.fieldnames or ()]
    return header, [
        {name.strip(): (value or "").strip() for name, value in row.items() if isinstance(name, str)} for row in reader
    ]


def _value(cell: str) -> float | None:
    if cell.lower() in _ABSENT:
        return None
    value = float(cell)
    return value if math.isfinite(value) else None


def _numbers(header: Sequence[str], rows: Sequence[dict[str, str]], key: str) -> tuple[list[str], tuple[str, ...]]:
    numbers, text = [], []
    for name in header:
        if name == key:
            continue
        try:
            for row in rows:
                _value(row[name])
            numbers.append(name)
        except ValueError:
            text.append(name)
    return numbers, tuple(text)


def per_image(objects: pa.Table, ids: Sequence[str]) -> pa.Table:
    """Return one row an image from one row an object: how many objects, and the mean of each measure over them.

    Parameters
    ----------
    objects
        Of `pellucid.measure.measure_images`.
    ids
        Images, in the order of the rows; one without an object has a count of 0 and nulls.
    """
    names = [name for name in objects.column_names if name not in {"image", "object"}]
    asked = objects.group_by("image").aggregate([*((name, "mean") for name in names), ("object", "count")])
    place = pc.index_in(pa.array(ids, pa.string()), asked["image"].combine_chunks())
    columns = {"image": pa.array(ids, pa.string()), "Count_Objects": pc.fill_null(asked["object_count"].take(place), 0)}
    fields = {name: objects.schema.field(name).with_type(pa.float64()) for name in names}
    columns |= {name: asked[f"{name}_mean"].take(place) for name in names}
    counted = pa.field("Count_Objects", pa.float64(), metadata={"unit": "1", "meaning": "objects in the image"})
    schema = pa.schema([pa.field("image", pa.string()), counted, *(fields[name] for name in names)])
    return pa.table({name: column.cast(schema.field(name).type) for name, column in columns.items()}, schema=schema)
