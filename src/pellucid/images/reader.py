"""What a reader of a file format is.

It turns one file (or one folder that is one image) into an array with what the file states about it. It states
the axes or refuses. Other packages add readers by the entry point group ``pellucid.readers``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pellucid.errors import BadImage
from pellucid.images.axes import RawImage

if TYPE_CHECKING:
    from pellucid.images.listing import Listing

__all__ = ["LIMIT", "Reader", "Source", "Wanted", "needed", "refuse_too_large"]

Source = Callable[[str], RawImage]
"""Opens an image by its id."""

LIMIT = 2**29
"""So many values an image may have unless the user says otherwise: two gibibytes as float32."""

Choice = Literal["series", "level"]


@dataclass(frozen=True)
class Wanted:
    """Which of the images in a file is meant, how finely, and how large it may be.

    Attributes
    ----------
    series
        Number, from 0, or name of the image in a file that holds several.
    level
        Step of the resolution pyramid, from 0, the finest.
    um_per_px
        Pixel size in micrometres; the coarsest level that is as fine is read.
    limit
        An image of more values than this is refused from its header, before it is decoded.
    mask
        Whether the numbers are labels: palette numbers stay numbers, lossy files are refused.
    """

    series: int | str | None = None
    level: int | None = None
    um_per_px: float | None = None
    limit: int = LIMIT
    mask: bool = False


@dataclass(frozen=True)
class Reader:
    """How files of one format become arrays.

    Attributes
    ----------
    name
        The format, as people call it.
    suffixes
        Endings of the files' names, lower case with the dot.
    reads, refuses
        What is read and what is refused, a sentence each for the documents.
    read
        Opens one image; None where a file is always a set of images.
    entries
        Lists the images in a file or folder that may hold several, or gives None where it is one plain image.
    gather
        Turns the listing of a folder's files, all of this format, into images of several files each.
    magic
        Tells a file of this format by its first 132 bytes, for files whose name has no known ending; None leaves it out.
    folders
        Whether a folder of such a name is one image.
    marks
        Names of files by which a folder of another name is known to be one.
    takes
        Which of ``series`` and ``level`` mean something here.
    extra
        What ``pip install "pellucid[...]"`` needs to name, or "".
    """

    name: str
    suffixes: tuple[str, ...]
    reads: str
    refuses: str
    read: Callable[[Path, Wanted], RawImage] | None = None
    entries: "Callable[[Path, Wanted], Listing | None] | None" = None
    gather: "Callable[[Path, Listing, Wanted], Listing] | None" = None
    magic: Callable[[bytes], bool] | None = None
    folders: bool = False
    marks: tuple[str, ...] = ()
    takes: frozenset[Choice] = frozenset()
    extra: str = ""


def needed(module: str, extra: str, path: Path | str) -> Any:
    """Return the module of an optional package.

    Raises
    ------
    BadImage
        When it is not installed; the sentence says what to install.
    """
    try:
        return import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise BadImage(f'{path}: reading it needs the package {package}; pip install "pellucid[{extra}]"') from None


def refuse_too_large(values: int, limit: int, name: Path | str) -> None:
    """Refuse an image by the size that its header states, before anything is decoded."""
    if values > limit:
        raise BadImage(
            f"{name}: the image states {values:.3g} values, more than the limit of {limit:.3g}; choose a coarser "
            "level, read it in tiles, or give limit="
        )
