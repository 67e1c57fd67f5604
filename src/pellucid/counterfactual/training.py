"""The training of an autoencoder: a state that fits into a checkpoint, so that a killed run ends as if never stopped."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional

from pellucid.counterfactual.coder import Coder
from pellucid.counterfactual.drawing import drawn, mirrored
from pellucid.counterfactual.guidance import Guide
from pellucid.errors import BadStudy
from pellucid.hashing import hash_seed
from pellucid.models.checkpoint import read_checkpoint, write_checkpoint

__all__ = ["COLUMNS", "Run", "Weights", "digest", "train"]

COLUMNS = ("epoch", "steps", "pixels", "agreement", "spread")
"""Of the history: rounds and steps done, and the mean of each part of the loss over the round."""

_ROUND = 50
"""Fewest steps between two checkpoints."""


@dataclass(frozen=True)
class Weights:
    """What each part of the loss weighs: pixels, agreement of the model's outputs, spread of the latents."""

    pixels: float
    agreement: float
    spread: float


def digest(images: Tensor) -> str:
    """Return the sha256 of images: what a checkpoint is bound to."""
    content = images.detach().cpu().contiguous()
    return hashlib.sha256(repr(tuple(content.shape)).encode() + content.numpy().tobytes()).hexdigest()


@dataclass
class Run:
    """A training run.

    Attributes
    ----------
    coder, head
        What is learnt; the head foretells the model's outputs from the latents where no slopes reach the image.
    guide
        The model that is followed.
    settings
        All that decides the outcome, plain values; a checkpoint of others is not resumed.
    """

    coder: Coder
    head: torch.nn.Linear
    guide: Guide
    weights: Weights
    settings: Mapping[str, Any]
    round: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        learnt = [*self.coder.parameters(), *self.head.parameters()]
        self.optimiser = torch.optim.Adam(learnt, lr=self.settings["rate"], betas=(0.9, 0.99))

    def state(self) -> dict[str, Any]:
        """Return tensors and plain values from which the run continues bitwise."""
        return {
            "settings": dict(self.settings), "coder": self.coder.state_dict(), "head": self.head.state_dict(),
            "optimiser": self.optimiser.state_dict(), "round": self.round, "history": self.history,
        }  # fmt: skip

    def resume(self, state: Mapping[str, Any]) -> None:
        """Take up a run where it was left."""
        self.coder.load_state_dict(state["coder"])
        self.head.load_state_dict(state["head"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.round, self.history = state["round"], list(state["history"])

    def advance(self, images: Tensor, steps: int) -> None:
        """Train for one round; what is random in it depends on the seed and the round alone."""
        random = torch.Generator().manual_seed(hash_seed(self.settings["seed"], f"round {self.round}"))
        totals: dict[str, float] = {}
        for step, rows in enumerate(drawn(len(images), self.settings["batch_size"], steps, random)):
            done = self.round * steps + step
            for group in self.optimiser.param_groups:
                group["lr"] = self.settings["rate"] * max(0.0, 1 - done / self.settings["steps"])
            x = images[rows].to(self.coder.centre)
            for name, value in self._step(mirrored(x, random) if self.settings["flips"] else x, random).items():
                totals[name] = totals.get(name, 0.0) + value / steps
        self.round += 1
        self.history.append({"epoch": float(self.round), "steps": float(self.round * steps), **totals})

    def _step(self, x: Tensor, random: torch.Generator) -> dict[str, float]:
        mean, spread = self.coder.encode(x)
        noise = torch.randn(mean.shape, generator=random).to(mean)
        rebuilt = self.coder.decode(mean + noise * (0.5 * spread).exp())
        asked = slice(0, -(-len(x) // 2))  # the model is the dear part; every other image is enough
        wanted = self.guide.standard(self.guide.say(x[asked]))
        losses = {
            "pixels": ((rebuilt - x) / self.coder.reach).abs().mean(),
            "agreement": self._disagreement(mean[asked], rebuilt[asked], wanted),
            "spread": 0.5 * (mean.square() + spread.exp() - 1 - spread).mean(),
        }
        loss = sum(getattr(self.weights, name) * value for name, value in losses.items())
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimiser.step()
        return {name: float(value.detach()) for name, value in losses.items()}

    def _disagreement(self, mean: Tensor, rebuilt: Tensor, wanted: Tensor) -> Tensor:
        if self.guide.reachable:
            return self.guide.disagreement(rebuilt, wanted)
        again, _ = self.coder.encode(rebuilt)
        return functional.smooth_l1_loss(self.head(mean), wanted) + functional.smooth_l1_loss(self.head(again), wanted)


def train(run: Run, images: Tensor, checkpoint: Path | None, *, progress: bool = False) -> None:
    """Train until the steps are done, going on from the checkpoint where there is one.

    Raises
    ------
    BadStudy
        When the checkpoint belongs to another run, or training diverges.
    """
    state = read_checkpoint(checkpoint, run.settings) if checkpoint is not None else None
    if state is not None:
        run.resume(state)
    total, size = run.settings["steps"], run.settings["batch_size"]
    steps = min(total, max(_ROUND, math.ceil(len(images) / size)))
    rounds = math.ceil(total / steps)
    with Progress(transient=True, disable=not progress) as bar:
        task = bar.add_task("fitting the generator", total=rounds, completed=run.round)
        while run.round < rounds:
            run.advance(images, steps)
            if not all(math.isfinite(value) for value in run.history[-1].values()):
                raise BadStudy(f"the generator's training diverged; lower rate={run.settings['rate']}")
            if checkpoint is not None:
                write_checkpoint(checkpoint, run.state())
            bar.update(task, advance=1)
