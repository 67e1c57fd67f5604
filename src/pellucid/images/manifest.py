"""A CSV manifest: one row an image, with its label, masks, split, group and whatever else is known."""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv

from pellucid.errors import BadImage
from pellucid.images.listing import Listing

__all__ = ["find_manifest", "list_manifest"]


def find_manifest(given: str | Path, root: Path) -> Path:
    """Return a CSV named relative to the images or to the working directory."""
    for path in (root / given, Path(given)):
        if path.is_file():
            return path
    raise BadImage(f"there is no labels file {given} in {root} or the working directory")


def list_manifest(path: Path, root: Path, *, masks: Sequence[str], text: Sequence[str]) -> Listing:
    """Read a manifest and check that every file it names is there.

    Parameters
    ----------
    path
        The CSV, with the columns ``image`` and, where there are labels, ``label``; commas, semicolons or tabs.
    root
        The folder of the images; a file is looked for here, then beside the CSV.
    masks
        Columns that name mask files; an empty cell is an image without that mask.
    text
        Columns kept as text with no empty cell (the group and the split).

    Raises
    ------
    BadImage
        When a column is missing, an id occurs twice, a label is empty, or a file is missing.
    """
    table = _read(path, (*masks, *text))
    columns = table.column_names
    if twice := [name for name in columns if columns.count(name) > 1]:
        raise BadImage(f"{path} has two columns {twice[0]!r}")
    for name in ("image", *masks, *text):
        if name not in columns:
            raise BadImage(f"{path} has no column {name!r}{_near(name, columns)}")
    if "label" not in columns and difflib.get_close_matches("label", [name.lower() for name in columns], cutoff=0.8):
        raise BadImage(f"{path} has no column 'label'{_near('label', columns)}")
    if not table.num_rows:
        raise BadImage(f"{path} names no image")
    folders = (root, path.parent)
    ids = table["image"].to_pylist()
    _refuse_repeats(ids, path)
    labels = None
    if "label" in columns:
        labels = tuple(label.strip() for label in table["label"].to_pylist())
        _refuse_empty(labels, "label", path)
    for name in text:
        _refuse_empty(table[name].to_pylist(), name, path)
    return Listing(
        files=_located(dict(zip(ids, ids, strict=True)), folders, path, "image"),
        labels=labels,
        metadata=table.drop_columns([name for name in columns if name in {"image", "label", *masks}]),
        masks={
            name: _located(
                {image: cell for image, cell in zip(ids, table[name].to_pylist(), strict=True) if cell.strip()},
                folders,
                path,
                name,
            )
            for name in masks
        },
    )


def _read(path: Path, text: Sequence[str]) -> pa.Table:
    try:
        with path.open(encoding="utf-8-sig") as lines:
            header = lines.readline()
        mark = max(",;\t", key=header.count)
        table = pacsv.read_csv(
            path,
            parse_options=pacsv.ParseOptions(delimiter=mark),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(("image", "label", *text), pa.string()), strings_can_be_null=False
            ),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise BadImage(f"{path}: the manifest cannot be read ({' '.join(str(error).split())})") from None
    return table


def _near(name: str, columns: Sequence[str]) -> str:
    lower = {column.lower(): column for column in columns}
    close = difflib.get_close_matches(name.lower(), list(lower), n=1)
    return f"; did you mean {lower[close[0]]!r}?" if close else f"; it has {', '.join(columns)}"


def _refuse_repeats(ids: Sequence[str], path: Path) -> None:
    first: dict[str, int] = {}
    for row, name in enumerate(ids, start=2):
        if first.setdefault(name, row) != row:
            raise BadImage(f"{path}: the image {name!r} occurs in rows {first[name]} and {row}; ids must be unique")


def _refuse_empty(cells: Sequence[str], column: str, path: Path) -> None:
    for row, cell in enumerate(cells, start=2):
        if not cell.strip():
            raise BadImage(f"{path}, row {row}: the {column} is empty")


def _located(cells: dict[str, str], folders: Sequence[Path], path: Path, column: str) -> dict[str, str]:
    """Find each file in one of the folders; a folder is listed once, so that a million rows are quick."""
    names: dict[str, set[str]] = {}

    def there(file: str) -> bool:
        folder, _, name = file.rpartition("/")
        if folder not in names:
            names[folder] = _names_in(folder)
        return name in names[folder]

    located = {}
    for image, cell in cells.items():
        tried = [_joined(folder, cell) for folder in dict.fromkeys(folders)]
        found = next(filter(there, tried), None)
        if found is None:
            whose = "" if column == "image" else f" of {image!r}"
            raise BadImage(f"{path}: the {column} {cell!r}{whose} is missing; there is no {' nor '.join(tried)}")
        located[image] = found
    return located


def _joined(folder: Path, cell: str) -> str:
    name = cell.strip().replace("\\", "/").rstrip("/")
    return name if name.startswith("/") else f"{folder}/{name.removeprefix('./')}"


def _names_in(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except (FileNotFoundError, NotADirectoryError):
        return set()
