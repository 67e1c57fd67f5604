"""A small residual network to start from: honest accuracy on a few hundred images, on a laptop, in one to three axes."""

from collections.abc import Mapping

from torch import Tensor, nn

from pellucid.errors import ShapeError

__all__ = ["ResidualNet", "residual_net"]

_CONVOLUTIONS: Mapping[int, type[nn.Conv1d | nn.Conv2d | nn.Conv3d]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_NORMS: Mapping[int, type[nn.Module]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_POOLS: Mapping[int, type[nn.Module]] = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}


def _convolution(dims: int, before: int, after: int, kernel: int, stride: int) -> nn.Sequential:
    convolution = _CONVOLUTIONS[dims](before, after, kernel, stride=stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, _NORMS[dims](after))


class _Block(nn.Module):
    def __init__(self, dims: int, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(dims, before, after, 3, stride)
        self.second = _convolution(dims, after, after, 3, 1)
        same = before == after and stride == 1
        self.shortcut = nn.Identity() if same else _convolution(dims, before, after, 1, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.relu(self.first(x)))
        y += self.shortcut(x)
        out: Tensor = self.relu(y)
        return out


class ResidualNet(nn.Module):
    """Stem, residual stages, global average pooling, linear head; `pool` gives the embedding ``(N, F)``."""

    def __init__(self, *, classes: int, channels: int, dims: int, width: int, depth: int, stem_stride: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(_convolution(dims, channels, width, 5, stem_stride), nn.ReLU(inplace=True))
        widths = [width * 2**stage for stage in range(depth)]
        self.stages = nn.Sequential(
            *(
                _Block(dims, before, after, 1 if stage == 0 else 2)
                for stage, (before, after) in enumerate(zip([width, *widths[:-1]], widths, strict=True))
            )
        )
        self.pool = nn.Sequential(_POOLS[dims](1), nn.Flatten(1))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, classes)`` for images ``(N, channels, *S)``."""
        logits: Tensor = self.head(self.pool(self.stages(self.stem(x))))
        return logits


def residual_net(
    *, classes: int, channels: int = 3, dims: int = 2, width: int = 16, depth: int = 4, stem_stride: int = 2
) -> ResidualNet:
    """Build a small, untrained residual network for sequences, images or volumes.

    Parameters
    ----------
    classes
        Number of outputs.
    channels
        Number of input channels.
    dims
        Number of spatial axes, 1 to 3.
    width
        Channels of the first stage; every later stage doubles them.
    depth
        Number of residual stages; every one after the first halves the image.
    stem_stride
        Step of the first convolution; 1 keeps the detail of very small images.

    Raises
    ------
    ShapeError
        When `dims` is not 1, 2 or 3, or a number is below 1.

    References
    ----------
    He et al., Deep residual learning for image recognition, CVPR 2016.
    """
    if dims not in _CONVOLUTIONS:
        raise ShapeError(f"residual_net(dims={dims}): a network takes 1, 2 or 3 spatial axes")
    numbers = {"classes": classes, "channels": channels, "width": width, "depth": depth, "stem_stride": stem_stride}
    for name, number in numbers.items():
        if number < 1:
            raise ShapeError(f"residual_net({name}={number}): {name} must be at least 1")
    return ResidualNet(classes=classes, channels=channels, dims=dims, width=width, depth=depth, stem_stride=stem_stride)
