"""Noisy copies of the images, the model's score on them, and how far each map moves.

A copy's noise is drawn once an image for all methods.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from pellucid.evaluation.bench import Bench
from pellucid.evaluation.positions import streams
from pellucid.evaluation.reexplain import explain_again
from pellucid.models import Inputs, take_rows

__all__ = ["ZERO", "Moved", "flatten", "lengths_of", "moves", "noise", "noisy_scores"]

_KEPT = 2**23
"""Numbers of noise (32 MiB) up to which it is drawn once and kept."""

ZERO = "the map is zero everywhere, so its change has no scale"


@dataclass(frozen=True)
class Moved:
    """How far one map moved: ``change`` (N, samples) relative to the map's norm, and why some have none."""

    change: Tensor
    reason: str


def noise(bench: Bench, radius: float, samples: int, pairs: Tensor) -> Inputs:
    """Return uniform noise within ± `radius` of the row's own range for pairs row · samples + sample.

    From a stream for each pair, so that it can be drawn anew a slab at a time where all of it would not fit.
    """
    rows = pairs // samples
    generators = [
        streams([bench.seeds[row]], f"noise {sample}")[0]
        for row, sample in zip(rows.tolist(), (pairs % samples).tolist(), strict=True)
    ]
    drawn = []
    for x in bench.inputs:
        unit = torch.stack([torch.rand(x.shape[1:], generator=stream) for stream in generators]).to(x)
        flat = x[rows].flatten(1)
        spread = (flat.amax(1) - flat.amin(1)).view(-1, *[1] * (x.ndim - 1))
        drawn.append((2 * unit - 1) * radius * spread)
    return tuple(drawn)


def _shared(bench: Bench, radius: float, samples: int, pairs: Tensor) -> Inputs:
    """Return the noise of those pairs, kept for all that ask where all of it is small."""
    elements = sum(x.numel() for x in bench.inputs) * samples
    if elements > _KEPT:
        return noise(bench, radius, samples, pairs)
    every = torch.arange(len(bench) * samples)
    kept = bench.once(("noise drawn", radius, samples), lambda: noise(bench, radius, samples, every))
    return take_rows(kept, pairs.to(bench.inputs[0].device))


def _slabs(bench: Bench, samples: int) -> list[Tensor]:
    size = bench.passes.batch_size(bench.inputs)
    return list(torch.split(torch.arange(len(bench) * samples), size))


def flatten(tensors: Inputs) -> Tensor:
    """Return all elements of each row in one line ``(N, E)``, float64."""
    return torch.cat([part.double().flatten(1) for part in tensors], 1)


def lengths_of(bench: Bench, radius: float, samples: int) -> Tensor:
    """Return ``(N, samples)`` the Euclidean size of each copy's noise."""
    parts = [
        torch.linalg.vector_norm(flatten(_shared(bench, radius, samples, slab)), dim=1)
        for slab in _slabs(bench, samples)
    ]
    return torch.cat(parts).reshape(len(bench), samples)


def _noisy(bench: Bench, radius: float, samples: int, pairs: Tensor) -> Inputs:
    parts = _shared(bench, radius, samples, pairs)
    return tuple(x + part for x, part in zip(take_rows(bench.inputs, pairs // samples), parts, strict=True))


def noisy_scores(bench: Bench, radius: float, samples: int, pairs: Tensor, index: int) -> Tensor:
    """Return the target's value of noisy copies; one forward a copy for all methods that ask."""

    def read() -> Tensor:
        parts = [bench.read(_noisy(bench, radius, samples, slab), slab // samples) for slab in _slabs(bench, samples)]
        return torch.cat(parts, 1)

    return bench.own(bench.once(("noisy scores", radius, samples), read), index)[pairs]


def moves(bench: Bench, radius: float, samples: int) -> dict[int, Moved]:
    """Explain every noisy copy again with every method and measure how far each map went; controls are left out."""
    every = [index for index in range(len(bench.explanations)) if not bench.control(index)]
    parts: dict[int, list[Tensor]] = {index: [] for index in every}
    reasons = dict.fromkeys(every, "")
    for pairs in _slabs(bench, samples):
        rows, copies = pairs // samples, _noisy(bench, radius, samples, pairs)
        scores = partial(noisy_scores, bench, radius, samples, pairs)
        for index, (maps, why) in zip(every, explain_again(bench, every, copies, rows, scores), strict=True):
            reasons[index] = why or reasons[index]
            start = flatten(take_rows(bench.explanations[index].tensors, rows)).to(bench.inputs[0].device)
            moved = torch.full_like(start, torch.nan) if maps is None else maps - start
            parts[index].append(torch.linalg.vector_norm(moved, dim=1) / torch.linalg.vector_norm(start, dim=1))
    changes = {index: torch.cat(part).reshape(len(bench), samples) for index, part in parts.items()}
    return {
        index: Moved(torch.where(change.isfinite(), change, torch.nan), reasons[index] or ZERO)
        for index, change in changes.items()
    }
