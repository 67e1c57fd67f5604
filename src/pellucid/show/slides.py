"""The report's section on whole slides: the slide beside its heat map, what was explained of it, and the tiles of which the model said most."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from torch import Tensor

from pellucid.attribution import METHODS
from pellucid.show.colour import coloured, full_colour
from pellucid.show.figure import palette_of, sign_of
from pellucid.show.picture import address, rgb
from pellucid.study import Study
from pellucid.study.slide_summary import highest

__all__ = ["content", "heat_on_slide"]

_SLIDES = 12
"""Slides with pictures; the table has all of them."""

_LEFT_OUT = (205, 205, 205)
_FAINT = 0.35
"""How much of the slide is left under its heat map."""


def content(study: Study) -> dict[str, Any] | None:
    """Return what the template prints, or None where the study explained no slide."""
    found, asked = study.tables.get("slides"), study.config.slide
    if asked is None or found is None:
        return None
    rows, tiles = found.to_pylist(), study.tables["slide_tiles"]
    method = METHODS.parse(rows[0]["method"])
    return {
        "rows": [row | {"area": _area(row)} for row in rows],
        "method": rows[0]["method"], "target": rows[0]["target"], "sign": sign_of(method), "recipe": rows[0]["recipe"],
        "tile": rows[0]["tile"], "halo": rows[0]["halo"], "pictures": [_pictured(study, row, tiles) for row in rows[:_SLIDES]],
    }  # fmt: skip


def _area(row: dict[str, Any]) -> str:
    """Return the size of a slide in millimetres, or "" where its pixel size is unknown."""
    if row["um_per_px"] is None:
        return ""
    height, width = (row[side] * row["um_per_px"] / 1000 for side in ("rows", "columns"))
    return f"{height:.3g} × {width:.3g} mm"


def _pictured(study: Study, row: dict[str, Any], tiles: pa.Table) -> dict[str, Any]:
    held = study.tensors(f"slide/{row['kept']}.safetensors") or {}
    palette = palette_of(METHODS.parse(row["method"]))
    if "slide" not in held:
        return {"slide": row["slide"], "tiles": []}
    ranked = highest(tiles.filter(pc.equal(tiles["slide"], row["slide"])), tiles.num_rows)
    span, scale = _range(held["slide"]), full_colour(_known(held["map"])) or 1.0
    return {
        "slide": row["slide"], "explained": row["explained"], "scale": scale, "shown": address(rgb(held["slide"], span), form="JPEG"),
        "heat": address(heat_on_slide(held["slide"], held["map"].numpy(), palette), form="JPEG"),
        "tiles": [
            tile | {
                "shown": address(rgb(held[f"tile{number}"], span), form="JPEG"),
                "heat": address(heat_on_slide(held[f"tile{number}"], held[f"map{number}"].numpy(), palette), form="JPEG"),
            }
            for number, tile in enumerate(ranked) if f"tile{number}" in held
        ],
    }  # fmt: skip


def _range(picture: Tensor) -> tuple[float, float]:
    """Return the values between which a picture is shown: those of pictures between 0 and 1, else its own."""
    low, high = float(picture.min()), float(picture.max())
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high if high > low else low + 1)


def _known(values: Tensor | NDArray[np.floating]) -> NDArray[np.floating]:
    plane: NDArray[np.floating] = np.asarray(values)
    return np.asarray(plane[np.isfinite(plane)])


def heat_on_slide(picture: Tensor, values: NDArray[np.floating], palette: str) -> NDArray[np.uint8]:
    """Return a map laid over its picture in grey, ``(Y, X, 3)``; tiles that were left out are plain grey.

    Parameters
    ----------
    picture
        ``(C, Y, X)``.
    values
        ``(Y, X)``, NaN where a tile was left out; brought to the picture by its nearest pixels.
    palette
        ``"signed"`` or ``"unsigned"``.
    """
    colours = rgb(picture, _range(picture)).astype(float)
    height, width = colours.shape[:2]
    rows = (np.arange(height) * values.shape[0]) // height
    columns = (np.arange(width) * values.shape[1]) // width
    plane = values[rows[:, None], columns[None, :]]
    known = np.isfinite(plane)
    heat = coloured(np.nan_to_num(plane), full_colour(_known(values)) or 1.0, palette).astype(float)
    grey = colours.mean(2, keepdims=True)
    laid = heat * (1 - _FAINT * (1 - grey / 255))
    return np.asarray(np.where(known[..., None], laid, _LEFT_OUT).round(), dtype=np.uint8)
