"""Vision transformers: written out, out of torch's own encoder, and from the transformers library."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pellucid.testing.zoo.entry import ZooNet

__all__ = ["NETS", "EncoderViT", "ViT", "library_vit"]


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        rows, tokens, width = x.shape
        qkv = self.qkv(x).reshape(rows, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(rows, tokens, width)
        out: Tensor = self.proj(mixed)
        return out


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, eps=1e-6), _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class ViT(nn.Module):
    """Patches by a strided convolution, class token, learned positions, pre-norm blocks."""

    def __init__(self, grid: tuple[int, int] = (4, 6), width: int = 12, depth: int = 2) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, width, 4, stride=4)
        self.cls_token = nn.Parameter(0.2 * torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(0.2 * torch.randn(1, 1 + grid[0] * grid[1], width))
        self.blocks = nn.Sequential(*(_Block(width, 3) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, 4)``."""
        tokens = self.patch_embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), tokens], 1) + self.pos_embed
        logits: Tensor = self.head(self.norm(self.blocks(tokens))[:, 0])
        return logits


class EncoderViT(nn.Module):
    """The same out of nn.TransformerEncoder: post-norm layers, ReLU, mean over the tokens."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.positions = nn.Parameter(0.2 * torch.randn(1, 24, width))
        layer = nn.TransformerEncoderLayer(width, 3, dim_feedforward=16, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, 4)``."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        logits: Tensor = self.head(self.encoder(tokens).mean(1))
        return logits


def library_vit() -> nn.Module:
    """Return a tiny random ViTForImageClassification of the transformers library."""
    from transformers import ViTConfig, ViTForImageClassification  # noqa: PLC0415  # an extra that most do without

    settings: dict[str, Any] = {
        "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 24, "image_size": 16,
        "patch_size": 4, "num_labels": 4, "attn_implementation": "sdpa",
    }  # fmt: skip
    net: nn.Module = ViTForImageClassification(ViTConfig(**settings))
    return net


NETS = (
    ZooNet(
        name="vit",
        build=ViT,
        shapes=((3, 16, 24),),
        habits="class token, learned positions, scaled_dot_product_attention, pre-norm residual sums, GELU",
    ),
    ZooNet(
        name="vit_encoder",
        build=EncoderViT,
        shapes=((3, 16, 24),),
        habits="nn.TransformerEncoder with its fast path, post-norm, ReLU, mean over tokens",
    ),
    ZooNet(
        name="vit_transformers",
        build=library_vit,
        shapes=((3, 16, 16),),
        habits="ViTForImageClassification of transformers: returns an object with logits, scaled_dot_product_attention",
    ),
)
