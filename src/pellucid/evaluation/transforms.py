"""Natural changes of an image that a biologist calls the same image: light, colour, pose; and the way back for a map."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["TRANSFORMS", "Transform", "TransformName", "warp"]

TransformName = Literal["brightness", "hue", "saturation", "rotation", "translation", "scale"]


@dataclass(frozen=True)
class Transform:
    """A change of images ``(N, C, *S)`` with a strength from -1 to 1.

    Attributes
    ----------
    largest
        What strength 1 is, in words.
    colour
        Changes values in the image's own units; None for a change of pose.
    pose
        From strength and spatial shape to the matrix ``(D, D + 1)`` from new to old places, in pixels from the centre.
    channels, axes
        The number of channels it needs (0: any) and of spatial axes at least.
    """

    largest: str
    colour: Callable[[Tensor, float], Tensor] | None = None
    pose: Callable[[float, tuple[int, ...]], Tensor] | None = None
    channels: int = 0
    axes: int = 1

    def fits(self, x: Tensor) -> bool:
        """Say whether images of this shape can be changed so."""
        return x.ndim - 2 >= self.axes and self.channels in {0, x.shape[1]} and x.ndim <= 5

    def apply(self, x: Tensor, strength: float) -> Tensor:
        """Return the changed images; what a pose leaves empty repeats the rim."""
        if self.colour is not None:
            return self.colour(x, strength)
        return x if self.pose is None else warp(x, self.pose(strength, tuple(x.shape[2:])), padding="border")

    def round_trip(self, x: Tensor, back: Tensor, strength: float) -> tuple[Tensor, Tensor, Tensor]:
        """Bring a changed image's map back beside the map that made the same way there and back.

        Parameters
        ----------
        x
            The image's map ``(N, C, *S)``.
        back
            The changed image's.
        strength
            Of the change.

        Returns
        -------
        tuple of Tensor
            Both maps, through the same interpolation, and where ``(*S)`` both were seen all the way.
        """
        if self.pose is None:
            return x, back, torch.ones(x.shape[2:], dtype=torch.bool, device=x.device)
        there = self.pose(strength, tuple(x.shape[2:]))
        home = _inverse(there)
        seen = warp(warp(x.new_ones(1, 1, *x.shape[2:]), there), home)[0, 0] > 1 - 1e-3
        return warp(warp(x, there), home), warp(back, home), seen


def _inverse(matrix: Tensor) -> Tensor:
    linear = torch.linalg.inv(matrix[:, :-1])
    return torch.cat([linear, -linear @ matrix[:, -1:]], 1)


def warp(x: Tensor, matrix: Tensor, *, padding: Literal["zeros", "border"] = "zeros") -> Tensor:
    """Return ``(N, C, *S)`` read at the places that `matrix` ``(D, D + 1)``, in pixels from the centre, gives."""
    shape = x.shape[2:]
    half = torch.tensor(shape, dtype=torch.float64) / 2
    linear = matrix[:, :-1] * half / half[:, None]
    moved = torch.cat([linear, (matrix[:, -1] / half)[:, None]], 1)
    moved = torch.cat([moved[:, :-1].flip(0, 1), moved[:, -1:].flip(0)], 1)  # torch names places (x, y, z)
    if len(shape) == 1:
        line = torch.tensor([[float(moved[0, 0]), 0, float(moved[0, 1])], [0, 1, 0]])
        return _sampled(x[:, :, None], line, padding)[:, :, 0]
    return _sampled(x, moved, padding)


def _sampled(x: Tensor, matrix: Tensor, padding: str) -> Tensor:
    grid = functional.affine_grid(matrix[None].to(x), [1, 1, *x.shape[2:]], align_corners=False)
    grid = grid.expand(len(x), *grid.shape[1:])
    return functional.grid_sample(x, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def _identity(axes: int) -> Tensor:
    return torch.eye(axes, axes + 1, dtype=torch.float64)


def _rotation(strength: float, shape: tuple[int, ...]) -> Tensor:
    angle, matrix = math.radians(40 * strength), _identity(len(shape))
    matrix[-2:, -3:-1] = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return matrix


def _translation(strength: float, shape: tuple[int, ...]) -> Tensor:
    matrix = _identity(len(shape))
    matrix[-1, -1] = round(0.4 * strength * shape[-1])  # whole pixels: nothing is interpolated
    return matrix


def _scale(strength: float, shape: tuple[int, ...]) -> Tensor:
    matrix = _identity(len(shape))
    matrix[:, :-1] /= 1 + 0.2 * strength
    return matrix


def _brightness(x: Tensor, strength: float) -> Tensor:
    flat = x.flatten(1)
    spread = (flat.amax(1) - flat.amin(1)).view(-1, *[1] * (x.ndim - 1))
    return x + 0.4 * strength * spread


def _saturation(x: Tensor, strength: float) -> Tensor:
    grey = x.mean(1, keepdim=True)
    return grey + (1 + 0.4 * strength) * (x - grey)


def _hue(x: Tensor, strength: float) -> Tensor:
    angle = 2 * math.pi * 0.4 * strength
    grey, turn = (1 - math.cos(angle)) / 3, math.sin(angle) / math.sqrt(3)
    matrix = torch.full((3, 3), grey, dtype=torch.float64) + math.cos(angle) * torch.eye(3, dtype=torch.float64)
    matrix += turn * torch.tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=torch.float64)
    return torch.einsum("ij,nj...->ni...", matrix.to(x), x)


TRANSFORMS: Mapping[str, Transform] = MappingProxyType(
    {
        "brightness": Transform("0.4 of the image's own range is added", colour=_brightness),
        "hue": Transform("colours turn by 0.4 of the circle about grey", colour=_hue, channels=3),
        "saturation": Transform("colours lie 0.4 further from grey", colour=_saturation, channels=3),
        "rotation": Transform("40° in the plane of the last two axes", pose=_rotation, axes=2),
        "translation": Transform("0.4 of the last axis, in whole pixels", pose=_translation),
        "scale": Transform("objects 1.2 times as large (0.8 times at -1)", pose=_scale),
    }
)
"""The changes of the grain study, by name."""
