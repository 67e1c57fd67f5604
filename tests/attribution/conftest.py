"""Small networks that break rule engines: shared in-place ReLUs, functional sums, BatchNorm, overlapping pools."""

import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, width: int, relu: nn.Module, *, normed: bool = True) -> None:
        super().__init__()
        self.a, self.b = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.n, self.m = (nn.BatchNorm2d(width) if normed else nn.Identity() for _ in range(2))
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.n(self.a(x)))
        h = self.m(self.b(h))
        h += x
        return self.relu(h)


class ResNet(nn.Module):
    """One shared in-place ReLU, functional sums, overlapping max-pool, BatchNorm, functional mean."""

    def __init__(self, blocks: int = 3, width: int = 6, *, normed: bool = True) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width) if normed else nn.Identity()
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.blocks = nn.Sequential(*[Block(width, self.relu, normed=normed) for _ in range(blocks)])
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.pool(self.relu(self.norm(self.stem(x))))).mean((2, 3)))


class Attention(nn.Module):
    """Self-attention, its softmax and products by hand or by the fused call."""

    def __init__(self, width: int, heads: int, *, by_hand: bool) -> None:
        super().__init__()
        self.qkv, self.out, self.heads, self.by_hand = (
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
            heads,
            by_hand,
        )

    def forward(self, x: Tensor) -> Tensor:
        rows, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(rows, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        if self.by_hand:
            weights = (q @ k.transpose(-2, -1) / math.sqrt(width // self.heads)).softmax(-1)
            h = torch.einsum("bhqk,bhkd->bhqd", weights, v)
        else:
            h = functional.scaled_dot_product_attention(q, k, v)
        return self.out(h.transpose(1, 2).reshape(rows, tokens, width))


class ViTBlock(nn.Module):
    """Norm first, as in most vision transformers."""

    def __init__(self, width: int, attention: nn.Module) -> None:
        super().__init__()
        self.attention, self.first, self.second = attention, nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.first(x))
        return x + self.mlp(self.second(x))


class ViT(nn.Module):
    """Patches of 4 x 4 of an 8 x 8 image, a class token, learnt places."""

    def __init__(self, make: Callable[[], nn.Module], width: int = 8, blocks: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token, self.places = nn.Parameter(torch.zeros(1, 1, width)), nn.Parameter(torch.zeros(1, 5, width))
        self.blocks = nn.Sequential(*[ViTBlock(width, make()) for _ in range(blocks)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.patches(x).flatten(2).transpose(1, 2)
        h = torch.cat([self.token.expand(len(h), -1, -1), h], 1) + self.places
        return self.head(self.norm(self.blocks(h))[:, 0])


class Call(nn.Module):
    """A network that is one function, with the parameters it needs."""

    def __init__(self, function, *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, *x: Tensor) -> Tensor:
        return self.function(*x, *self.parts)


def lived_in(net: nn.Module, seed: int = 0) -> nn.Module:
    """Give every BatchNorm statistics that matter, and every bias a size that matters."""
    stream = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim > 1:
                nn.init.kaiming_uniform_(parameter, generator=stream)
            else:
                parameter.uniform_(-0.3, 0.3, generator=stream)
        for part in net.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.weight.uniform_(0.5, 1.5, generator=stream)
                part.running_mean.uniform_(-0.5, 0.5, generator=stream)
                part.running_var.uniform_(0.5, 1.5, generator=stream)
    return net.eval()


@pytest.fixture
def nets() -> SimpleNamespace:
    return SimpleNamespace(
        ResNet=ResNet, Block=Block, Call=Call, Attention=Attention, ViT=ViT, lived_in=lived_in, F=functional
    )


@pytest.fixture
def pixels():
    def make(*shape: int, seed: int = 1) -> Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))

    return make
