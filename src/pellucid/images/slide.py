"""One large image read region by region at a stated pixel size: pyramidal TIFF, OME-TIFF, OME-Zarr."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import tifffile
import torch
import zarr
from numpy.typing import NDArray
from torch import Tensor

from pellucid.errors import BadImage
from pellucid.images.axes import scaled

__all__ = ["Slide", "open_slide"]

Array = NDArray[Any]

_CLOSE = 0.01
"""Pixel sizes that differ by less are the same."""


@dataclass(frozen=True)
class Slide:
    """A slide at one pixel size.

    Attributes
    ----------
    path
        The file or folder.
    array
        The level that is read, ``(C, Y, X)`` or ``(Y, X, C)``, whose pixels stay on disk.
    axes
        ``"CYX"`` or ``"YXC"``.
    step
        Whole number of the level's pixels along the side of one pixel that is given out, their mean.
    um_per_px
        Size of a pixel that is given out in micrometres, or None where the file does not say.
    store
        What holds the file open, or None.
    """

    path: Path
    array: Any
    axes: str
    step: int
    um_per_px: float | None
    store: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self.store is not None:
            self.store.close()

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, Y, X)`` of what is given out; rows and columns that do not fill a pixel are left out."""
        sides = dict(zip(self.axes, self.array.shape, strict=True))
        return sides["C"], sides["Y"] // self.step, sides["X"] // self.step

    def read(self, rows: slice, columns: slice) -> Tensor:
        """Return a region, float32 ``(C, Y, X)`` with values as `read_images` gives them.

        Raises
        ------
        BadImage
            When the file cannot be read there.
        """
        where = {"C": slice(None), "Y": _times(rows, self.step), "X": _times(columns, self.step)}
        try:
            found = np.asarray(self.array[tuple(where[axis] for axis in self.axes)])
        except (OSError, ValueError, RuntimeError) as error:
            raise BadImage(f"{self.path}: rows {rows.start} to {rows.stop} cannot be read ({error})") from None
        pixels = scaled(found if self.axes == "CYX" else found.transpose(2, 0, 1), str(self.path))
        count, height, width = pixels.shape
        blocks = pixels.reshape(count, height // self.step, self.step, width // self.step, self.step)
        return torch.from_numpy(np.ascontiguousarray(blocks.mean((2, 4), dtype=np.float32)))


def _times(part: slice, step: int) -> slice:
    return slice(part.start * step, part.stop * step)


def open_slide(path: str | Path, *, um_per_px: float | None = None) -> Slide:
    """Open a slide without reading it.

    Parameters
    ----------
    path
        An OME-Zarr folder, or a TIFF with or without coarser levels.
    um_per_px
        Size of the pixels to be given out in micrometres; None: those of the file. It is that of a level or a whole multiple
        of one: nothing is interpolated, so that tiles fit each other.

    Raises
    ------
    BadImage
        When the file is no such image, or has no level for that pixel size.
    """
    where = Path(path)
    levels = _zarr_levels(where) if where.is_dir() else _tiff_levels(where)
    level, step = _chosen(where, [level.um_per_px for level in levels], um_per_px)
    chosen = levels[level]
    store = chosen.open()
    size = None if chosen.um_per_px is None else step * chosen.um_per_px
    return Slide(where, zarr.open_array(store, mode="r"), chosen.axes, step, size, None if where.is_dir() else store)


def _chosen(path: Path, sizes: Sequence[float | None], wanted: float | None) -> tuple[int, int]:
    """Return the level to read, the coarsest that will do, and how many of its pixels make the side of one."""
    if wanted is None:
        return 0, 1
    for level, size in reversed(list(enumerate(sizes))):
        step = round(wanted / size) if size else 0
        if size and step >= 1 and abs(step * size / wanted - 1) < _CLOSE:
            return level, step
    have = ", ".join(f"{size:g}" for size in sizes if size) or "unknown ones"
    raise BadImage(
        f"{path}: um_per_px={wanted:g} is no whole multiple of the pixel sizes of its levels, which are {have} µm; give one that is"
    )


@dataclass(frozen=True)
class _Level:
    """One resolution of a file that is not open yet."""

    open: Callable[[], Any]
    axes: str
    um_per_px: float | None


def _zarr_levels(path: Path) -> list[_Level]:
    try:
        told: Any = zarr.open_group(path, mode="r").attrs["ome"]
        scales = told["multiscales"][0]
        axes = "".join(axis["name"].upper() for axis in scales["axes"])
        known = scales["axes"][-1].get("unit") == "micrometer"
        found = [(level["path"], level["coordinateTransformations"][0]["scale"][-1]) for level in scales["datasets"]]
    except (KeyError, IndexError, FileNotFoundError, TypeError) as error:
        raise BadImage(f"{path}: this is no OME-Zarr image of version 0.5 ({error})") from None
    _refuse_axes(path, axes)
    return [_Level(partial(Path, path, name), axes, float(scale) if known else None) for name, scale in found]


def _tiff_levels(path: Path) -> list[_Level]:
    try:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            axes, shapes = series.axes.replace("S", "C"), [level.shape for level in series.levels]
            finest = _tiff_step(file)
    except (OSError, tifffile.TiffFileError, IndexError) as error:
        raise BadImage(f"{path}: this is no TIFF that can be read ({error})") from None
    _refuse_axes(path, axes)
    wide = axes.index("X")
    return [
        _Level(
            partial(tifffile.imread, path, aszarr=True, level=place), axes,
            None if finest is None else finest * shapes[0][wide] / shape[wide],
        )
        for place, shape in enumerate(shapes)
    ]  # fmt: skip


def _refuse_axes(path: Path, axes: str) -> None:
    if axes not in {"CYX", "YXC"}:
        raise BadImage(
            f"{path}: a slide has the axes CYX or YXC, and this has {axes}; write it with a channel axis and one plane"
        )


def _tiff_step(file: Any) -> float | None:
    """Return the pixel size of the finest level in micrometres, from the OME description or the resolution tags."""
    if file.is_ome:
        told: Any = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
        first = told[0] if isinstance(told, list | tuple) else told
        size, unit = first["Pixels"].get("PhysicalSizeX"), first["Pixels"].get("PhysicalSizeXUnit", "µm")
        return (
            float(size) * {"µm": 1.0, "nm": 1e-3, "mm": 1e3}[unit]
            if size is not None and unit in {"µm", "nm", "mm"}
            else None
        )
    tags = file.pages[0].tags
    unit = {2: 25_400.0, 3: 10_000.0}.get(int(tags["ResolutionUnit"].value)) if "ResolutionUnit" in tags else None
    if unit is None or "XResolution" not in tags:
        return None
    over, under = tags["XResolution"].value
    return unit * under / over if over else None
