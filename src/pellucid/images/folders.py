"""Which files make up a set: a folder, class folders, and mask files of the same stem. No pixel is read here."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import pyarrow as pa

from pellucid.errors import BadImage
from pellucid.images.listing import Listing
from pellucid.images.registry import is_image, suffixes

__all__ = ["find_folder", "list_folder", "match_masks"]

SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})


def list_folder(root: Path, *, apart: Sequence[Path] = ()) -> Listing:
    """Return the images of a folder, or of its class folders, in sorted order.

    Folders below ``train``, ``val`` and ``test`` are class folders too; those names become the column ``split``.

    Parameters
    ----------
    root
        The folder.
    apart
        Folders that hold masks and are no class.

    Raises
    ------
    BadImage
        When there is no image, or images lie both beside and in folders.
    """
    found = _walk(root, apart=apart)
    found = found or [name for name in _walk(root, apart=apart, endings=None) if is_image(root / name)]
    if not found:
        raise BadImage(_nothing_in(root))
    files = {_spelt(name): f"{root}/{name}" for name in found}
    depth = [tuple(name.split("/")[:-1]) for name in files]
    if not any(depth):
        return Listing(files)
    if not all(depth):
        loose = next(name for name, folders in zip(found, depth, strict=True) if not folders)
        inner = next(folders[0] for folders in depth if folders)
        raise BadImage(
            f"{root} holds images such as {loose} beside folders of images such as {inner}/; use one or a CSV"
        )
    if {folders[0].lower() for folders in depth} <= SPLITS:
        return _split_folders(root, files, depth)
    _refuse_forgotten_manifest(root)
    return Listing(files, tuple(folders[0] for folders in depth))


def _split_folders(root: Path, files: Mapping[str, str], depth: Sequence[tuple[str, ...]]) -> Listing:
    split = pa.table({"split": [folders[0] for folders in depth]})
    if all(len(folders) == 1 for folders in depth):
        return Listing(files, None, split, split="split")
    if any(len(folders) == 1 for folders in depth):
        raise BadImage(f"{root}: some images under {depth[0][0]}/ and its like lie in class folders and some do not")
    return Listing(files, tuple(folders[1] for folders in depth), split, split="split")


def _refuse_forgotten_manifest(root: Path) -> None:
    for table in sorted(root.glob("*.csv")):
        with table.open(encoding="utf-8-sig", errors="replace") as lines:
            header = lines.readline().strip().replace(";", ",").split(",")
        if "image" in header:
            raise BadImage(f'{root} holds folders and the manifest {table.name}; give labels="{table.name}"')


def _nothing_in(root: Path) -> str:
    seen = Counter(Path(name).suffix.lower() or "no suffix" for name in _walk(root, endings=None))
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in seen.most_common(5)) or "no files"
    return f"{root} holds no image: {kinds} found; {', '.join(suffixes())} are read"


def _spelt(name: str) -> str:
    """Spell bytes of a file's name that are no Unicode as digits, so that an id can be printed and stored."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _walk(root: Path, *, apart: Sequence[Path] = (), endings: tuple[str, ...] | None = ()) -> list[str]:
    """Return the sorted paths below `root` with the endings that are read, or with any where `endings` is None.

    Hidden files and folders are none of the user's. A folder that two links lead to is entered once, so that a loop of
    links ends. Nothing is opened, and only folders and links are asked more than their name.
    """
    endings = suffixes() if endings == () else endings
    whole = suffixes(folders=True)
    entered = {_identity(folder) for folder in apart}
    found: list[str] = []
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        if (identity := _identity(root / prefix)) in entered:
            continue
        entered.add(identity)
        inner = []
        for entry in _entries(f"{root}/{prefix}"):
            name = entry.name
            if name[0] == ".":
                continue
            if not entry.is_dir():
                if endings is None or name.lower().endswith(endings):
                    found.append(prefix + name)
            elif name.lower().endswith(whole):
                found.append(prefix + name)
            elif name[0] != "_":
                inner.append(prefix + name + "/")
        waiting += sorted(inner, reverse=True)
    return sorted(found)


def _identity(folder: Path) -> tuple[int, int]:
    stat = folder.stat()
    return stat.st_dev, stat.st_ino


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise BadImage(f"{folder}: the folder cannot be listed ({error.strerror or error})") from None


def find_folder(given: str | Path, root: Path) -> Path:
    """Return a folder named relative to the images or to the working directory."""
    for folder in (root / given, Path(given)):
        if folder.is_dir():
            return folder
    raise BadImage(f"there is no mask folder {given} in {root} or the working directory")


def match_masks(images: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the mask file of each image: the same path below `folder`, or the same file name, whatever the suffix.

    Parameters
    ----------
    images
        Image id to the name by which its mask is found.
    folder
        The folder of the masks.

    Raises
    ------
    BadImage
        When two masks or two images share a stem, or no image has a mask.
    """
    masks: dict[str, str] = {}
    for name in _walk(folder):
        if masks.setdefault(_stem(name), name) != name:
            raise BadImage(f"{folder}: {masks[_stem(name)]} and {name} could both be the mask of one image")
    bare = Counter(_stem(name).rpartition("/")[2] for name in images.values())
    matched = {}
    for image, name in images.items():
        stem = _stem(name)
        last = stem.rpartition("/")[2]
        if stem not in masks and last in masks and bare[last] > 1:
            raise BadImage(
                f"{folder}/{masks[last]} could be the mask of {bare[last]} images of that name, such as {image}"
            )
        mask = masks.get(stem, masks.get(last))
        if mask is not None:
            matched[image] = f"{folder}/{mask}"
    if not matched:
        raise BadImage(
            f"{folder}: none of its {len(masks)} files has the name of an image, such as {_stem(min(images))}"
        )
    return matched


def _stem(name: str) -> str:
    ending = next((one for one in (*suffixes(), *suffixes(folders=True)) if name.lower().endswith(one)), "")
    return name[: -len(ending or PurePosixPath(name).suffix) or None].removesuffix(".ome")
