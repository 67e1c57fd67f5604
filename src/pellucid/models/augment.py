"""Small changes of training images that must not change the label."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.errors import ShapeError

__all__ = ["Augment"]


@dataclass(frozen=True)
class Augment:
    """Random flips, shifts and brightness, drawn anew for every image and epoch.

    Attributes
    ----------
    flip
        Axes that may be mirrored. ``"YX"`` assumes that the orientation of an image carries no meaning, which holds
        for cells on a slide and not for a chest X-ray or a sequence: give ``""`` there.
    shift
        Largest shift as a fraction of an axis; the border is repeated. Time is never shifted.
    brightness
        Largest change of brightness and contrast, in standard deviations of the training images.
    """

    flip: str = "YX"
    shift: float = 0.1
    brightness: float = 0.1

    def __post_init__(self) -> None:
        for name in ("shift", "brightness"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ShapeError(f"Augment({name}={value}): {name} must be at least 0 and below 1")

    def __call__(self, x: Tensor, spatial: str, generator: torch.Generator) -> Tensor:
        """Return changed images ``(N, C, *S)`` with the axes `spatial`; `x` is normalised."""
        for place, axis in enumerate(spatial):
            x = self._moved(x, place + 2, axis, generator)
        if self.brightness:
            column = (len(x), *[1] * (x.ndim - 1))
            gain, offset = (self.brightness * _signed(len(x), generator).view(column).to(x.device) for _ in range(2))
            x = x * (1 + gain) + offset
        return x

    def _moved(self, x: Tensor, dim: int, axis: str, generator: torch.Generator) -> Tensor:
        length = x.shape[dim]
        place = torch.arange(length).expand(len(x), length)
        if self.shift and axis != "T":
            step = (self.shift * length * _signed(len(x), generator)).round().long()
            place = (place + step[:, None]).clamp(0, length - 1)
        if axis in self.flip:
            flipped = torch.rand(len(x), generator=generator) < 0.5
            place = torch.where(flipped[:, None], length - 1 - place, place)
        shape = [len(x), *[1] * (x.ndim - 1)]
        shape[dim] = length
        return torch.take_along_dim(x, place.view(shape).to(x.device), dim)


def _signed(rows: int, generator: torch.Generator) -> Tensor:
    return 2 * torch.rand(rows, generator=generator) - 1
