"""Every method once more, in the plainest way: loops, finite differences, hooks on autograd nodes, written-out sums."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from pellucid.attribution.method import row_seeds
from pellucid.models import Inputs
from pellucid.testing.zoo.case import Case

__all__ = ["PLAIN", "Reference", "rectified", "slope_error"]

Reference = Callable[[Case], Inputs]
"""From a case to the values that the method should have found."""

_STEP = 1e-6


def slope_error(case: Case) -> float:
    """Return how far central differences along random directions are from the map, relative to its size."""
    stream, worst = torch.Generator().manual_seed(0), 0.0
    for _ in range(3):
        way = tuple(torch.randn(x.shape, generator=stream, dtype=torch.float64) for x in case.inputs)
        ahead, behind = (tuple(x + sign * _STEP * v for x, v in zip(case.inputs, way, strict=True)) for sign in (1, -1))
        with torch.no_grad():
            rise = (case.score(ahead) - case.score(behind)) / (2 * _STEP)
        told = sum((g.double() * v).flatten(1).sum(1) for g, v in zip(case.found.tensors, way, strict=True))
        size = torch.stack([g.double().flatten(1).square().sum(1) for g in case.found.tensors]).sum(0).sqrt()
        worst = max(worst, float(((rise - told).abs() / size.clamp(min=1e-9)).max()))
    return worst


def _gradient(case: Case) -> Inputs:
    return case.gradient(case.inputs)


def _saliency(case: Case) -> Inputs:
    return tuple(slope.abs() for slope in case.gradient(case.inputs))


def _input_x_gradient(case: Case) -> Inputs:
    return tuple(x * slope for x, slope in zip(case.inputs, case.gradient(case.inputs), strict=True))


def rectified(case: Case, *, guided: bool) -> Inputs:
    """Clamp what passes back through every ReLU node of the plain graph."""
    leaves = tuple(x.clone().requires_grad_() for x in case.inputs)
    score = case.score(leaves).sum()
    waiting: list[Any] = [score.grad_fn]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        if node.name().startswith("ReluBackward"):
            node.register_hook(lambda passed, given: tuple(part.clamp(min=0) for part in (passed if guided else given)))
        fresh = [before for before, _ in node.next_functions if before is not None and before not in seen]
        seen.update(fresh)
        waiting += fresh
    found = torch.autograd.grad(score, leaves, allow_unused=True)
    return tuple(torch.zeros_like(x) if g is None else g for x, g in zip(case.inputs, found, strict=True))


def _noisy(case: Case) -> Iterator[list[Inputs]]:
    """Yield, row by row, the gradients at the noisy copies that the row's own stream gives."""
    settings = case.method.settings
    seeds = row_seeds(case.found.seed, case.found.ids, len(case.rows))
    for row, seed in enumerate(seeds):
        stream = torch.Generator().manual_seed(seed)
        own = tuple(x[row] for x in case.inputs)
        maps = []
        for _ in range(settings["samples"]):
            noise = tuple(torch.randn(x.shape, generator=stream).double() for x in own)
            point = tuple(
                (x + settings["sigma"] * (x.max() - x.min()) * n)[None] for x, n in zip(own, noise, strict=True)
            )
            maps.append(case.gradient(point, torch.tensor([row])))
        yield maps


def _stacked(rows: list[tuple[Tensor, ...]]) -> Inputs:
    return tuple(torch.stack(parts) for parts in zip(*rows, strict=True))


def _smoothgrad(case: Case) -> Inputs:
    return _stacked([tuple(torch.cat(parts).mean(0) for parts in zip(*maps, strict=True)) for maps in _noisy(case)])


def _vargrad(case: Case) -> Inputs:
    return _stacked([tuple(torch.cat(parts).var(0) for parts in zip(*maps, strict=True)) for maps in _noisy(case)])


def _occlusion(case: Case) -> Inputs:
    """Hide window after window, and share every drop evenly over what it hid."""
    space = case.inputs[0].shape[2:]
    window, stride = case.method.settings["window"], case.method.settings["stride"]
    starts = [range(0, stride * math.ceil((size - window) / stride) + 1, stride) for size in space]
    total = torch.zeros(len(case.rows), *space, dtype=torch.float64)
    cover = torch.zeros(space, dtype=torch.float64)
    before = case.score(case.inputs).detach()
    channels = sum(x.shape[1] for x in case.inputs)
    for corner in itertools.product(*starts):
        mask = torch.zeros(space, dtype=torch.bool)
        mask[tuple(slice(start, start + window) for start in corner)] = True
        drop = before - case.outputs_hidden([tuple(mask for _ in case.inputs)])[0]
        total += mask * (drop / (int(mask.sum()) * channels)).view(-1, *[1] * len(space))
        cover += mask
    return tuple((total / cover)[:, None].expand(x.shape) for x in case.inputs)


def _players(case: Case) -> list[Inputs]:
    """Return one mask a channel of every input: the segments ``"channels"``."""
    players = []
    for place, x in enumerate(case.inputs):
        for channel in range(x.shape[1]):
            masks = tuple(torch.zeros(1, *other.shape[1:], dtype=torch.bool) for other in case.inputs)
            masks[place][:, channel] = True
            players.append(masks)
    return players


def _spread(case: Case, players: list[Inputs], effects: Tensor) -> Inputs:
    values = tuple(torch.zeros_like(x) for x in case.inputs)
    for masks, effect in zip(players, effects, strict=True):
        size = sum(int(mask.sum()) for mask in masks)
        for place, mask in enumerate(masks):
            values[place].add_(mask * (effect / size).view(-1, *[1] * (mask.ndim - 1)))
    return values


def _ablation(case: Case) -> Inputs:
    players = _players(case)
    return _spread(case, players, case.score(case.inputs).detach() - case.outputs_hidden(players))


def _shapley(case: Case) -> Inputs:
    """Weigh every coalition by hand."""
    players = _players(case)
    count = len(players)
    coalitions = list(itertools.product((False, True), repeat=count))
    hidden = [
        tuple(torch.stack([masks[place] for masks, seen in zip(players, seen_by, strict=True) if not seen] or
                          [torch.zeros_like(players[0][place])]).any(0) for place in range(len(case.inputs)))
        for seen_by in coalitions
    ]  # fmt: skip
    answers = dict(zip(coalitions, case.outputs_hidden(hidden), strict=True))
    effects = []
    for player in range(count):
        effect = torch.zeros(len(case.rows), dtype=torch.float64)
        for without in (coalition for coalition in coalitions if not coalition[player]):
            joined = (*without[:player], True, *without[player + 1 :])
            weight = 1 / (count * math.comb(count - 1, sum(without)))
            effect += weight * (answers[joined] - answers[without])
        effects.append(effect)
    return _spread(case, players, torch.stack(effects))


def _expected(case: Case) -> Inputs:
    """Average (x − 0) × gradient over the points that each row's own stream gives."""
    samples, rows = case.method.settings["samples"], []
    for row, seed in enumerate(row_seeds(case.found.seed, case.found.ids, len(case.rows))):
        stream = torch.Generator().manual_seed(seed)
        torch.randint(1, (samples,), generator=stream)
        own = tuple(x[row : row + 1] for x in case.inputs)
        places = torch.rand(samples, generator=stream).double()
        slopes = [case.gradient(tuple(x * place for x in own), torch.tensor([row])) for place in places]
        rows.append(
            tuple((x * torch.stack(parts).mean(0))[0] for x, parts in zip(own, zip(*slopes, strict=True), strict=True))
        )
    return _stacked(rows)


PLAIN: Mapping[str, Reference] = MappingProxyType({
    "ablation": _ablation,
    "deconvnet": lambda case: rectified(case, guided=False),
    "expected_gradients": _expected,
    "gradient": _gradient,
    "guided_backprop": lambda case: rectified(case, guided=True),
    "input_x_gradient": _input_x_gradient,
    "kernel_shap": _shapley,
    "occlusion": _occlusion,
    "saliency": _saliency,
    "smoothgrad": _smoothgrad,
    "vargrad": _vargrad,
})  # fmt: skip
"""Second computations of the same values, by method."""
