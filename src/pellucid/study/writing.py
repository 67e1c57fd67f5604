"""Writes that are either whole or not there, one run at a time, and one sentence where a directory cannot be used."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pellucid.errors import BadStudy, PellucidError

__all__ = ["LOCK", "locked", "whole", "writing"]

LOCK = ".lock"


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`, renamed to it when the block ends well and removed when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Tell in one sentence why a directory cannot be used: a full disk, no right to write, a lost drive."""
    try:
        yield
    except PellucidError:  # some of them are errors of the system too
        raise
    except OSError as error:
        named = "" if error.filename is None else f" ({error.filename})"
        raise BadStudy(
            f"{root} cannot be read or written: {error.strerror or error}{named}; what is finished is kept: mend that and run again"
        ) from error


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keep a second run out of a directory; the lock ends with the process, however it ends.

    Raises
    ------
    BadStudy
        When another process runs this study.
    """
    try:
        import fcntl  # noqa: PLC0415  # there is none on Windows, where nothing keeps a second run out
    except ImportError:
        yield
        return
    with (root / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadStudy(f"{root} is being run by another process; wait for it or choose another --out") from None
        yield
