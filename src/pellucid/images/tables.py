"""Tables that other programs measured, joined to the images they belong to: CellProfiler's and AnnData's."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from pellucid.errors import BadImage
from pellucid.images.imageset import ImageSet
from pellucid.images.reader import needed

__all__ = ["joined", "read_objects", "read_obs"]


def read_objects(path: str | Path, images: ImageSet, *, image_table: str | Path) -> pa.Table:
    """Read CellProfiler's table of objects and say of each which image it lies in.

    Parameters
    ----------
    path
        The CSV of one kind of object, with ``ImageNumber`` and ``ObjectNumber``.
    images
        The set that the objects lie in.
    image_table
        CellProfiler's ``Image.csv``, with ``ImageNumber`` and a column ``FileName_...`` a channel.

    Returns
    -------
    pyarrow.Table
        The column ``image``, an id of the set, then the file's own columns; objects of other images are left out.

    Raises
    ------
    BadImage
        When columns are missing, a file name fits two images, or no object lies in the set.
    """
    objects, listed = _csv(Path(path)), _csv(Path(image_table))
    for table, name, columns in (
        (objects, path, ("ImageNumber", "ObjectNumber")),
        (listed, image_table, ("ImageNumber",)),
    ):
        for column in columns:
            if column not in table.column_names:
                raise BadImage(f"{name}: it has no column {column!r}; CellProfiler's tables do")
    files = [name for name in listed.column_names if name.startswith("FileName_")]
    if not files:
        raise BadImage(f"{image_table}: it has no column FileName_..., by which images are known")
    known = _by_name(images.ids)
    owner: dict[int, str] = {}
    for row in listed.select(["ImageNumber", *files]).to_pylist():
        found = {known[str(row[name])] for name in files if str(row[name]) in known}
        if len(found) > 1:
            raise BadImage(
                f"{image_table}: image {row['ImageNumber']} is made of {' and '.join(sorted(found))}; give the set one image of them"
            )
        if found:
            owner[row["ImageNumber"]] = min(found)
    return _kept(objects, [owner.get(number) for number in objects["ImageNumber"].to_pylist()], path)


def read_obs(path: str | Path, images: ImageSet, *, on: str) -> pa.Table:
    """Read the observations of an AnnData file and say of each which image it lies in.

    Parameters
    ----------
    path
        The ``.h5ad`` file; its matrix is not loaded.
    images
        The set that the observations lie in.
    on
        The column of ``obs`` that names the image, by its id or the last part of it; ``"index"`` is the index.

    Returns
    -------
    pyarrow.Table
        The column ``image``, then the columns of ``obs``.

    Raises
    ------
    BadImage
        When the file cannot be read, has no such column, or no observation lies in the set.
    """
    anndata = needed("anndata", "anndata", path)
    try:
        held = anndata.read_h5ad(path, backed="r")
        obs = held.obs.copy()
        held.file.close()
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise BadImage(f"{path}: the AnnData file cannot be read ({' '.join(str(error).split())})") from None
    names = obs.index if on == "index" else obs[on] if on in obs.columns else None
    if names is None:
        raise BadImage(f"{path}: obs has no column {on!r}; it has {', '.join(map(str, obs.columns)) or 'none'}")
    known = _by_name(images.ids)
    table = pa.Table.from_pandas(obs.drop(columns="image", errors="ignore"), preserve_index=False)
    return _kept(table, [known.get(str(name)) for name in names], path)


def joined(images: ImageSet, table: pa.Table, *, summary: Literal["mean", "median"] | None = None) -> ImageSet:
    """Return the set with the columns of a table as metadata.

    Parameters
    ----------
    images
        The set.
    table
        With the column ``image``, as `read_objects` and `read_obs` give it. An image that it leaves out has nulls.
    summary
        How several rows an image become one: the mean or median of each column of numbers, with their count as
        ``objects``. None refuses several.

    Raises
    ------
    BadImage
        When an image has several rows and no summary was chosen, or a column is there already.
    """
    table = table if summary is None else _summarised(table, summary)
    rows: dict[str, int] = {}
    for row, image in enumerate(table["image"].to_pylist()):
        if rows.setdefault(image, row) != row:
            raise BadImage(f'{image} has several rows in the table; give summary="mean" or "median"')
    places = pa.array([rows.get(image) for image in images.ids], pa.int64())
    metadata = images.metadata
    for name in table.column_names:
        if name in metadata.column_names:
            raise BadImage(f"the images have a column {name!r} already; rename the table's")
        if name != "image":
            column = table[name].combine_chunks().take(places)
            metadata = metadata.append_column(name, column) if metadata.num_columns else pa.table({name: column})
    return replace(images, metadata=metadata)


def _summarised(table: pa.Table, summary: str) -> pa.Table:
    numbers = [
        name for name in table.column_names
        if name not in ("image", "ImageNumber", "ObjectNumber") and (pa.types.is_floating(table[name].type) or pa.types.is_integer(table[name].type))
    ]  # fmt: skip
    function = {"mean": "mean", "median": "approximate_median"}[summary]
    found = table.group_by("image", use_threads=False).aggregate(
        [*((name, function) for name in numbers), ("image", "count")]
    )
    names = {f"{name}_{function}": name for name in numbers} | {"image_count": "objects"}
    return found.rename_columns([names.get(name, name) for name in found.column_names])


def _csv(path: Path) -> pa.Table:
    try:
        return pacsv.read_csv(path)
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise BadImage(f"{path}: the table cannot be read ({' '.join(str(error).split())})") from None


def _by_name(ids: Sequence[str]) -> dict[str, str]:
    """Return ids by themselves and by the last part of their path, where only one has it."""
    last: dict[str, set[str]] = {}
    for image in ids:
        last.setdefault(image.rpartition("/")[2], set()).add(image)
    return {name: min(found) for name, found in last.items() if len(found) == 1} | {image: image for image in ids}


def _kept(table: pa.Table, owners: Sequence[str | None], path: str | Path) -> pa.Table:
    column = pa.array(owners, pa.string())
    kept = table.add_column(0, "image", column).filter(pc.is_valid(column))
    if not kept.num_rows:
        raise BadImage(f"{path}: none of its {table.num_rows} rows belongs to an image of the set")
    return kept
