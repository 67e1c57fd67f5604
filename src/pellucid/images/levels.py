"""Which step of a resolution pyramid gives a pixel size: slides are read at micrometres, never at a level's number."""

from collections.abc import Sequence
from pathlib import Path

from pellucid.errors import BadImage
from pellucid.images.reader import Wanted

__all__ = ["TOLERANCE", "chosen_level", "chosen_series"]

TOLERANCE = 1.01
"""A pixel size within a hundredth counts as the one asked for."""


def chosen_level(steps: Sequence[float | None], wanted: Wanted, name: Path | str) -> int:
    """Return the level to read.

    Parameters
    ----------
    steps
        Pixel size of each level in micrometres, the finest first; None where unknown.
    wanted
        What was asked: a level, a pixel size, or neither, which is the finest.
    name
        The file, for the sentence of a refusal.

    Raises
    ------
    BadImage
        When there is no such level, or the pixel size is unknown or finer than the finest.
    """
    if wanted.level is not None:
        if not 0 <= wanted.level < len(steps):
            raise BadImage(f"{name}: there is no level {wanted.level}; it has {len(steps)}, 0 is the finest")
        return wanted.level
    if wanted.um_per_px is None:
        return 0
    if steps[0] is None:
        raise BadImage(
            f"{name}: um_per_px={wanted.um_per_px:g} needs a pixel size and the file states none; give level="
        )
    fine = [place for place, step in enumerate(steps) if step is not None and step <= wanted.um_per_px * TOLERANCE]
    if not fine:
        raise BadImage(
            f"{name}: um_per_px={wanted.um_per_px:g} is finer than the image, whose pixels are {steps[0]:g} µm; "
            "nothing between them is known"
        )
    return fine[-1]


def chosen_series(names: Sequence[str], wanted: Wanted, name: Path | str, *, told: Sequence[str] = ()) -> int:
    """Return which of several images of a file is meant.

    Raises
    ------
    BadImage
        When there are several and none was chosen, or there is no such one; the sentence lists them.
    """
    if wanted.series is None and len(names) == 1:
        return 0
    listed = "; ".join(f"{place}: {text}" for place, text in enumerate(told or names)) or "none"
    if wanted.series is None:
        raise BadImage(f"{name}: the file holds {len(names)} images ({listed}); choose one with series=")
    if isinstance(wanted.series, str) and list(names).count(wanted.series) == 1:
        return list(names).index(wanted.series)
    if isinstance(wanted.series, int) and 0 <= wanted.series < len(names):
        return wanted.series
    raise BadImage(f"{name}: there is no series {wanted.series!r}; the file holds {listed}")
