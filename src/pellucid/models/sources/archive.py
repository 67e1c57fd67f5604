"""Archives unpacked for the time of opening; a name that leads out of the folder is refused before anything is written."""

import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from tempfile import TemporaryDirectory

from pellucid.errors import CannotExplain, UntrustedModel

__all__ = ["unpacked"]


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Yield the folder itself, or a temporary one with what an archive holds.

    Raises
    ------
    UntrustedModel
        When a name inside the archive leads out of it, or is a link.
    """
    if path.is_dir():
        yield path
        return
    with TemporaryDirectory(prefix="pellucid-") as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    _refuse_outside(member, path)
                archive.extractall(folder)
        except zipfile.BadZipFile as error:
            raise CannotExplain(f"{path} is a damaged archive: {error}") from error
        yield Path(folder)


def _refuse_outside(member: zipfile.ZipInfo, path: Path) -> None:
    name = member.filename
    parts = (*PurePosixPath(name).parts, *PureWindowsPath(name).parts)
    away = PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor or ".." in parts
    if away or stat.S_ISLNK(member.external_attr >> 16):
        raise UntrustedModel(
            f"{path} holds {name!r}, which leads out of the archive: it is never unpacked, trusted or not; ask whoever made it"
        )
