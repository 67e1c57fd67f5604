"""What a study is going to take, from what one image took: passes through the model, time, room on disk."""

from collections.abc import Mapping
from math import prod

from pellucid.attribution import Explanation
from pellucid.attribution.estimate import duration
from pellucid.evaluation.calibration import EDITS_TRIED, ON_OBJECT
from pellucid.study.maps import reduced_shape
from pellucid.study.setup import Setup
from pellucid.study.store import Rows
from pellucid.study.task import Shard

__all__ = ["planned", "size_told"]

_FLOAT = 4
_SCORE = 60
"""Bytes of a score on disk, measured on studies of a thousand images; small parts cost more."""


def planned(setup: Setup, first: str, found: Mapping[str, Explanation], count: int, batch_size: int) -> tuple[str, ...]:
    """Return what so many images will take, line by line.

    Parameters
    ----------
    setup
        The study.
    first
        The image that was tried.
    found
        What each method gave for it.
    count
        Images to be explained.
    batch_size
        Rows a pass.
    """
    kept, metrics = setup.config.kept, setup.config.evaluate.metrics
    whole = kept.whole(count, setup.config.run.shard)
    shapes = [explanation.tensors[0].shape[1:] for explanation in found.values()]
    full = _FLOAT * whole * sum(map(prod, shapes))
    small = (
        _FLOAT * count * sum(prod(reduced_shape(shape[1:], kept.reduced)) for shape in shapes) if kept.reduced else 0
    )
    explaining = [
        sum(part) for part in zip(*((one.forwards, one.backwards, one.seconds) for one in found.values()), strict=True)
    ]
    told = f"{whole:,} in full" + (f", all {count:,} reduced to {kept.reduced}" if kept.reduced else "")
    return (
        f"explaining: {_cost(explaining, count)} in one process, as one image took",
        f"testing: {_cost(_testing(setup, first, found, batch_size), count)}",
        *_calibrating(setup, explaining, count),
        f"on disk: at most {size_told(full + small)} of maps ({told}), about {size_told(_SCORE * count * len(found) * len(metrics))} of scores",
        f"tasks: {-(-count // setup.config.run.shard):,} of {setup.config.run.shard} images",
    )


def _cost(one: list[float], count: int) -> str:
    forwards, backwards, seconds = one
    return (
        f"{round(count * forwards):,} forwards and {round(count * backwards):,} backwards, {duration(count * seconds)}"
    )


def _calibrating(setup: Setup, one: list[float], count: int) -> list[str]:
    """Return what planted changes take: every image is explained before and after each of them."""
    if setup.config.calibrate is None:
        return []
    edited = min(setup.config.calibrate.images, count)
    copies = 1 + 2 * len(EDITS_TRIED) + len(ON_OBJECT)
    return [f"planting changes: at most {_cost(one, edited * copies)} ({edited} images)"]


def _testing(setup: Setup, first: str, found: Mapping[str, Explanation], batch_size: int) -> list[float]:
    """Return what the metrics take for one image under all methods: what methods share once, and the rest for each of them."""
    maps = list(found.values())
    one, two = (_scored(setup, first, maps[:number], batch_size) for number in (1, 2))
    further = [max(0.0, b - a) for a, b in zip(one, two, strict=True)]
    return [a + (len(maps) - 1) * step for a, step in zip(one, further, strict=True)]


def _scored(setup: Setup, first: str, maps: list[Explanation], batch_size: int) -> list[float]:
    shard = Shard.read(setup, [first], batch_size=batch_size)
    shard.score(maps, setup.config.evaluate.metrics)
    rows: Rows = shard.costs
    return [sum(row[name] for row in rows) for name in ("forwards", "backwards", "seconds")]


def size_told(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
