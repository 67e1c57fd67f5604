"""Training itself: a plan, the images of a part, and a run whose whole state fits into a checkpoint."""

import math
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional

from pellucid.errors import BadStudy
from pellucid.hashing import hash_seed
from pellucid.models.augment import Augment
from pellucid.models.checkpoint import read_checkpoint, write_checkpoint
from pellucid.models.model import Normalise
from pellucid.models.networks import ResidualNet, residual_net
from pellucid.models.pixels import Pixels

__all__ = ["Part", "Plan", "Run", "started", "train"]

_WARM_UP = 0.2


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that decides the outcome; a checkpoint of another plan is not resumed."""

    epochs: int
    seed: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    patience: int
    balance: bool
    augment: Augment | None
    network: dict[str, int]
    device: str
    images: str = ""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience", "learning_rate"):
            if not getattr(self, name) > 0:
                raise BadStudy(f"fit({name}={getattr(self, name)}): {name} must be above 0")
        if self.batch_size < 2:
            raise BadStudy("fit(batch_size=1): batch normalisation needs batches of 2 images or more")

    def stream(self, epoch: int) -> int:
        """Return the seed of an epoch (0 draws the weights): nothing random outlives an epoch, so any can be resumed."""
        return hash_seed(self.seed, f"epoch {epoch}")

    def rate(self, progress: float) -> float:
        """Return the learning rate after this fraction of the run: a linear warm-up, then a cosine to nothing."""
        if progress < _WARM_UP:
            return self.learning_rate * (0.04 + 0.96 * progress / _WARM_UP)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP)))


@dataclass
class Part:
    """Images of one part of the split with their labels."""

    pixels: Pixels
    ids: tuple[str, ...]
    labels: Tensor
    normalise: Normalise

    def batches(self, size: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """Return the rows of each batch, all of nearly the same size, shuffled where there is a `generator`."""
        count = len(self.ids)
        order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
        parts = math.ceil(count / size)
        if generator is not None:
            parts = max(1, min(parts, count // 2))  # batch normalisation cannot learn from one image alone
        return list(torch.tensor_split(order, parts))

    def read(self, rows: Tensor, device: str) -> tuple[Tensor, Tensor]:
        """Return normalised images and their labels."""
        x = self.pixels.batch([self.ids[row] for row in rows])
        return self.normalise(x).to(device), self.labels[rows].to(device)


@dataclass
class Run:
    """The state of a training run: what a checkpoint holds."""

    plan: Plan
    network: ResidualNet
    optimiser: torch.optim.Optimizer
    weights: Tensor
    epoch: int = 0
    stale: int = 0
    best_loss: float = math.inf
    best: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """Whether the plan is fulfilled or patience at its end."""
        return self.epoch >= self.plan.epochs or self.stale >= self.plan.patience

    def state(self) -> dict[str, Any]:
        """Return tensors and plain values from which the run continues bitwise."""
        kept = {name: getattr(self, name) for name in ("epoch", "stale", "best_loss", "best", "history")}
        return kept | {
            "settings": asdict(self.plan), "network": self.network.state_dict(), "optimiser": self.optimiser.state_dict(),
        }  # fmt: skip

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        for name in ("epoch", "stale", "best_loss", "best", "history"):
            setattr(self, name, state[name])

    def advance(self, train: Part, val: Part, spatial: str) -> None:
        """Train for one epoch, then look at the validation images."""
        loss = self._train(train, spatial)
        logits = self.logits(val)
        val_loss = float(functional.cross_entropy(logits, val.labels, weight=self.weights.cpu()))
        accuracy = float((logits.argmax(1) == val.labels).double().mean())
        self.epoch += 1
        self.stale += 1
        if val_loss < self.best_loss:
            self.best_loss, self.stale = val_loss, 0
            self.best = {name: tensor.detach().cpu().clone() for name, tensor in self.network.state_dict().items()}
        self.history.append(
            {"epoch": self.epoch, "learning_rate": self.optimiser.param_groups[0]["lr"], "train_loss": loss,
             "val_loss": val_loss, "val_accuracy": accuracy}
        )  # fmt: skip

    def _train(self, part: Part, spatial: str) -> float:
        generator = torch.Generator().manual_seed(self.plan.stream(self.epoch + 1))
        batches = part.batches(self.plan.batch_size, generator)
        self.network.train()
        total = 0.0
        for step, rows in enumerate(batches):
            for group in self.optimiser.param_groups:
                group["lr"] = self.plan.rate((self.epoch + (step + 1) / len(batches)) / self.plan.epochs)
            x, labels = part.read(rows, self.plan.device)
            if self.plan.augment is not None:
                x = self.plan.augment(x, spatial, generator)
            self.optimiser.zero_grad(set_to_none=True)
            loss = functional.cross_entropy(self.network(x), labels, weight=self.weights)
            torch.autograd.backward(loss)
            self.optimiser.step()
            total += float(loss.detach()) * len(rows)
        return total / len(part.ids)

    def logits(self, part: Part) -> Tensor:
        """Return the network's outputs ``(N, K)`` on the CPU."""
        self.network.eval()
        with torch.inference_mode():
            parts = [
                self.network(part.read(rows, self.plan.device)[0]).cpu() for rows in part.batches(self.plan.batch_size)
            ]
        return torch.cat(parts).clone()


def started(plan: Plan, labels: Tensor) -> Run:
    """Return a run before its first epoch, with the weights that the plan's seed draws."""
    with torch.random.fork_rng():
        torch.manual_seed(plan.stream(0))
        network = residual_net(**plan.network).to(plan.device)
    decayed = [tensor for tensor in network.parameters() if tensor.ndim > 1]
    plain = [tensor for tensor in network.parameters() if tensor.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": plan.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=plan.learning_rate,
    )
    counts = torch.bincount(labels, minlength=plan.network["classes"])
    weights = len(labels) / (len(counts) * counts) if plan.balance else torch.ones(len(counts))
    return Run(plan, network, optimiser, weights.to(plan.device))


def train(
    run: Run, training: Part, val: Part, spatial: str, checkpoint: Path | None, *, progress: bool = False
) -> None:
    """Train until the plan is fulfilled or patience is at its end, and leave the best weights in the network.

    Raises
    ------
    BadStudy
        When the checkpoint belongs to another run, or no epoch had a finite validation loss.
    """
    state = read_checkpoint(checkpoint, asdict(run.plan)) if checkpoint is not None else None
    if state is not None:
        run.resume(state)
    with _repeatable(), Progress(transient=True, disable=not progress) as bar:
        task = bar.add_task("training", total=run.plan.epochs, completed=run.epoch)
        while not run.finished:
            run.advance(training, val, spatial)
            if checkpoint is not None:
                write_checkpoint(checkpoint, run.state())
            accuracy = run.history[-1]["val_accuracy"]
            bar.update(task, advance=1, description=f"training (validation accuracy {accuracy:.2f})")
    if not run.best:
        rate = run.plan.learning_rate
        raise BadStudy(f"training diverged: no epoch had a finite validation loss; lower learning_rate={rate}")
    run.network.load_state_dict(run.best)
    run.network.eval()


def _repeatable() -> AbstractContextManager[None]:
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return flags
