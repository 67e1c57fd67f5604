"""Edits that leave every outline where it is: colour, brightness, texture, the slope of the background."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from pellucid.errors import ShapeError
from pellucid.measure.edit import EDITS, Edit
from pellucid.measure.surface import Array, Mask, fitted_plane, masked_blur, plane_terms

__all__ = ["blur_texture", "brighten", "flatten_background", "recolour"]

Amount = Annotated[float, Field(ge=-1.0, le=1.0)]


def _span(image: Array) -> float:
    return float(image.max() - image.min())


def _balanced_ramp(inside: Mask, rng: np.random.Generator) -> Array:
    """Return a slope in a random direction, of mean 0 and root mean square 1 over the object."""
    axes = plane_terms(inside.shape)[1:]
    ramp = np.tensordot(rng.standard_normal(inside.ndim), axes, axes=1)
    ramp = ramp - ramp[inside].mean()
    size = float(np.sqrt((ramp[inside] ** 2).mean()))
    if size == 0:
        raise ShapeError("the null of this edit needs an object of at least two pixels in every direction")
    return np.asarray(ramp / size)


@EDITS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class brighten(Edit):
    """Make the object brighter (or darker) by one constant in every channel.

    Null: the same amount laid on as a slope that brightens one side of the object as much as it darkens the other,
    so its mean brightness stays. It controls for any smooth disturbance of that energy on the object.

    Parameters
    ----------
    amount
        Share of the image's own range; negative darkens. Values are not clipped.
    """

    amount: Amount = 0.15
    moves: ClassVar[tuple[str, ...]] = ("Intensity_MeanIntensity_", "Intensity_IntegratedIntensity_")
    controls: ClassVar[str] = "any smooth disturbance of that energy on the object"

    def edited(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:  # noqa: ARG002
        """Return the image with the amount added everywhere."""
        return image + self.amount * _span(image), inside

    def matched(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image with the amount as a balanced slope."""
        return image + self.amount * _span(image) * _balanced_ramp(inside, rng), inside


@EDITS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class recolour(Edit):
    """Shift the object's colour and keep its brightness: what one channel gains the others lose.

    Null: the same shift as a balanced slope, towards the colour on one side and away from it on the other, so the mean
    colour stays. It controls for any smooth disturbance of colour of that energy on the object.

    Parameters
    ----------
    shift
        One weight a channel; their mean is removed and their root mean square set to `amount`. Empty: drawn at random.
    amount
        Share of the image's own range.
    """

    shift: tuple[float, ...] = ()
    amount: Amount = 0.15
    moves: ClassVar[tuple[str, ...]] = ("Intensity_MeanIntensity_",)
    controls: ClassVar[str] = "any smooth disturbance of colour of that energy on the object"

    def _colour(self, image: Array, rng: np.random.Generator) -> Array:
        channels = len(image)
        if channels < 2:
            raise ShapeError("an image of one channel has no colour to shift; use brighten")
        if self.shift and len(self.shift) != channels:
            raise ShapeError(f"{self}: the shift has {len(self.shift)} weights, the image {channels} channels")
        drawn = rng.standard_normal(channels)
        weights = np.array(self.shift or drawn)
        weights = weights - weights.mean()
        size = np.sqrt((weights**2).mean())
        if size == 0:
            raise ShapeError(f"{self}: equal weights in all channels change no colour; use brighten")
        colour = self.amount * _span(image) * weights / size
        return np.asarray(colour.reshape(-1, *(1,) * (image.ndim - 1)))

    def edited(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image with the colour shifted everywhere."""
        return image + self._colour(image, rng), inside

    def matched(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image with the shift as a balanced slope."""
        colour = self._colour(image, rng)
        return image + colour * _balanced_ramp(inside, rng), inside


@EDITS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class blur_texture(Edit):
    """Smooth the grain inside the object; nothing leaks over its edge.

    Null: the object's grain is turned into another grain of the same strength and spectrum, changing every channel by
    as much energy as the blur takes. It controls for losing this very pattern of pixels rather than its coarseness.

    Parameters
    ----------
    scale
        Standard deviation of the blur in pixels.
    """

    scale: Annotated[float, Field(gt=0.0)] = 1.5
    moves: ClassVar[tuple[str, ...]] = ("Texture_Contrast", "Intensity_StdIntensity_")
    controls: ClassVar[str] = "the loss of this very pattern of pixels rather than of its coarseness"

    def edited(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:  # noqa: ARG002
        """Return the blurred object."""
        return masked_blur(image, inside, self.scale), inside

    def matched(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the object with its grain turned by 60 degrees towards a surrogate: equal norm, equal change."""
        smooth = masked_blur(image, inside, self.scale)
        grain = np.where(inside, image - smooth, 0.0)
        other = _surrogate(grain, inside, rng)
        return np.where(inside, smooth + 0.5 * grain + np.sqrt(0.75) * other, image), inside


def _surrogate(grain: Array, inside: Mask, rng: np.random.Generator) -> Array:
    """Return a grain of the same spectrum with random phases, orthogonal to this one and as strong."""
    axes = tuple(range(1, grain.ndim))
    phases = np.fft.fftn(rng.standard_normal(inside.shape))
    phases = phases / np.maximum(np.abs(phases), np.finfo(np.float64).tiny)
    other = np.fft.ifftn(np.fft.fftn(grain, axes=axes) * phases, axes=axes).real * inside
    energy = (grain**2).sum(axes, keepdims=True)
    safe = np.where(energy > 0, energy, 1.0)
    other = other - grain * (other * grain).sum(axes, keepdims=True) / safe
    strength = (other**2).sum(axes, keepdims=True)
    return np.asarray(other * np.sqrt(energy / np.where(strength > 0, strength, 1.0)))


@EDITS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class flatten_background(Edit):
    """Take the slope out of the background and keep its mean.

    Null: a saddle of random form that has neither mean nor slope over the background is added, as strong as the slope
    that the edit takes away. It controls for any smooth disturbance of the background.
    """

    moves: ClassVar[tuple[str, ...]] = ("Background_Slope",)
    controls: ClassVar[str] = "any smooth disturbance of the background of that energy"

    def _slope(self, image: Array, outside: Mask, terms: Array) -> Array:
        plane = fitted_plane(image, outside, terms)
        slope = np.tensordot(plane[:, 1:], terms[1:], axes=1)
        return np.asarray(slope - slope[:, outside].mean(1).reshape(-1, *(1,) * outside.ndim))

    def edited(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:  # noqa: ARG002
        """Return the image less the fitted slope."""
        return image - self._slope(image, ~inside, plane_terms(inside.shape)), ~inside

    def matched(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image with a saddle in place of the slope."""
        outside, terms = ~inside, plane_terms(inside.shape)
        unit = terms[1:] / np.maximum(1.0, np.abs(terms[1:]).max(axis=tuple(range(1, terms.ndim)), keepdims=True))
        bend = rng.standard_normal((inside.ndim, inside.ndim))
        saddle = np.einsum("i...,ij,j...->...", unit, bend, unit)[None]
        saddle = saddle - np.tensordot(fitted_plane(saddle, outside, terms), terms, axes=1)
        strength = np.sqrt((self._slope(image, outside, terms)[:, outside] ** 2).mean(1))
        size = np.sqrt((saddle[:, outside] ** 2).mean())
        scale = (strength / size if size > 0 else 0 * strength).reshape(-1, *(1,) * inside.ndim)
        return image + scale * saddle, outside
