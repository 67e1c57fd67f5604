"""``[slide]`` of a study file: which whole slides are explained with the study's model, and how they are cut."""

from typing import Annotated

from pydantic import Field

from pellucid.study.tables import AtLeastOne, Count, Path_, Table

__all__ = ["SlideConfig"]


class SlideConfig(Table):
    """``[slide]``: whole slides, explained tile by tile for one class.

    Attributes
    ----------
    path
        A slide, or a folder of slides.
    target
        The class that is explained in every tile, by name or number, or a target such as ``"LogOdds(index=1)"``.
    method
        How; the first of ``explain.methods`` when left out.
    um_per_px
        Pixel size at which the model looks, in micrometres: that of a level or a whole multiple; that of the file when left out.
    series
        Which image of a file that holds several.
    tile, halo, shard
        Sides of a tile, of the margin read round it and of what one task writes, in pixels.
    tissue
        Which tiles are explained, such as ``"saturation(share=0.1)"``; every tile when left out.
    batch_size
        Tiles at once.
    shown
        Tiles with the highest answer that the report shows of each slide.
    """

    path: Path_
    target: int | str
    method: str | None = None
    um_per_px: Annotated[float, Field(gt=0, strict=False)] | None = None
    series: int | str | None = None
    tile: AtLeastOne = 512
    halo: Count = 64
    shard: AtLeastOne = 2048
    tissue: str | None = None
    batch_size: AtLeastOne = 4
    shown: AtLeastOne = 6
