"""Swin: attention in windows that shift, on channels-last maps."""

import torch
from torch import Tensor, nn

from pellucid.testing.zoo.entry import ZooNet

__all__ = ["NETS", "Swin"]


def _partition(x: Tensor, window: int) -> Tensor:
    rows, height, width, channels = x.shape
    x = x.view(rows, height // window, window, width // window, window, channels)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, window * window, channels)


def _reverse(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    rows = len(windows) // (height // window * (width // window))
    x = windows.view(rows, height // window, width // window, window, window, -1)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(rows, height, width, -1)


class _WindowAttention(nn.Module):
    relative_position_index: Tensor

    def __init__(self, width: int, window: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(0.2 * torch.randn((2 * window - 1) ** 2, heads))
        places = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        apart = (places[:, :, None] - places[:, None, :] + window - 1).permute(1, 2, 0)
        self.register_buffer("relative_position_index", apart[..., 0] * (2 * window - 1) + apart[..., 1])
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        windows, tokens, width = x.shape
        qkv = self.qkv(x).reshape(windows, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        scores = (q * self.scale) @ k.transpose(-2, -1)
        bias = self.relative_position_bias_table[self.relative_position_index.view(-1)]
        scores = scores + bias.view(tokens, tokens, -1).permute(2, 0, 1).contiguous().unsqueeze(0)
        if mask is not None:
            count = len(mask)
            scores = scores.view(windows // count, count, self.heads, tokens, tokens) + mask.unsqueeze(1).unsqueeze(0)
            scores = scores.view(-1, self.heads, tokens, tokens)
        mixed = (self.softmax(scores) @ v).transpose(1, 2).reshape(windows, tokens, width)
        out: Tensor = self.proj(mixed)
        return out


class _Block(nn.Module):
    def __init__(self, width: int, window: int, shift: int) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1, self.attn = nn.LayerNorm(width), _WindowAttention(width, window, 2)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def _mask(self, height: int, width: int) -> Tensor | None:
        if not self.shift:
            return None
        regions, count = torch.zeros(1, height, width, 1), 0
        cuts = (slice(0, -self.window), slice(-self.window, -self.shift), slice(-self.shift, None))
        for rows in cuts:
            for columns in cuts:
                regions[:, rows, columns] = count
                count += 1
        flat = _partition(regions, self.window).squeeze(-1)
        apart = flat.unsqueeze(1) - flat.unsqueeze(2)
        return apart.masked_fill(apart != 0, -100.0).masked_fill(apart == 0, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        shifted = self.norm1(x)
        if self.shift:
            shifted = torch.roll(shifted, shifts=(-self.shift, -self.shift), dims=(1, 2))
        mixed = self.attn(_partition(shifted, self.window), self._mask(height, width))
        mixed = _reverse(mixed, self.window, height, width)
        if self.shift:
            mixed = torch.roll(mixed, shifts=(self.shift, self.shift), dims=(1, 2))
        x = x + mixed
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class _Merging(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x[:, row::2, column::2, :] for column in (0, 1) for row in (0, 1)]
        out: Tensor = self.reduction(self.norm(torch.cat(parts, -1)))
        return out


class Swin(nn.Module):
    """A plain and a shifted window block, patch merging, one more block, mean over places."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, width, 2, stride=2)
        self.norm0 = nn.LayerNorm(width)
        self.stage1 = nn.Sequential(_Block(width, 2, 0), _Block(width, 2, 1))
        self.merging = _Merging(width)
        self.stage2 = nn.Sequential(_Block(2 * width, 2, 0))
        self.norm = nn.LayerNorm(2 * width)
        self.head = nn.Linear(2 * width, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, 4)``."""
        x = self.norm0(self.patch_embed(x).permute(0, 2, 3, 1))
        x = self.norm(self.stage2(self.merging(self.stage1(x))))
        x = x.permute(0, 3, 1, 2)
        logits: Tensor = self.head(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))
        return logits


NETS = (
    ZooNet(
        name="swin",
        build=Swin,
        shapes=((3, 16, 24),),
        habits="channels-last maps, window partition, torch.roll, relative position bias, masked attention, patch merging",
    ),
)
