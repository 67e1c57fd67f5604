"""The model's score while positions or regions go, or come back, in a map's order.

Points of a curve are computed once a bench and shared by the metrics that pass through them.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pellucid.evaluation.bench import Bench
from pellucid.evaluation.regions import Regions

__all__ = ["curve", "replaced"]

_Point = tuple[int, int]


def _compute(
    bench: Bench,
    known: dict[_Point, Tensor],
    missing: Sequence[_Point],
    fill: Any,
    *,
    keep: bool,
    regions: Regions | None,
) -> None:
    """Send the images of all missing points (method, count) through the model together."""
    rows = len(bench)
    points = torch.arange(len(missing)).repeat_interleave(rows)
    images = torch.arange(rows).repeat(len(missing))
    counts = torch.tensor([count for _, count in missing])
    orders = {index: _order(bench, index, regions) for index, _ in missing}

    def hide(part: slice) -> Tensor:
        pairs = zip(points[part].tolist(), images[part].tolist(), strict=True)
        places = torch.stack([orders[missing[point][0]][image] for point, image in pairs])
        changed = places < counts[points[part]].to(places.device)[:, None]
        return ~changed if keep else changed

    scores = bench.hidden(images, fill, hide).reshape(-1, len(missing), rows)
    for place, (index, count) in enumerate(missing):
        known[index, count] = bench.own(scores[:, place], index)


def _order(bench: Bench, index: int, regions: Regions | None) -> Tensor:
    return bench.order(index) if regions is None else regions.order(bench, index)


def replaced(bench: Bench, fill: Any) -> Tensor:
    """Return every target's value of the wholly replaced image, which no map has a say in."""
    rows, length = len(bench), len(bench.grid)
    everything = torch.ones(rows, length, dtype=torch.bool)
    return bench.once(("replaced", fill), lambda: bench.hidden(torch.arange(rows), fill, lambda part: everything[part]))


def curve(
    bench: Bench, counts: Sequence[int], fill: Any, *, keep: bool, regions: Regions | None = None
) -> dict[int, Tensor]:
    """Return for every map that has a place its scores ``(N, len(counts))`` with the first positions changed.

    Parameters
    ----------
    bench
        The explanations and images.
    counts
        How many positions, or regions, have changed at each point.
    fill
        What takes the place of removed positions.
    keep
        False removes the most relevant; True starts from the replaced image and brings them back.
    regions
        What goes together; default: every position on its own.
    """
    known: dict[_Point, Tensor] = bench.once(("curve", fill, keep, regions and regions.name), dict)
    placed = [index for index, placed in enumerate(bench.maps) if not placed.reason]
    for count, whole in ((0, not keep), (len(regions or bench.grid), keep)):
        if count in counts:
            scores = bench.outputs if whole else replaced(bench, fill)
            known.update({(index, count): bench.own(scores, index) for index in placed})
    missing = [(index, count) for index in placed for count in counts if (index, count) not in known]
    if missing:
        _compute(bench, known, missing, fill, keep=keep, regions=regions)
    return {index: torch.stack([known[index, count] for count in counts], 1) for index in placed}
