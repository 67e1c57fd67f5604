"""The report's section on similar cases: a query with those that the model holds alike, and what makes them so."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pellucid.images import ImageSet
from pellucid.show.colour import full_colour, signed_bytes
from pellucid.show.concepts import middle
from pellucid.show.picture import address, reduced
from pellucid.study import Study

__all__ = ["content"]

_EDGE = 96
_SHOWN = 4
_RELATIONS = {"same": "of the called class", "other": "of another class", "boundary": "at the boundary"}


def content(study: Study) -> dict[str, Any] | None:
    """Return what the template prints, or None where the study asked for no examples."""
    tables, images = study.tables, study.images
    found = tables.get("neighbours")
    if study.config.examples is None or found is None or not found.num_rows:
        return None
    first = found.slice(0, 1).to_pylist()[0]
    return {
        "settings": {name: first[name] for name in ("layer", "metric", "pose", "gallery")},
        "queries": [_query(own, images) for own in _by_query(found)] if len(images.shape) > 2 else [],
        "precision": tables.get("neighbour_precision", pa.table({})).to_pylist(),
        "pairs": [_pair(row, images) for row in tables.get("similarity", pa.table({})).to_pylist()] if len(images.shape) == 3 else [],
        "prototypes": _prototypes(tables.get("prototypes", pa.table({})), images) if len(images.shape) > 2 else [],
        "relations": _RELATIONS,
    }  # fmt: skip


def _by_query(found: pa.Table) -> list[list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in found.to_pylist():
        rows.setdefault(row["image"], []).append(row)
    return list(rows.values())


def _picture(images: ImageSet, name: str) -> str:
    return address(middle(images, name), edge=_EDGE)


def _query(rows: list[dict[str, Any]], images: ImageSet) -> dict[str, Any]:
    first = rows[0]
    return {
        "id": first["image"], "src": _picture(images, first["image"]), "called": _named(images, first["query_called"]),
        "label": _named(images, first["query_label"]), "strange": first["strange"],
        "relations": [
            (told, [
                {"id": row["neighbour"], "src": _picture(images, row["neighbour"]), "label": _named(images, row["label"]),
                 "distance": row["distance"]}
                for row in rows if row["relation"] == relation
            ][:_SHOWN])
            for relation, told in _RELATIONS.items()
        ],
    }  # fmt: skip


def _named(images: ImageSet, number: int) -> str:
    return images.classes[number] if number < len(images.classes) else str(number)


def _pair(row: dict[str, Any], images: ImageSet) -> dict[str, Any]:
    maps = [np.array(row[side]).reshape(row["shape"]) for side in ("first", "second")]
    return {
        "method": row["method"], "likeness": row["likeness"],
        "sides": [{"id": name, "src": _picture(images, name), "map": _map(values)}
                  for name, values in zip((row["image"], row["neighbour"]), maps, strict=True)],
    }  # fmt: skip


def _map(values: NDArray[Any]) -> str:
    """Return a map as signed grey: the page colours it."""
    plane = reduced(values, _EDGE)
    return address(signed_bytes(plane, full_colour(plane) or 1.0))


def _prototypes(table: pa.Table, images: ImageSet) -> list[dict[str, Any]]:
    rows = table.to_pylist()
    return [
        {
            "class": label,
            "cases": [row | {"src": _picture(images, row["image"])} for row in rows if row["class"] == label],
        }
        for label in dict.fromkeys(row["class"] for row in rows)
    ]
