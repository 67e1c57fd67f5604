"""The training loop of the engines: rounds of steps, kept after each so that a killed run ends as if it had not been."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from rich.progress import Progress
from torch import Tensor, nn
from torch.optim import Optimizer

from pellucid.counterfactual.drawing import drawn, mirrored
from pellucid.errors import BadStudy
from pellucid.hashing import hash_seed
from pellucid.models.checkpoint import read_checkpoint, write_checkpoint

__all__ = ["Loop", "Step", "descend", "digest"]

Step = Callable[[Tensor, torch.Generator], Mapping[str, Tensor]]
"""From a batch of images and a random stream to the parts of the loss by name; it updates the networks."""

_ROUND = 50
"""Fewest steps between two checkpoints."""


def digest(images: Tensor) -> str:
    """Return the sha256 of images: what a checkpoint is bound to."""
    content = images.detach().cpu().contiguous()
    return hashlib.sha256(repr(tuple(content.shape)).encode() + content.numpy().tobytes()).hexdigest()


def descend(optimiser: Optimizer, loss: Tensor) -> None:
    """Take one step of an optimiser down a loss; what others learn from it is not touched."""
    learnt = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    slopes = torch.autograd.grad(loss, learnt, allow_unused=True)
    for parameter, slope in zip(learnt, slopes, strict=True):
        parameter.grad = slope
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


@dataclass(frozen=True, kw_only=True)
class Loop:
    """A training run.

    Attributes
    ----------
    networks
        Everything that learns.
    optimisers
        Of it, at their first rates, which fall evenly to nothing.
    step
        What is done with a batch.
    steps, batch_size, seed, flips
        How many batches of how many images, from which random stream, mirrored at random or not.
    told
        All that decides the outcome, plain values; a checkpoint of others is not resumed.
    """

    networks: nn.Module
    optimisers: Sequence[Optimizer]
    step: Step
    steps: int
    batch_size: int
    seed: int
    flips: bool
    told: Mapping[str, Any]

    def run(self, images: Tensor, checkpoint: Path | None, *, progress: bool) -> pa.Table:
        """Train to the end, from the checkpoint where there is one, and return one row of mean losses a round.

        Raises
        ------
        BadStudy
            When the checkpoint belongs to another run, or a loss is no longer finite.
        """
        state = read_checkpoint(checkpoint, self.told) if checkpoint is not None else None
        history: list[dict[str, float]] = self._resumed(state) if state is not None else []
        rates = [[group["initial_lr"] for group in optimiser.param_groups] for optimiser in self._marked()]
        size = min(self.steps, max(_ROUND, math.ceil(len(images) / self.batch_size)))
        rounds = math.ceil(self.steps / size)
        with Progress(transient=True, disable=not progress) as bar:
            task = bar.add_task("fitting the generator", total=rounds, completed=len(history))
            while len(history) < rounds:
                history.append(
                    self._round(images, len(history), min(size, self.steps - len(history) * size), size, rates)
                )
                if checkpoint is not None:
                    write_checkpoint(checkpoint, self._state(history))
                bar.advance(task)
        return pa.Table.from_pylist(history)

    def _marked(self) -> Sequence[Optimizer]:
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group.setdefault("initial_lr", group["lr"])
        return self.optimisers

    def _state(self, history: list[dict[str, float]]) -> dict[str, Any]:
        kept = [optimiser.state_dict() for optimiser in self.optimisers]
        return {
            "settings": dict(self.told),
            "networks": self.networks.state_dict(),
            "optimisers": kept,
            "history": history,
        }

    def _resumed(self, state: Mapping[str, Any]) -> list[dict[str, float]]:
        self.networks.load_state_dict(state["networks"])
        for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
        return list(state["history"])

    def _round(
        self, images: Tensor, number: int, steps: int, size: int, rates: Sequence[Sequence[float]]
    ) -> dict[str, float]:
        random = torch.Generator().manual_seed(hash_seed(self.seed, f"round {number}"))
        totals: dict[str, float] = {}
        device = next(self.networks.parameters()).device
        for step, rows in enumerate(drawn(len(images), self.batch_size, steps, random)):
            left = 1 - (number * size + step) / self.steps
            for optimiser, first in zip(self.optimisers, rates, strict=True):
                for group, rate in zip(optimiser.param_groups, first, strict=True):
                    group["lr"] = rate * left
            x = images[rows].to(device)
            for name, loss in self.step(mirrored(x, random) if self.flips else x, random).items():
                totals[name] = totals.get(name, 0.0) + float(loss.detach()) / steps
        if not all(map(math.isfinite, totals.values())):
            raise BadStudy(f"the generator's training diverged in round {number + 1}: {totals}; lower its rate")
        return {"epoch": float(number + 1), **totals}
