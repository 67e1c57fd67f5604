"""Which files make up a set: its images, their labels, their masks by file or by outline."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pellucid.errors import BadImage
from pellucid.images.coco import coco_masks
from pellucid.images.folders import find_folder, list_folder, match_masks
from pellucid.images.listing import Listing, list_file
from pellucid.images.manifest import find_manifest, list_manifest
from pellucid.images.reader import Reader, Wanted
from pellucid.images.registry import reader_of, readers, suffixes

__all__ = ["Masks", "collected"]

Masks = str | Path | Sequence[str] | Mapping[str, str | Path]
"""A folder or COCO file, columns of the CSV, or folders by mask name."""

TABLES = (".csv", ".tsv")


def collected(
    path: Path,
    labels: str | Path | None,
    masks: Masks | None,
    text: Sequence[str],
    wanted: Wanted,
) -> Listing:
    """List the images below a path with their labels and masks; nothing is opened but what is a set itself.

    Parameters
    ----------
    path, labels, masks
        As `pellucid.read_images` takes them.
    text
        Columns of the CSV whose cells stay text, whatever they look like.
    wanted
        Which image of a file, and how large it may be.

    Raises
    ------
    BadImage
        When files, columns or folders are missing, or what was given does not go together.
    """
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
    outlines = masks if isinstance(masks, str | Path) and str(masks).lower().endswith(".json") else None
    columns, folders = _mask_sources(None if outlines else masks, root)
    if labels is not None:
        listing = list_manifest(find_manifest(labels, root), root, masks=columns, text=text)
    elif columns:
        raise BadImage(f"masks={columns} names columns of a CSV; give labels= as well, or a folder")
    else:
        listing = own or _files(path, list(folders.values()), wanted)
    named = {image: _below(root, file, image) for image, file in listing.files.items()} if folders else {}
    found = {name: match_masks(named, folder) for name, folder in folders.items()}
    drawn = {} if outlines is None else coco_masks(_outline_file(outlines, root), list(listing.files), wanted.limit)[0]
    return replace(listing, masks={**listing.masks, **found}, drawn={**listing.drawn, **drawn})


def _outline_file(given: str | Path, root: Path) -> Path:
    for path in (root / given, Path(given)):
        if path.is_file():
            return path
    raise BadImage(f"there is no file of outlines {given} in {root} or the working directory")


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
        raise BadImage(f"{path}: a {reader.name} file brings its own labels and masks; leave labels= and masks= out")
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

    _refuse_mixed(listing)
    first = reader(next(iter(listing.files.values())))
    if first is None or first.gather is None:
        return None
    return first.gather if all(reader(file) is first for file in listing.files.values()) else None


def _refuse_mixed(listing: Listing) -> None:
    """Refuse files of a format whose files belong together beside others: which of them do cannot be told."""
    for reader in readers():
        own = reader.suffixes if reader.gather is not None else ()
        other = [file for file in listing.files.values() if not file.lower().endswith(own)] if own else []
        if own and 0 < len(other) < len(listing.files) and any(Path(file).suffix for file in other):
            raise BadImage(
                f"the folder holds {reader.name} files beside others such as {Path(other[0]).suffix} files; keep them apart"
            )


def _mask_sources(masks: Masks | None, root: Path) -> tuple[list[str], dict[str, Path]]:
    """Sort what the user gave into columns of the CSV and folders by mask name."""
    if masks is None:
        return [], {}
    if isinstance(masks, str | Path):
        folder = find_folder(masks, root)
        return [], {folder.resolve().name: folder}
    if isinstance(masks, Mapping):
        return [], {name: find_folder(folder, root) for name, folder in masks.items()}
    return list(masks), {}
