"""The one way in: files become an :class:`~pellucid.images.ImageSet`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from pellucid.errors import BadImage
from pellucid.images.axes import check_axes
from pellucid.images.folders import find_folder, list_folder, match_masks
from pellucid.images.grouping import grouped, grouping_column
from pellucid.images.imageset import ImageSet
from pellucid.images.listing import Listing, list_file
from pellucid.images.loading import FileSource, ImageLoader, Picture, Reading, take_picture
from pellucid.images.manifest import find_manifest, list_manifest
from pellucid.images.masks import MaskLoader
from pellucid.images.reader import LIMIT, Reader, Source, Wanted
from pellucid.images.registry import reader_of, suffixes
from pellucid.images.tiles import Tiles, tiled

__all__ = ["read_images"]

TABLES = (".csv", ".tsv")
TRIES = 32
"""So many unreadable files in a row are no accident: the set itself cannot be read."""


def read_images(
    path: str | Path,
    *,
    labels: str | Path | None = None,
    masks: str | Path | Sequence[str] | Mapping[str, str | Path] | None = None,
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
        A folder of files named as the images are; a mapping of mask name to such a folder (several annotators); or a
        list of CSV columns that name mask files, where an empty cell means that the image has none.
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
    if um_per_px is not None and (size is not None or level is not None):
        raise BadImage("um_per_px= sets the size of the images; leave size= and level= out")
    wanted = Wanted(series=series, level=level, um_per_px=um_per_px, limit=limit)
    tiles = None if tile is None else Tiles.of(tile, overlap, tissue)
    if tiles is None and (overlap or tissue is not None):
        raise BadImage("overlap= and tissue= are of tiles; give tile= as well")
    reading = Reading(
        axes=None if axes is None else check_axes(axes),
        size=_sizes(size),
        um_per_px=um_per_px,
        spacing=None if spacing is None else tuple(map(float, spacing)),
        channels=None if channels is None else tuple(channels),
    )
    used = (split, grouping_column(group))
    listing = _listing(path, labels, masks, [name for name in used if name is not None], wanted)
    listing = listing if tiles is None else tiled(listing, tiles, wanted)
    for name in used:
        _check_column(name, listing, path)
    listing = grouped(listing, group)
    names, numbers = _numbered(listing, classes)
    source: Source = listing.source or FileSource(listing.files, wanted)
    first = _first_readable(source, reading, listing)
    record = replace(
        first.record,
        source=listing.shown or str(path),
        affine=first.record.affine if len(listing.files) == 1 else None,
        crop=first.record.crop if len(listing.files) == 1 else None,
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
        masks={
            name: MaskLoader(files, source, reading, record.spatial, shape[1:], replace(wanted, mask=True, series=None))
            for name, files in listing.masks.items()
        },
        split_column=split or listing.split,
        group_column=group,
        describe=load.describe,
    )


def _check_column(name: str | None, listing: Listing, path: Path) -> None:
    if name is not None and name not in listing.metadata.column_names:
        have = ", ".join(listing.metadata.column_names) or "none"
        raise BadImage(f"{path}: there is no metadata column {name!r}; the images have {have}")


def _sizes(size: Sequence[int] | None) -> tuple[int, ...] | None:
    if size is None:
        return None
    if any(not isinstance(length, int) or length < 1 for length in size):
        raise BadImage(f"size={tuple(size)} must be whole numbers of pixels, (Y, X) or (Z, Y, X)")
    return tuple(size)


def _listing(
    path: Path,
    labels: str | Path | None,
    masks: str | Path | Sequence[str] | Mapping[str, str | Path] | None,
    text: Sequence[str],
    wanted: Wanted,
) -> Listing:
    if not _there(path):
        raise BadImage(f"there is no file or folder {path}")
    own = _own_listing(path, wanted, alone=labels is None and masks is None)
    if own is not None and labels is not None:
        raise BadImage(f"{path}: it is a set of images itself; leave labels= out, or list its images in a manifest")
    if path.suffix.lower() in TABLES and labels is None:
        path, labels = path.parent, path.name
    elif labels is not None and path.is_file():
        raise BadImage(f"{path} is one file; to use {labels}, give the folder of the images")
    root = path if path.is_dir() else path.parent
    columns, folders = _mask_sources(masks, root)
    if labels is not None:
        listing = list_manifest(find_manifest(labels, root), root, masks=columns, text=text)
    elif columns:
        raise BadImage(f"masks={columns} names columns of a CSV; give labels= as well, or a folder")
    else:
        listing = own or _files(path, list(folders.values()), wanted)
    named = {image: _below(root, file, image) for image, file in listing.files.items()} if folders else {}
    found = {name: match_masks(named, folder) for name, folder in folders.items()}
    return replace(listing, masks={**listing.masks, **found})


def _below(root: Path, file: str, image: str) -> str:
    """Return the name by which an image's mask is found: the file's own, where the id was derived from it."""
    if file == str(root):
        return root.resolve().name
    return file.removeprefix(f"{root}/") if file.startswith(f"{root}/") else image


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise BadImage(f"{path}: it cannot be opened ({error.strerror or error})") from None


def _own_listing(path: Path, wanted: Wanted, *, alone: bool) -> Listing | None:
    """Return the images that a file or folder lists by itself: an archive, a plate."""
    try:
        reader = reader_of(path)
    except (BadImage, OSError):
        return None
    if reader.read is None and not alone:
        raise BadImage(f"{path}: an archive brings its own labels and no masks; leave labels= and masks= out")
    return None if reader.entries is None else reader.entries(path, wanted)


def _files(path: Path, apart: Sequence[Path], wanted: Wanted) -> Listing:
    """Return a file or the files of a folder; slices of one volume become one image."""
    listing = list_file(path) if path.is_file() or _is_one(path) else list_folder(path, apart=apart)
    gathering = _gathering(listing)
    return listing if gathering is None else gathering(path, listing, wanted)


def _is_one(folder: Path) -> bool:
    return folder.name.lower().endswith(suffixes(folders=True))


def _gathering(listing: Listing) -> Callable[[Path, Listing, Wanted], Listing] | None:
    """Return what makes images of several files, where all files are of the one format that has them."""

    def reader(file: str) -> Reader | None:
        try:
            return reader_of(Path(file))
        except (BadImage, OSError):
            return None

    first = reader(next(iter(listing.files.values())))
    if first is None or first.gather is None:
        return None
    return first.gather if all(reader(file) is first for file in listing.files.values()) else None


def _mask_sources(
    masks: str | Path | Sequence[str] | Mapping[str, str | Path] | None, root: Path
) -> tuple[list[str], dict[str, Path]]:
    """Sort what the user gave into columns of the CSV and folders by mask name."""
    if masks is None:
        return [], {}
    if isinstance(masks, str | Path):
        folder = find_folder(masks, root)
        return [], {folder.resolve().name: folder}
    if isinstance(masks, Mapping):
        return [], {name: find_folder(folder, root) for name, folder in masks.items()}
    return list(masks), {}


def _numbered(listing: Listing, classes: Sequence[str] | None) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
    """Return class names and one number an image."""
    if listing.labels is None:
        return tuple(classes or ()), None
    labels = listing.labels
    if listing.numbered:
        names = tuple(classes or map(str, range(max(map(int, labels)) + 1)))
        labels = tuple(dict(enumerate(names)).get(int(label), label) for label in labels)
    else:
        names = tuple(classes) if classes else _sorted_names(set(labels))
    number = {name: place for place, name in enumerate(names)}
    if len(number) != len(names):
        raise BadImage(f"classes={names} names a class twice")
    for row, (image, label) in enumerate(zip(listing.files, labels, strict=True), start=1):
        if label not in number:
            raise BadImage(
                f"image {row}, {image!r}: its label {label!r} is no class; the classes are {', '.join(names)}"
            )
    return names, tuple(number[label] for label in labels)


def _sorted_names(names: set[str]) -> tuple[str, ...]:
    if all(name.isascii() and name.isdigit() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _first_readable(source: Source, reading: Reading, listing: Listing) -> Picture:
    """Tell what the set holds from its first image; a few corrupt ones before it must not cost the whole set."""
    reasons = []
    for image in islice(listing.files, TRIES):
        try:
            return take_picture(source(image), reading, image)
        except BadImage as error:
            reasons.append(error)
    raise reasons[0]
