"""Concepts as columns: what experts marked or what was measured of each image, with gaps where nobody knows."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pellucid.errors import BadImage
from pellucid.images import ImageSet
from pellucid.measure import measure_images

__all__ = ["Concepts", "measured_concepts", "read_concepts"]

Array = NDArray[np.float64]

_WORDS = {"yes": 1.0, "true": 1.0, "present": 1.0, "no": 0.0, "false": 0.0, "absent": 0.0}
_UNKNOWN = {"", "?", "na", "n/a", "nan", "null", "none", "unknown"}


@dataclass(frozen=True)
class Concepts:
    """A vocabulary: one column a concept, one row an image, empty where it is not known.

    A column that holds nothing but 0 and 1 is a set (present or absent), any other a measure.

    Attributes
    ----------
    table
        ``image`` and one float column a concept, with nulls.
    units
        Unit by concept, where there is one.
    meanings
        A line by concept, where there is one.
    """

    table: pa.Table
    units: Mapping[str, str] = field(default_factory=dict)
    meanings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.table.column_names[:1] != ["image"] or self.table.num_columns < 2:
            have = ", ".join(self.table.column_names) or "none"
            raise BadImage(f"concepts need the column image and one column a concept; there is {have}")
        names = self.table["image"].to_pylist()
        if len(set(names)) != len(names):
            raise BadImage(f"the image {next(n for n in names if names.count(n) > 1)!r} stands in two rows of concepts")

    @classmethod
    def of(cls, ids: Sequence[str], columns: Mapping[str, Sequence[float | None]]) -> "Concepts":
        """Make a vocabulary of numbers; None and NaN are gaps."""
        arrays = {name: pa.array(list(values), pa.float64(), from_pandas=True) for name, values in columns.items()}
        return cls(pa.table({"image": pa.array(list(ids), pa.string()), **arrays}))

    @property
    def names(self) -> tuple[str, ...]:
        """The concepts."""
        return tuple(self.table.column_names[1:])

    def values(self, name: str, ids: Sequence[str] | None = None) -> Array:
        """Return a concept of some images, NaN where it is not known or the image has no row."""
        if name not in self.names:
            raise BadImage(f"there is no concept {name!r}; there are {', '.join(self.names)}")
        known = dict(zip(self.table["image"].to_pylist(), self.table[name].to_pylist(), strict=True))
        found = [known.get(image) for image in (known if ids is None else ids)]
        return np.array([np.nan if value is None else value for value in found], dtype=float)

    def is_set(self, name: str) -> bool:
        """Return whether a concept is present or absent, rather than measured."""
        values = self.values(name)
        return bool(np.isin(values[~np.isnan(values)], (0.0, 1.0)).all())

    def told_apart(self, name: str, ids: Sequence[str] | None = None) -> int:
        """Return how many images have the rarer of a set's two values, or how many values a measure takes."""
        values = self.values(name, ids)
        known = values[~np.isnan(values)]
        if self.is_set(name):
            return int(min(known.sum(), (1 - known).sum()))
        return len(np.unique(known))

    def select(self, names: Sequence[str]) -> "Concepts":
        """Return these concepts only."""
        for name in names:
            self.values(name, ())
        return replace(self, table=self.table.select(["image", *names]))

    def joined(self, other: "Concepts") -> "Concepts":
        """Return both vocabularies side by side, over the images of either."""
        both = [name for name in self.names if name in other.names]
        if both:
            raise BadImage(f"the concept {both[0]!r} stands in both vocabularies; rename one")
        ids = list(dict.fromkeys([*self.table["image"].to_pylist(), *other.table["image"].to_pylist()]))
        columns = {name: list(own.values(name, ids)) for own in (self, other) for name in own.names}
        return replace(
            Concepts.of(ids, columns),
            units={**self.units, **other.units},
            meanings={**self.meanings, **other.meanings},
        )

    def write(self, path: str | Path) -> Path:
        """Write a CSV that `read_concepts` reads back to the same values."""
        where = Path(path)
        with where.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(self.table.column_names)
            for row in self.table.to_pylist():
                values = [row[name] for name in self.names]
                writer.writerow([row["image"], *("" if value is None else repr(value) for value in values)])
        return where


def read_concepts(path: str | Path, images: ImageSet | None = None) -> Concepts:
    """Read what experts marked: a CSV with the column ``image`` and one column a concept.

    Numbers are measures; yes, no, true, false, present, absent, 0 and 1 say whether a concept is there; an empty cell,
    ``?`` or ``NA`` says that nobody knows. Images without a row are unknown too.

    Parameters
    ----------
    path
        The file.
    images
        The set that it speaks of: images may be named by id or, where it is unique, by file name with or without ending;
        other names are refused.

    Raises
    ------
    BadImage
        When the file has no such columns, a cell is no number, or an image is not in the set.
    """
    where = Path(path)
    try:
        with where.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadImage(f"{where} cannot be read as CSV: {error}") from None
    names = [name for name in (rows[0] if rows else {}) if name and name != "image"]
    if not rows or "image" not in rows[0] or not names:
        have = ", ".join(map(str, rows[0])) if rows else "no row"
        raise BadImage(f"{where} needs the column image and one column a concept; it has {have}")
    ids = [row["image"] for row in rows]
    if images is not None:
        ids = _in_the_set(where, ids, images)
    cells = {name: [_number(where, line, name, row[name]) for line, row in enumerate(rows, 2)] for name in names}
    return Concepts.of(ids, cells)


def _in_the_set(where: Path, names: Sequence[str], images: ImageSet) -> list[str]:
    """Return the ids that the names mean: ids themselves, or the names of files, with or without ending, that are unique."""
    known = {name: name for name in images.ids}
    files = Counter(PurePath(name).name for name in images.ids)
    stems = Counter(PurePath(name).stem for name in images.ids)
    for name in images.ids:
        path = PurePath(name)
        if files[path.name] == 1:
            known.setdefault(path.name, name)
        if stems[path.stem] == 1:
            known.setdefault(path.stem, name)
    strangers = [name for name in names if name not in known]
    if strangers:
        raise BadImage(
            f"{where}: {len(strangers)} of {len(names)} images are not in the set, the first is {strangers[0]!r}; its ids are "
            f"like {images.ids[0]!r}"
        )
    return [known[name] for name in names]


def _number(where: Path, line: int, name: str, text: str | None) -> float | None:
    word = (text or "").strip().lower()
    if word in _UNKNOWN:
        return None
    if word in _WORDS:
        return _WORDS[word]
    try:
        value = float(word)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise BadImage(f"{where}, line {line}: {name} = {text!r} is no number, yes or no; leave it empty where unknown")
    return value


def measured_concepts(
    images: ImageSet,
    names: Sequence[str] | None = None,
    *,
    ids: Sequence[str] | None = None,
    mask: str | None = "object",
    progress: bool = False,
) -> Concepts:
    """Measure the objects of each image and make each phenotype a concept; of several objects the mean is taken.

    Parameters
    ----------
    images, ids
        The set, and which of its images; all when None.
    names
        Phenotypes by column, by the last part of its name (``"Area"``), its family (``"Texture"``) or a part of it
        (``"Intensity_Mean"``, of every channel); all that vary when None.
    mask
        Name of the mask that outlines the objects; None segments them.

    Raises
    ------
    BadImage
        When a name fits no phenotype, or none varies.
    """
    table = measure_images(images, mask, ids=ids, progress=progress)
    columns = [name for name in table.column_names if name not in {"image", "object"}]
    chosen = columns if names is None else _matching(columns, names)
    means = table.group_by("image", use_threads=False).aggregate([(name, "mean") for name in chosen])
    varying = [name for name in chosen if _varies(means[f"{name}_mean"])]
    if not varying:
        raise BadImage(f"none of {', '.join(chosen)} varies over the {means.num_rows} measured images")
    found = Concepts.of(means["image"].to_pylist(), {name: means[f"{name}_mean"].to_pylist() for name in varying})
    told = {name: table.schema.field(name).metadata or {} for name in varying}
    return replace(
        found,
        units={name: fields.get(b"unit", b"").decode() for name, fields in told.items()},
        meanings={name: fields.get(b"meaning", b"").decode() for name, fields in told.items()},
    )


def _matching(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the columns that names mean: a column, the last part of its name, or the family before it."""
    found: dict[str, None] = {}
    for name in names:
        ways = (
            [column for column in columns if column == name],
            [column for column in columns if column.partition("_")[2] == name],
            [column for column in columns if column.split("_")[0] == name],
            [column for column in columns if name.lower() in column.lower()],
        )
        fit = next((way for way in ways if way), None)
        if fit is None:
            raise BadImage(f"no phenotype fits {name!r}; there are {', '.join(columns)}")
        found |= dict.fromkeys(fit)
    return list(found)


def _varies(column: Any) -> bool:
    known = pc.drop_null(column)
    if len(known) < 2:
        return False
    low, high = pc.min(known).as_py(), pc.max(known).as_py()
    return bool(high - low > 1e-9 * max(abs(low), abs(high), 1e-12))
