"""Small fixed nets, images and outlines that conformance is checked on."""

import torch
from torch import Tensor, nn

from pellucid.errors import ShapeError
from pellucid.models import residual_net

__all__ = ["small_images", "small_masks", "small_net"]


def small_net(dims: int = 2, *, classes: int = 3, channels: int = 3, seed: int = 0) -> nn.Module:
    """Return a small residual net with settled normalisation statistics, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = residual_net(classes=classes, channels=channels, dims=dims, width=4, depth=2)
        with torch.no_grad():
            net.train()
            for _ in range(3):
                net(small_images(dims, rows=8, channels=channels, seed=seed))
    return net.eval()


def small_images(dims: int = 2, *, rows: int = 3, channels: int = 3, size: int = 16, seed: int = 0) -> Tensor:
    """Return random images ``(N, C, *S)`` with a bright disc each, values in [0, 1]."""
    random = torch.Generator().manual_seed(seed)
    discs = small_masks(dims, rows=rows, size=size).float()
    noise = torch.rand((rows, channels, *[size] * dims), generator=random)
    return 0.5 * discs[:, None] + 0.5 * noise


def small_masks(dims: int = 2, *, rows: int = 3, size: int = 16) -> Tensor:
    """Return the outlines ``(N, *S)`` of the discs in `small_images`."""
    if dims not in {1, 2, 3}:
        raise ShapeError(f"small_images(dims={dims}): images have 1, 2 or 3 spatial axes")
    grid = torch.meshgrid(*[torch.linspace(-1, 1, size)] * dims, indexing="ij")
    distance = torch.stack([axis.square() for axis in grid]).sum(0).sqrt()
    return torch.stack([distance < 0.3 + 0.1 * (row % 4) for row in range(rows)])
