"""DenseNet and Inception: feature maps concatenated, pools and activations called as functions."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pellucid.testing.zoo.entry import ZooNet

__all__ = ["NETS", "DenseNet", "Inception"]


class _DenseLayer(nn.Module):
    def __init__(self, before: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(before), nn.Conv2d(before, 2 * growth, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(2 * growth), nn.Conv2d(2 * growth, growth, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features: list[Tensor]) -> Tensor:
        narrow = self.conv1(self.relu(self.norm1(torch.cat(features, 1))))
        new: Tensor = self.conv2(self.relu(self.norm2(narrow)))
        return new


class _DenseBlock(nn.Module):
    def __init__(self, before: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_DenseLayer(before + place * growth, growth) for place in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(features))
        return torch.cat(features, 1)


class DenseNet(nn.Module):
    """Two dense blocks with a transition between them; every layer sees all before it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.block1 = _DenseBlock(6, 4, 2)
        self.transition = nn.Sequential(
            nn.BatchNorm2d(14), nn.ReLU(inplace=True), nn.Conv2d(14, 7, 1, bias=False), nn.AvgPool2d(2, 2)
        )
        self.block2 = _DenseBlock(7, 4, 2)
        self.norm5 = nn.BatchNorm2d(15)
        self.classifier = nn.Linear(15, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, 4)``."""
        features = self.norm5(self.block2(self.transition(self.block1(self.stem(x)))))
        out = functional.relu(features, inplace=True)
        out = functional.adaptive_avg_pool2d(out, (1, 1))
        logits: Tensor = self.classifier(torch.flatten(out, 1))
        return logits


class _Convolution(nn.Module):
    def __init__(self, before: int, after: int, kernel: int | tuple[int, int], padding: int | tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)), inplace=True)


class _Mixed(nn.Module):
    def __init__(self, before: int) -> None:
        super().__init__()
        self.branch1x1 = _Convolution(before, 3, 1, 0)
        self.branch7 = nn.Sequential(
            _Convolution(before, 3, 1, 0), _Convolution(3, 3, (1, 5), (0, 2)), _Convolution(3, 3, (5, 1), (2, 0))
        )
        self.branch_pool = _Convolution(before, 3, 1, 0)

    def forward(self, x: Tensor) -> Tensor:
        pooled = functional.avg_pool2d(x, kernel_size=3, stride=1, padding=1)
        outputs = [self.branch1x1(x), self.branch7(x), self.branch_pool(pooled)]
        return torch.cat(outputs, 1)


class Inception(nn.Module):
    """Parallel branches of several widths, side by side; a reduction whose one branch is a max-pool."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Convolution(3, 6, 3, 1)
        self.mixed = _Mixed(6)
        self.reduce = nn.Conv2d(9, 6, 3, stride=2, padding=1)
        self.last = _Mixed(15)
        self.dropout = nn.Dropout()
        self.fc = nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, 4)``."""
        shifted = torch.cat(
            [torch.unsqueeze(x[:, place], 1) * scale + 0.1 for place, scale in enumerate((0.5, 0.6, 0.7))], 1
        )
        x = self.mixed(self.stem(shifted))
        reduced = torch.cat([self.reduce(x), functional.max_pool2d(x, kernel_size=3, stride=2, padding=1)], 1)
        pooled = functional.adaptive_avg_pool2d(self.last(reduced), 1)
        logits: Tensor = self.fc(torch.flatten(self.dropout(pooled), 1))
        return logits


NETS = (
    ZooNet(
        name="densenet",
        build=DenseNet,
        shapes=((3, 16, 20),),
        habits="lists of features concatenated, BatchNorm and ReLU before the convolution, functional relu and pool",
    ),
    ZooNet(
        name="inception",
        build=Inception,
        shapes=((3, 16, 20),),
        habits="branches, functional avg_pool2d and in-place relu, BatchNorm eps 1e-3, channels sliced and rescaled",
    ),
)
