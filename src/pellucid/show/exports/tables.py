"""The numbers of a study as tables with CellProfiler's names: one row an image, one row an object."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc_csv

from pellucid.measure import phenotypes
from pellucid.show.exports.content import Array, Content

__all__ = ["image_rows", "object_rows", "write_csv"]

Row = dict[str, Any]


def write_csv(content: Content, folder: Path) -> None:
    """Write ``Image.csv`` and, where objects are outlined, ``Object.csv``: joined by ImageNumber, as CellProfiler writes them.

    Columns: ``Metadata_*`` (id, label, prediction, every metadata column), ``Score_METRIC_METHOD``, ``Relevance_SHARE_MASK_METHOD``
    and the phenotypes of `pellucid.measure`.
    """
    numbers = {image: row + 1 for row, image in enumerate(content.ids)}
    images = [{"ImageNumber": numbers[image]} | row for image, row in image_rows(content)]
    _write(folder / "Image.csv", images)
    objects = [{"ImageNumber": numbers[image]} | row for image, row in object_rows(content)]
    if objects:
        _write(folder / "Object.csv", objects)


def _write(path: Path, rows: list[Row]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    pc_csv.write_csv(pa.table({name: [row.get(name) for row in rows] for name in names}), path)


def image_rows(content: Content) -> Iterable[tuple[str, Row]]:
    """Yield what is known of each image: metadata, scores, and the share of relevance in each mask."""
    scores: dict[str, Row] = {image: {} for image in content.ids}
    for row in content.scores.select(["image", "metric", "method", "value"]).to_pylist():
        scores[row["image"]][f"Score_{row['metric']}_{row['method']}"] = row["value"]
    for image in content.ids:
        yield image, _metadata(content, image) | scores[image] | _in_masks(content.maps(image), content.masks(image))


def _metadata(content: Content, image: str) -> Row:
    images, call = content.study.images, content.calls[image]
    told = {f"Metadata_{name}": images.column(name, [image])[0] for name in images.metadata.column_names}
    return {"Metadata_Image": image, "Metadata_Label": call["label"], "Metadata_Predicted": call["predicted"],
            "Metadata_Confidence": call["confidence"], "Metadata_Outcome": call["outcome"]} | told  # fmt: skip


def _in_masks(maps: Mapping[str, Array], masks: Mapping[str, Array]) -> Row:
    """Return how much of a map's positive and of its whole relevance lies in a mask, and which share of the image that is."""
    row: Row = {f"Area_Share_{name}": float((mask > 0).mean()) for name, mask in masks.items()}
    for method, values in maps.items():
        for name, mask in masks.items():
            row[f"Relevance_ShareOfPositive_{name}_{method}"] = _share(values.clip(0), mask > 0)
            row[f"Relevance_ShareOfMagnitude_{name}_{method}"] = _share(np.abs(values), mask > 0)
    return row


def _share(values: Array, inside: Array) -> float | None:
    total = float(values.sum(dtype=np.float64))
    return float(values[inside].sum(dtype=np.float64)) / total if total > 0 else None


def object_rows(content: Content) -> Iterable[tuple[str, Row]]:
    """Yield the phenotypes of every outlined object with the signed relevance that lies in it, object by object."""
    name = content.study.config.images.object or next(iter(content.study.images.masks), None)
    if name is None or content.record.spatial not in {"YX", "ZYX"}:
        return
    for image in content.ids:
        mask, maps = content.masks(image).get(name), content.maps(image)
        if mask is None:
            continue
        pixels = content.study.images.tensor([image])[0]
        labels = content.study.images.mask(name, [image])[0]
        if labels is None:
            continue
        for row in phenotypes(pixels, labels, content.record).to_pylist():
            own = mask == row["object"]
            told: Row = {
                f"Relevance_Sum_{method}": float(values[own].sum(dtype=np.float64)) for method, values in maps.items()
            }
            told |= {
                f"Relevance_ShareOfMagnitude_{method}": _share(np.abs(values), own) for method, values in maps.items()
            }
            yield image, {"ObjectNumber": row.pop("object")} | row | told
