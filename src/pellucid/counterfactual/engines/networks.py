"""Parts that engines share beside the autoencoder: an onlooker of images, a perceptron, and settings that count or weigh."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

__all__ = ["CONVOLUTIONS", "Count", "Onlooker", "Weight", "perceptron"]

Count = Annotated[int, Field(ge=1)]
"""A setting that counts something."""

Weight = Annotated[float, Field(ge=0)]
"""The weight of a part of a loss; 0 leaves the part out."""

CONVOLUTIONS: Mapping[int, type[nn.Conv1d | nn.Conv2d | nn.Conv3d]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def perceptron(*widths: int) -> nn.Sequential:
    """Return a fully connected network with these widths, SiLU between."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.SiLU(), nn.Linear(before, after)]
    return nn.Sequential(*layers[1:])


class Onlooker(nn.Module):
    """Judges images patch by patch; its inner maps say in what two images differ to a trained eye.

    Parameters
    ----------
    channels, dims
        Of the images: ``(N, channels, *S)`` with `dims` spatial axes.
    width
        Channels after the first halving.
    verdicts
        Numbers it gives an image.
    """

    def __init__(self, channels: int, dims: int, *, width: int, verdicts: int = 1) -> None:
        super().__init__()
        widths = (channels, width, 2 * width, 4 * width)
        self.stages = nn.ModuleList(
            nn.Sequential(CONVOLUTIONS[dims](before, after, 3, stride=2, padding=1), nn.LeakyReLU(0.2))
            for before, after in pairwise(widths)
        )
        self.out = CONVOLUTIONS[dims](widths[-1], verdicts, 1)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Return the maps after each stage."""
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, verdicts)``, means over patches."""
        verdict: Tensor = self.out(self.maps(x)[-1]).flatten(2).mean(2)
        return verdict
