"""Images on their way into training: read once and kept in half precision, or read again where they do not fit."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

import torch
from rich.progress import track
from torch import Tensor

from pellucid.errors import BadImage
from pellucid.images import ImageSet
from pellucid.models.model import Normalise

__all__ = ["Failure", "Pixels", "read_pixels"]

_MEMORY = 2 * 2**30


@dataclass(frozen=True)
class Failure:
    """An image that could not be used, and why."""

    image: str
    reason: str


@dataclass(frozen=True)
class Pixels:
    """Readable images by id.

    Attributes
    ----------
    images
        The set they come from.
    rows
        The row of every readable image.
    kept
        ``(N, C, *S)`` half precision, each image centred and scaled to [−1, 1] so that the rounding is below a
        2000th of its own range; None where the images are read again each time.
    centre, scale
        ``(N,)`` what was taken off and divided by.
    mean, variance
        ``(N, C)`` of every image, in its own units.
    """

    images: ImageSet
    rows: dict[str, int]
    kept: Tensor | None
    centre: Tensor
    scale: Tensor
    mean: Tensor
    variance: Tensor

    def batch(self, ids: Sequence[str]) -> Tensor:
        """Return float32 ``(N, C, *S)`` in the images' own units."""
        if self.kept is None:
            return self.images.tensor(ids)
        rows = torch.tensor([self.rows[name] for name in ids])
        column = (-1, *[1] * (self.kept.ndim - 1))
        return self.kept[rows].float() * self.scale[rows].view(column) + self.centre[rows].view(column)

    def normalise(self, ids: Sequence[str]) -> Normalise:
        """Return the preprocessing that gives these images mean 0 and standard deviation 1 in each channel."""
        rows = torch.tensor([self.rows[name] for name in ids])
        mean = self.mean[rows].mean(0)
        spread = (self.variance[rows].mean(0) + self.mean[rows].var(0, correction=0)).sqrt()
        spread = torch.where(spread > 0, spread, torch.ones_like(spread))
        return Normalise(mean=tuple(mean.tolist()), std=tuple(spread.tolist()))


def read_pixels(
    images: ImageSet, ids: Sequence[str], *, memory: int = _MEMORY, progress: bool = False
) -> tuple[Pixels, tuple[Failure, ...]]:
    """Read images once; those that cannot be read become failures.

    Parameters
    ----------
    images, ids
        What to read.
    memory
        Bytes that may be kept; above it the images are read again each time.
    progress
        Whether to show a bar.
    """
    fits = 2 * len(ids) * prod(images.shape) <= memory
    kept = torch.empty(len(ids), *images.shape, dtype=torch.float16) if fits else None
    centre, scale = torch.zeros(len(ids)), torch.ones(len(ids))
    mean, variance = (torch.zeros(len(ids), images.shape[0], dtype=torch.float64) for _ in range(2))
    failures: list[Failure] = []
    rows: dict[str, int] = {}
    for row, name in enumerate(_shown(ids, progress=progress)):
        try:
            image = images.load(name)
        except BadImage as error:
            failures.append(Failure(name, str(error)))
            continue
        rows[name] = row
        flat = image.double().flatten(1)
        mean[row], variance[row] = flat.mean(1), flat.var(1, correction=0)
        low, high = image.aminmax()
        centre[row] = (low + high) / 2
        scale[row] = (high - low).clamp(min=torch.finfo(torch.float32).tiny) / 2
        if kept is not None:
            kept[row] = ((image - centre[row]) / scale[row]).half()
    return Pixels(images, rows, kept, centre, scale, mean, variance), tuple(failures)


def _shown(ids: Sequence[str], *, progress: bool) -> Iterable[str]:
    return track(ids, description="reading images", transient=True) if progress else ids
