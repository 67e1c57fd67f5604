"""Small fixed nets, images and outlines that conformance is checked on."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pellucid.errors import ShapeError
from pellucid.models import residual_net

__all__ = ["small_images", "small_masks", "small_net", "small_vit"]


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


class _Block(nn.Module):
    """One block of a vision transformer: attention, then an MLP, each beside a skip connection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.mixed, self.joined = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        parts = self.mixed(self.norms[0](tokens)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(*parts)
        tokens = tokens + self.joined(seen.transpose(1, 2).flatten(2))
        changed: Tensor = tokens + self.mlp(self.norms[1](tokens))
        return changed


class _Transformer(nn.Module):
    """A vision transformer with a class token."""

    def __init__(self, dims: int, size: int, classes: int, channels: int, patch: int, width: int, depth: int) -> None:
        super().__init__()
        convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
        self.patches = convolution(channels, width, patch, stride=patch)
        self.first = nn.Parameter(torch.randn(1, 1, width))
        self.places = nn.Parameter(torch.randn(1, 1 + (size // patch) ** dims, width))
        self.blocks = nn.Sequential(*[_Block(width, 2) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.first.expand(len(x), -1, -1), patches), 1) + self.places
        logits: Tensor = self.head(self.norm(self.blocks(tokens))[:, 0])
        return logits


def small_vit(
    dims: int = 2, *, size: int = 16, classes: int = 3, channels: int = 3, patch: int = 4, depth: int = 2, seed: int = 0
) -> nn.Module:
    """Return a small vision transformer for images of that size, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _Transformer(dims, size, classes, channels, patch, 8, depth).eval()


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
