"""A whole slide as one picture at a chosen pixel size; its tiles are cut by `pellucid.images.tiles`."""

from pathlib import Path

from pellucid.errors import BadImage
from pellucid.images.axes import RawImage
from pellucid.images.levels import chosen_level
from pellucid.images.pyramid import opened_pyramid
from pellucid.images.reader import Reader, Wanted, refuse_too_large

__all__ = ["SLIDE"]


def _read(path: Path, wanted: Wanted) -> RawImage:
    with opened_pyramid(path, wanted) as pyramid:
        if wanted.um_per_px is None and wanted.level is None:
            raise BadImage(f"{path}: a slide is read at a pixel size; give um_per_px=, and tile= to cut it in tiles")
        level = chosen_level(pyramid.steps, wanted, path)
        height, width = pyramid.shapes[level]
        refuse_too_large(height * width * 3, wanted.limit, path)
        step = pyramid.steps[level]
        array = pyramid.region(level, 0, 0, height, width)
        return RawImage(array, "YXS"[: array.ndim], {} if step is None else {"Y": step, "X": step}, pyramid.channels)


SLIDE = Reader(
    name="Whole slides",
    suffixes=(".svs", ".ndpi", ".scn", ".bif"),
    read=_read,
    takes=frozenset({"level"}),
    extra="slides",
    reads="SVS, NDPI, SCN (what was scanned, without the glass round it) and BIF at a stated pixel size, whole or in tiles (`tile=`, `overlap=`, `tissue=`); "
    "pyramidal TIFF in tiles too; tested with files laid out as the scanners' are, not with any scanner's own",
    refuses="a pixel size finer than the slide's; a slide that states none, unless `level=` is given; BIF whose tiles overlap, since they are not stitched",
)
