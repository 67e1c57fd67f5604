"""Open one file with the reader of its format."""

from pathlib import Path

from pellucid.errors import BadImage
from pellucid.images.axes import RawImage
from pellucid.images.reader import Wanted
from pellucid.images.registry import reader_of

__all__ = ["decode"]


def decode(path: Path, *, wanted: Wanted) -> RawImage:
    """Read one image as stored.

    Raises
    ------
    BadImage
        When the file is missing, corrupt, of another kind, too large, holds several images of which none was chosen, or
        is a mask that JPEG compression has altered.
    """
    try:
        if not path.exists():
            raise BadImage(f"{path}: there is no such file")
        if not (path.is_file() or path.is_dir()):
            raise BadImage(f"{path}: it is neither a file nor a folder but a device or a pipe")
        reader = reader_of(path)
    except OSError as error:
        raise BadImage(f"{path}: the file cannot be opened ({error.strerror or error})") from None
    for choice in ("series", "level"):
        if getattr(wanted, choice) is not None and choice not in reader.takes and not wanted.mask:
            raise BadImage(f"{path}: a {reader.name} file has no {choice} to choose; leave {choice}= out")
    if reader.read is None:
        raise BadImage(f"{path}: a {reader.name} file is a set of images; give it as the path of read_images")
    return reader.read(path, wanted)
