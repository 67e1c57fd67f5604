"""One large image read region by region at a stated pixel size, whatever kind of pyramid its file holds."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import BadImage
from pellucid.images.axes import scaled
from pellucid.images.coarse import small_picture
from pellucid.images.pyramid import Pyramid, opened_pyramid
from pellucid.images.reader import Wanted

__all__ = ["Slide", "open_slide"]

_CLOSE = 0.01
"""Pixel sizes that differ by less are the same."""


@dataclass(frozen=True)
class Slide:
    """A slide at one pixel size, open until it is closed.

    Attributes
    ----------
    path
        The file or folder.
    pyramid
        Its resolutions, whose pixels stay on disk.
    level
        The one that is read.
    step
        Whole number of the level's pixels along the side of one pixel that is given out, their mean.
    um_per_px
        Size of a pixel that is given out in micrometres, or None where the file does not say.
    shape
        ``(C, Y, X)`` of what is given out; rows and columns that do not fill a pixel are left out.
    held
        Closes the file.
    """

    path: Path
    pyramid: Pyramid
    level: int
    step: int
    um_per_px: float | None
    shape: tuple[int, int, int]
    held: ExitStack

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.held.close()

    def read(self, rows: slice, columns: slice) -> Tensor:
        """Return a region, float32 ``(C, Y, X)`` with values as `read_images` gives them.

        Raises
        ------
        BadImage
            When the file cannot be read there.
        """
        step = self.step
        height, width = rows.stop - rows.start, columns.stop - columns.start
        try:
            found = self.pyramid.region(
                self.level, rows.start * step, columns.start * step, height * step, width * step
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise BadImage(f"{self.path}: rows {rows.start} to {rows.stop} cannot be read ({error})") from None
        pixels = scaled(np.moveaxis(found.reshape(*found.shape[:2], -1), -1, 0), str(self.path))
        blocks = pixels.reshape(len(pixels), height, step, width, step)
        return torch.from_numpy(np.ascontiguousarray(blocks.mean((2, 4), dtype=np.float32)))

    def overview(self, edge: int) -> Tensor:
        """Return the whole slide as one small picture ``(C, Y, X)`` whose longest side is `edge`; never larger than it is given out."""
        longest = max(self.shape[1:])
        level = max(
            place
            for place, sides in enumerate(self.pyramid.shapes)
            if place == self.level or max(sides) >= min(edge, longest)
        )
        factor = max(1.0, max(self.pyramid.shapes[level]) / min(edge, longest))
        found = small_picture(self.pyramid, level, factor)
        return torch.from_numpy(scaled(np.moveaxis(found.reshape(*found.shape[:2], -1), -1, 0), str(self.path)).copy())


def open_slide(path: str | Path, *, um_per_px: float | None = None, series: int | str | None = None) -> Slide:
    """Open a slide without reading it.

    Parameters
    ----------
    path
        A whole slide (SVS, NDPI, SCN, BIF), a TIFF with or without coarser levels, or an OME-Zarr folder; of one plane.
    um_per_px
        Size of the pixels to be given out in micrometres; None: those of the file. It is that of a level or a whole multiple
        of one: nothing is interpolated, so that tiles fit each other.
    series
        Which image of a file that holds several.

    Raises
    ------
    BadImage
        When the file is no such image, or has no level for that pixel size.
    """
    where = Path(path)
    with ExitStack() as held:
        pyramid = held.enter_context(opened_pyramid(where, Wanted(series=series)))
        level, step = _chosen(where, pyramid.steps, um_per_px)
        height, width = pyramid.shapes[level]
        pixel, size = pyramid.region(level, 0, 0, 1, 1), pyramid.steps[level]
        shape = (pixel.size, height // step, width // step)
        return Slide(where, pyramid, level, step, None if size is None else step * size, shape, held.pop_all())


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
