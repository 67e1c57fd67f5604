"""napari: the OME-Zarr images with a script that shows them as layers; it needs napari and zarr, not pellucid."""

from importlib.resources import files
from pathlib import Path

from pellucid.show.exports.content import Content
from pellucid.show.exports.ome_zarr import write_ome_zarr

__all__ = ["write_napari"]


def write_napari(content: Content, folder: Path) -> None:
    """Write what `write_ome_zarr` writes and ``open_in_napari.py``: image, masks, and each map in signed colours, zero white."""
    write_ome_zarr(content, folder)
    script = (files("pellucid.show") / "static" / "open_in_napari.txt").read_text(encoding="utf-8")
    (folder / "open_in_napari.py").write_text(script, encoding="utf-8")
