"""The model's score while subsets are hidden that no map has a say in, and what every map says of them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.attribution.fills import Fill
from pellucid.evaluation.bench import Bench
from pellucid.evaluation.positions import streams
from pellucid.evaluation.regions import patches
from pellucid.evaluation.statistics import NOISE

__all__ = ["Hidden", "hide_patches", "hide_random"]


@dataclass(frozen=True)
class Hidden:
    """What random subsets of one size give: ``sums`` (M, N, samples) of the maps, ``drops`` (T, N, samples) of f."""

    sums: Tensor
    drops: Tensor
    noise: Tensor


def _draw(stream: torch.Generator, samples: int, length: int, count: int) -> Tensor:
    """Return `samples` random subsets of exactly `count` of `length` positions, as a boolean mask.

    Runs of one shuffled order: subsets of the same order do not overlap, so few of them see the whole image.
    """
    runs = max(1, length // count)
    orders = [torch.randperm(length, generator=stream)[: runs * count] for _ in range(-(-samples // runs))]
    chosen = torch.cat(orders).reshape(-1, count)[:samples]
    return torch.zeros(samples, length, dtype=torch.bool).scatter_(1, chosen, True)  # noqa: FBT003  # the value


def _hide(bench: Bench, draw: Callable[[int], Tensor], samples: int, fill: Fill) -> Hidden:
    """Hide the `samples` subsets ``(samples, P)`` that `draw` gives for each row, and sum every map over them.

    A few images at a time: the subsets of all at once would not fit.
    """
    rows, device = len(bench), bench.inputs[0].device
    block = max(1, bench.passes.batch_size(bench.inputs) // samples)
    sums, scores = [], []
    for start in range(0, rows, block):
        here = torch.arange(start, min(start + block, rows))
        masks = torch.stack([draw(row) for row in here.tolist()]).to(device)
        flat = masks.flatten(0, 1)
        after = bench.hidden(here.repeat_interleave(samples), fill, flat.__getitem__)
        scores.append(after.reshape(len(after), len(here), samples))
        chosen = masks.double()
        sums.append(torch.stack([_sums(chosen, bench, index, here) for index in range(len(bench.maps))]))
    after = torch.cat(scores, 1)
    before = bench.outputs[:, :, None]
    noise = NOISE * torch.maximum(after.abs().amax(2), before.abs().amax(2))
    return Hidden(torch.cat(sums, 1), before - after, noise)


def hide_random(bench: Bench, share: float, samples: int, fill: Fill) -> Hidden:
    """Hide `samples` random subsets of the fraction `share` of every image's positions."""
    length = len(bench.grid)
    count = min(max(1, round(share * length)), length - 1)
    drawn = streams(bench.seeds, f"subsets {count} {samples}")
    return _hide(bench, lambda row: _draw(drawn[row], samples, length, count), samples, fill)


def hide_patches(bench: Bench, segments: int, fill: Fill) -> Hidden:
    """Hide every one of about `segments` square patches alone."""
    regions = patches(bench, segments)
    numbers = torch.arange(len(regions), device=regions.labels.device)[:, None]
    return _hide(bench, lambda row: regions.labels[row] == numbers, len(regions), fill)


def _sums(chosen: Tensor, bench: Bench, index: int, here: Tensor) -> Tensor:
    placed = bench.maps[index]
    if placed.reason:
        return chosen.new_full(chosen.shape[:2], torch.nan)
    values = placed.values[here.to(placed.values.device)]
    return torch.einsum("nsp,np->ns", chosen, values.double())
