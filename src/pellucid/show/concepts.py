"""The report's section on concepts: which layers tell them, which calls hang on them, and parts found without labels."""

from typing import Any

import pyarrow as pa

from pellucid.images import ImageSet
from pellucid.interpretation import likelier
from pellucid.measure import in_words
from pellucid.show.colour import shade
from pellucid.show.depth import depth_chart
from pellucid.show.picture import address, rgb
from pellucid.show.standing import Cell, HeatTable
from pellucid.show.svg import inline_svg
from pellucid.show.view import View
from pellucid.study import Study

__all__ = ["concept_table", "content", "middle"]

_CLASSES = 4
_PARTS = 4


def content(study: Study) -> dict[str, Any] | None:
    """Return what the template prints, or None where the study asked for no concepts."""
    asked, tables = study.config.concepts, study.tables
    found, parts = tables.get("concepts"), tables.get("concept_parts")
    if asked is None or (found is None and parts is None):
        return None
    return {
        "classes": [] if found is None else _classes(found), "asked": asked,
        "tests": 0 if found is None else found.num_rows,
        "images": 0 if found is None else max(found["images"].to_pylist()),
        "parts": [] if parts is None else _parts(parts, study.images),
    }  # fmt: skip


def _classes(found: pa.Table) -> list[dict[str, Any]]:
    names = list(dict.fromkeys(found["target"].to_pylist()))[:_CLASSES]
    return [
        {
            "name": name,
            "table": concept_table(found, name),
            "chart": inline_svg(depth_chart(found, name), f"depth{place}"),
        }
        for place, name in enumerate(names)
    ]


def concept_table(found: pa.Table, target: str) -> HeatTable:
    """Return the effect of each concept through each layer on one class; a star where it is significant.

    Parameters
    ----------
    found
        The table of a `ConceptRelevance`.
    target
        The class.
    """
    rows = [row for row in found.to_pylist() if row["target"] == target]
    layers = list(dict.fromkeys(row["layer"] for row in sorted(rows, key=lambda row: row["depth"])))
    at = {(row["concept"], row["layer"]): row for row in rows}
    told = {row["concept"]: _told(row) for row in rows}
    strongest = max((abs(row["effect"]) for row in rows if row["significant"]), default=1.0) or 1.0
    lines = tuple(
        (told[concept], tuple(_cell(at[concept, layer], strongest) for layer in layers))
        for concept in dict.fromkeys(row["concept"] for row in rows)
    )
    return HeatTable(tuple(layers), lines)


def _told(row: dict[str, Any]) -> str:
    unit = f" ({row['unit']})" if row["unit"] not in {"", "1"} else ""
    return f"{in_words(row['concept'])}{unit}: {row['observed']:+.2f} in the images"


def _cell(row: dict[str, Any], strongest: float) -> Cell:
    text = f"{row['effect']:+.2f}{'*' if row['significant'] else ''} ({row['fit']:.2f})"
    return Cell(text, shade(min(1.0, abs(row["effect"]) / strongest)) if row["significant"] else "")


def middle(images: ImageSet, name: str) -> Any:
    """Return the colours of an image's middle plane."""
    image = images.tensor([name])[0]
    plane = View(tuple(size // 2 for size in image.shape[1:-2])).plane(image)
    return rgb(plane, images.record.display_range)


def _parts(parts: pa.Table, images: ImageSet) -> list[dict[str, Any]]:
    if len(images.shape) != 3:  # crops of volumes have no one plane
        return []
    rows = parts.to_pylist()
    found = []
    for label in list(dict.fromkeys(row["called"] for row in rows))[:_CLASSES]:
        own = [row for row in rows if row["called"] == label]
        found.append({
            "called": label, "layer": own[0]["layer"], "images": own[0]["images"], "explained": own[0]["explained"],
            "fidelity": own[0]["fidelity"], "rows": [row | {"crops": _crops(row, images), "without": likelier(-row["effect"])} for row in own[:_PARTS]],
        })  # fmt: skip
    return found


def _crops(row: dict[str, Any], images: ImageSet) -> list[dict[str, str]]:
    crops = []
    for name, (y0, x0, y1, x1) in zip(row["exemplars"], row["boxes"], strict=True):
        crops.append({"id": name, "src": address(middle(images, name)[y0:y1, x0:x1])})
    return crops
