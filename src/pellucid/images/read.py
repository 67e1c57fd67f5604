"""The one way in: files become an :class:`~pellucid.images.ImageSet`."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from pellucid.errors import BadImage
from pellucid.images.axes import check_axes
from pellucid.images.classes import numbered
from pellucid.images.collect import Masks, collected
from pellucid.images.grouping import grouped, grouping_column
from pellucid.images.imageset import ImageSet
from pellucid.images.listing import Listing
from pellucid.images.loading import FileSource, ImageLoader, Picture, Reading, take_picture
from pellucid.images.masks import MaskLoader
from pellucid.images.reader import LIMIT, Source, Wanted
from pellucid.images.tiles import Tiles, tiled

__all__ = ["read_images"]

TRIES = 32
"""So many unreadable files in a row are no accident: the set itself cannot be read."""


def read_images(
    path: str | Path,
    *,
    labels: str | Path | None = None,
    masks: Masks | None = None,
    split: str | None = None,
    group: str | None = None,
    size: Sequence[int] | None = None,
    axes: str | None = None,
    spacing: Sequence[float] | None = None,
    channels: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    series: int | str | None = None,
    level: int | None = None,
    um_per_px: float | None = None,
    tile: int | Sequence[int] | None = None,
    overlap: int = 0,
    tissue: str | None = None,
    limit: int = LIMIT,
) -> ImageSet:
    """Open a collection of images with their labels and outlines; pixels are read later, when asked for.

    PNG, JPEG, TIFF and OME-TIFF, OME-Zarr, DICOM, NIfTI, whole slides, ``.npy``, and ``.npz`` in the layout of MedMNIST
    are read; ``docs/formats.md`` says what of each. Values become float32: whole numbers are divided by the largest of
    their type (8 bit by 255, 16 bit by 65535, also where the camera used 12 of the 16 bits), signed ones land in
    [-1, 1], floats stay as they are. Grey DICOM and NIfTI values are quantities (such as Hounsfield units) and stay as
    their files state them.

    Parameters
    ----------
    path
        A folder of images; a folder with one folder a class (also below ``train``, ``val`` and ``test``); one file; an
        OME-Zarr image or plate; a folder of DICOM files, where parallel slices of a series become one volume; or a CSV
        manifest.
    labels
        A CSV, in the images' folder or the working directory, with the columns ``image`` (a path below the images'
        folder or beside the CSV) and ``label``. Without ``label`` the images are unlabelled; all other columns become
        metadata.
    masks
        A COCO JSON file of outlines, one mask a category; a folder of files named as the images are; a mapping of mask
        name to such a folder (several annotators); or a list of CSV columns that name mask files, where an empty cell
        means that the image has none.
    split, group
        The metadata columns that name train, val and test, and the unit (patient, plate) that must stay in one split;
        ``"source_id // 10"`` makes units of blocks of ten consecutive numbers.
    size
        Resize to these lengths of the last axes, ``(Y, X)`` or ``(Z, Y, X)``: images linearly and smoothed against
        aliasing, masks to the nearest label.
    axes
        One letter a dimension in file order, such as ``"ZCYX"``, where the file states none or states them wrongly.
    spacing
        Pixel size as stored in micrometres, in the order T (seconds), Z, Y, X as far as the images have them; overrides
        what the files state. NaN stands for an axis of unknown size.
    channels
        Names of the channels; override what the files state.
    classes
        Class names in the order of the model's outputs; by default the sorted labels (whole numbers by value).
    series
        Which image of a file that holds several: its number, from 0, or its name.
    level
        Which step of a resolution pyramid, from 0, the finest.
    um_per_px
        Bring images to this pixel size in micrometres along Y and X: the coarsest level that is as fine is read and
        resized. An image that is not as fine is refused.
    tile
        Cut slides into tiles of so many pixels, one number or ``(Y, X)``, at `um_per_px`; each tile is an image, with
        the columns ``slide``, ``y`` and ``x``. The last tile of a row or column ends at the slide's edge.
    overlap
        Pixels that neighbouring tiles share.
    tissue
        Keep the tiles that hold tissue, by a recipe such as ``"saturation(share=0.5)"``; the column ``tissue`` says how
        much.
    limit
        An image that states more values than this is refused before it is decoded.

    Returns
    -------
    ImageSet
        Ids are the paths below the folder, or the CSV's ``image`` cells.

    Raises
    ------
    BadImage
        When files, columns, labels or axes are missing or ambiguous. A file that is corrupt or differs from the rest is
        refused when it is loaded.

    Examples
    --------
    >>> images = read_images("cells/", labels="labels.csv", masks=["mask"], group="smear")  # doctest: +SKIP
    >>> images.tensor(images.ids[:8]).shape  # doctest: +SKIP
    torch.Size([8, 3, 80, 80])
    """
    path = Path(path)
    wanted = Wanted(series=series, level=level, um_per_px=um_per_px, limit=limit)
    reading = _reading(wanted, axes, size, spacing, channels)
    tiles = _tiles(tile, overlap, tissue)
    used = [name for name in (split, grouping_column(group)) if name is not None]
    listing = collected(path, labels, masks, used, wanted)
    listing = listing if tiles is None else tiled(listing, tiles, wanted)
    for name in used:
        _refuse_missing(name, listing, path)
    opened = _opened(grouped(listing, group), path, reading, wanted, classes)
    return replace(opened, split_column=split or listing.split, group_column=group)


def _reading(
    wanted: Wanted,
    axes: str | None,
    size: Sequence[int] | None,
    spacing: Sequence[float] | None,
    channels: Sequence[str] | None,
) -> Reading:
    """Check what the user says of all images."""
    if wanted.um_per_px is not None and (size is not None or wanted.level is not None):
        raise BadImage("um_per_px= sets the size of the images; leave size= and level= out")
    return Reading(
        axes=None if axes is None else check_axes(axes),
        size=_sizes(size),
        um_per_px=wanted.um_per_px,
        spacing=None if spacing is None else tuple(map(float, spacing)),
        channels=None if channels is None else tuple(channels),
    )


def _tiles(tile: int | Sequence[int] | None, overlap: int, tissue: str | None) -> Tiles | None:
    if tile is None and (overlap or tissue is not None):
        raise BadImage("overlap= and tissue= are of tiles; give tile= as well")
    return None if tile is None else Tiles.of(tile, overlap, tissue)


def _opened(listing: Listing, path: Path, reading: Reading, wanted: Wanted, classes: Sequence[str] | None) -> ImageSet:
    """Make the set of a listing; what its first image holds is what all must hold."""
    names, numbers = numbered(listing, classes)
    source: Source = listing.source or FileSource(listing.files, wanted)
    first = _first_readable(source, reading, listing)
    alone = len(listing.files) == 1
    record = replace(
        first.record,
        source=listing.shown or str(path),
        affine=first.record.affine if alone else None,
        crop=first.record.crop if alone else None,
    )
    shape = first.values.shape
    load = ImageLoader(source, reading, record, shape, first.kind)
    return ImageSet(
        ids=tuple(listing.files),
        record=record,
        shape=shape,
        load=load,
        classes=names,
        labels=numbers,
        metadata=listing.metadata,
        masks=_masks(listing, source, reading, wanted, record.spatial, shape[1:]),
        describe=load.describe,
    )


def _masks(
    listing: Listing, source: Source, reading: Reading, wanted: Wanted, spatial: str, shape: tuple[int, ...]
) -> dict[str, MaskLoader]:
    """Return a reader a mask: of files, and of outlines that are drawn when asked for."""
    of_files = replace(wanted, mask=True, series=None)
    stored = {
        name: MaskLoader(files, source, reading, spatial, shape, of_files) for name, files in listing.masks.items()
    }
    drawn = {
        name: MaskLoader({}, source, reading, spatial, shape, wanted, outlines)
        for name, outlines in listing.drawn.items()
    }
    return stored | drawn


def _refuse_missing(name: str, listing: Listing, path: Path) -> None:
    if name not in listing.metadata.column_names:
        have = ", ".join(listing.metadata.column_names) or "none"
        raise BadImage(f"{path}: there is no metadata column {name!r}; the images have {have}")


def _sizes(size: Sequence[int] | None) -> tuple[int, ...] | None:
    if size is None:
        return None
    if any(not isinstance(length, int) or length < 1 for length in size):
        raise BadImage(f"size={tuple(size)} must be whole numbers of pixels, (Y, X) or (Z, Y, X)")
    return tuple(size)


def _first_readable(source: Source, reading: Reading, listing: Listing) -> Picture:
    """Tell what the set holds from its first image; a few corrupt ones before it must not cost the whole set."""
    reasons = []
    for image in islice(listing.files, TRIES):
        try:
            return take_picture(source(image), reading, image)
        except BadImage as error:
            reasons.append(error)
    raise reasons[0]
