"""Reads the nine factors of a phantom cell from its pixels, as well as a small network can learn it: the ruler of benchmarks.

A residual network regresses the factors of rendered cells whose factors cover their whole ranges. Half of every batch is
disturbed against it (signed gradient steps of up to 0.06 of the display range), so that what fools classifiers does not
pass for a change of a factor. It never sees the explained network or its images.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from pellucid.images.phantoms import CELL_FACTORS, cells
from pellucid.models import residual_net

FACTORS = tuple(factor.name for factor in CELL_FACTORS)
BATCH, DISTURBED, BOUND, NOISE = 64, 32, 0.06, 0.03
PLAIN, SEED, HELD_OUT = 0.7, 900, 600
"""Share of the training without disturbance, seed of the first image, images for R²."""


@dataclass(frozen=True)
class FactorReader:
    """Reads factors in their standard deviations over the range from which they are drawn.

    Attributes
    ----------
    net
        The network, with the scale of its input inside.
    r2
        By factor, on rendered cells that it never saw.
    """

    net: nn.Module
    r2: dict[str, float]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> np.ndarray:
        """Return the factors ``(N, 9)`` of images."""
        return torch.cat([self.net(part) for part in images.split(200)]).double().numpy()


def rendered(count: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return cells whose factors are drawn evenly over their ranges, and the standardised factors."""
    phantom, random = cells(count, (size, size), seed=seed), np.random.default_rng(seed)
    images, values = [], []
    for name in phantom.images.ids:
        drawn = {factor.name: factor.value(random.random()) for factor in CELL_FACTORS}
        images.append(phantom.render(name, **drawn))
        values.append([drawn[factor] for factor in FACTORS])
    ends = torch.tensor([[factor.low, factor.high] for factor in CELL_FACTORS])
    middle, spread = ends.mean(1), (ends[:, 1] - ends[:, 0]) / 12**0.5
    return torch.stack(images), (torch.tensor(values) - middle) / spread


class Scaled(nn.Module):
    """A network that brings its channels to mean 0 and spread 1."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1))
        self.register_buffer("spread", torch.ones(1, 3, 1, 1))
        self.net = residual_net(classes=len(FACTORS), width=16, depth=depth, stem_stride=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the factors."""
        return self.net(((x - self.mean) / self.spread).contiguous(memory_format=torch.channels_last))


def turned(x: Tensor, random: torch.Generator) -> Tensor:
    """Return images mirrored or turned by chance, with a little noise."""
    for change in (lambda y: y.flip(2), lambda y: y.flip(3), lambda y: y.transpose(2, 3)):
        if float(torch.rand((), generator=random)) < 0.5:
            x = change(x)
    return x + NOISE * torch.rand((len(x), 1, 1, 1), generator=random) * torch.randn(x.shape, generator=random)


def disturbed(net: nn.Module, x: Tensor, random: torch.Generator) -> Tensor:
    """Return images stepped along the signs of the slopes of a random mixture of the readings."""
    bound = BOUND * torch.rand((len(x), 1, 1, 1), generator=random)
    leaf = (x + bound * (2 * torch.rand(x.shape, generator=random) - 1)).requires_grad_()
    mixture = torch.randn(len(FACTORS), generator=random)
    net.eval()
    (slopes,) = torch.autograd.grad((net(leaf) * mixture).sum(), leaf)
    net.train()
    return (leaf.detach() + bound * slopes.sign()).clamp(0, 1)


def learn(size: int, count: int, epochs: int) -> tuple[nn.Module, dict[str, float]]:
    """Train the network on rendered cells."""
    x, y = rendered(count, size, SEED)
    torch.manual_seed(0)
    net, random = (
        Scaled(depth=3 if size < 48 else 4).to(memory_format=torch.channels_last),
        torch.Generator().manual_seed(1),
    )
    net.mean.copy_(x.mean((0, 2, 3), keepdim=True))
    net.spread.copy_(x.std((0, 2, 3), keepdim=True))
    steps = epochs * (count // BATCH)
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps + 1)
    for epoch in range(epochs):
        for rows in torch.randperm(count, generator=random)[: count // BATCH * BATCH].split(BATCH):
            batch = turned(x[rows], random)
            if epoch >= PLAIN * epochs:
                batch = torch.cat([disturbed(net, batch[:DISTURBED], random), batch[DISTURBED:]])
            optimiser.zero_grad()
            functional.smooth_l1_loss(net(batch), y[rows]).backward()
            optimiser.step()
            schedule.step()
    net.eval()
    unseen, truth = rendered(HELD_OUT, size, SEED + 1)
    with torch.no_grad():
        missed = (torch.cat([net(part) for part in unseen.split(200)]) - truth).square().mean(0)
    return net, dict(zip(FACTORS, (1 - missed / truth.var(0)).tolist(), strict=True))


def factor_reader(folder: Path, size: int, *, count: int = 6000, epochs: int = 20) -> FactorReader:
    """Return the reader for cells of a size, trained once and kept in a folder."""
    path = folder / f"reader_{size}_{count}_{epochs}.safetensors"
    if not path.is_file():
        net, r2 = learn(size, count, epochs)
        kept = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
        save_file(kept | {"r2": torch.tensor([r2[name] for name in FACTORS])}, path)
    tensors = load_file(path)
    r2 = dict(zip(FACTORS, tensors.pop("r2").tolist(), strict=True))
    net = Scaled(depth=3 if size < 48 else 4)
    net.load_state_dict(tensors)
    return FactorReader(net.eval(), r2)
