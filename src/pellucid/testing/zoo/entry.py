"""What a net of the zoo is: a small stand-in with the layout and the habits of a published one."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pellucid.models import Model, Target
from pellucid.models.model import Task

__all__ = ["ZooNet", "lively"]


@dataclass(frozen=True, kw_only=True)
class ZooNet:
    """A small, seeded, untrained net with the layout and habits of those that people bring.

    Attributes
    ----------
    name
        Its name in the zoo.
    build
        Makes the net, with torch's own initialisation.
    shapes
        ``(C, *S)`` of each input.
    task
        What its output means; None for embeddings.
    habits
        What its code does that explanation methods stumble over, in a line.
    target
        What to explain where the predicted class has no meaning, else None.
    embedding
        Name of the layer that serves as embedding, or None.
    """

    name: str
    build: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    task: Task | None = "classification"
    habits: str
    target: Target | None = None
    embedding: str | None = None

    def factory(self, seed: int = 0) -> nn.Module:
        """Return the net in eval mode with settled normalisation statistics, the same for the same seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = lively(self.build())
            with torch.no_grad():
                net.train()
                for turn in range(3):
                    net(*self._tensors(seed + turn, rows=8))
        return net.eval()

    def inputs(self, seed: int = 0, rows: int = 2) -> Tensor | tuple[Tensor, ...]:
        """Return normal noise round a level of each channel's own: ``(N, C, *S)``, a tuple for nets of several inputs."""
        tensors = self._tensors(seed, rows)
        return tensors[0] if len(tensors) == 1 else tensors

    def model(self, seed: int = 0) -> Model:
        """Return the net as a `Model` that states its task and embedding."""
        return Model(self.factory(seed), task=self.task, embedding=self.embedding)

    def _tensors(self, seed: int, rows: int) -> tuple[Tensor, ...]:
        stream = torch.Generator().manual_seed(seed)
        levels = [torch.randn((rows, shape[0], *[1] * (len(shape) - 1)), generator=stream) for shape in self.shapes]
        noises = [torch.randn((rows, *shape), generator=stream) for shape in self.shapes]
        return tuple(level + noise for level, noise in zip(levels, noises, strict=True))


def lively(net: nn.Module) -> nn.Module:
    """Keep a deep untrained net from fading: weights that keep the signal's size, shifts and scales that matter."""
    kinds: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    norms: tuple[type[nn.Module], ...] = (
        nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d,
    )  # fmt: skip
    for part in net.modules():
        if isinstance(part, kinds):
            nn.init.kaiming_normal_(part.get_parameter("weight"))
        if isinstance(part, norms) and isinstance(part.weight, Tensor):
            nn.init.uniform_(part.get_parameter("weight"), 0.5, 1.5)
        if isinstance(part, (*kinds, *norms)) and isinstance(part.bias, Tensor):
            nn.init.uniform_(part.get_parameter("bias"), -0.2, 0.2)
    return net
