"""Edits that leave every outline where it is: colour, brightness, texture, the slope of the background."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from pellucid.errors import ShapeError
from pellucid.measure.edit import EDITS, Edit
from pellucid.measure.surface import Array, Mask, fitted_plane, masked_blur, plane_terms

__all__ = [
    "Amount", "balanced_ramp", "blur_texture", "brighten", "flatten_background", "flatten_illumination", "recolour", "saddle",
    "span", "surrogate",
]  # fmt: skip

Amount = Annotated[float, Field(ge=-1.0, le=1.0)]


def span(image: Array) -> float:
    """Return the image's own range."""
    return float(image.max() - image.min())


def balanced_ramp(inside: Mask, rng: np.random.Generator) -> Array:
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
        return image + self.amount * span(image), inside

    def matched(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image with the amount as a balanced slope."""
        return image + self.amount * span(image) * balanced_ramp(inside, rng), inside


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
        colour = self.amount * span(image) * weights / size
        return np.asarray(colour.reshape(-1, *(1,) * (image.ndim - 1)))

    def edited(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image with the colour shifted everywhere."""
        return image + self._colour(image, rng), inside

    def matched(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image with the shift as a balanced slope."""
        colour = self._colour(image, rng)
        return image + colour * balanced_ramp(inside, rng), inside


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
        other = surrogate(grain, inside, rng)
        return np.where(inside, smooth + 0.5 * grain + np.sqrt(0.75) * other, image), inside


def surrogate(grain: Array, inside: Mask, rng: np.random.Generator) -> Array:
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
        strength = np.sqrt((self._slope(image, outside, terms)[:, outside] ** 2).mean(1))
        return image + strength.reshape(-1, *(1,) * inside.ndim) * saddle(outside, terms, rng), outside


def saddle(outside: Mask, terms: Array, rng: np.random.Generator) -> Array:
    """Return a random bend ``(1, *S)`` without mean or slope over the background, and of mean square 1 there."""
    unit = terms[1:] / np.maximum(1.0, np.abs(terms[1:]).max(axis=tuple(range(1, terms.ndim)), keepdims=True))
    weights = rng.standard_normal((outside.ndim, outside.ndim))
    bend = np.einsum("i...,ij,j...->...", unit, weights, unit)[None]
    bend = bend - np.tensordot(fitted_plane(bend, outside, terms), terms, axes=1)
    size = np.sqrt((bend[:, outside] ** 2).mean())
    return np.asarray(bend / size if size > 0 else 0 * bend)


@EDITS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class flatten_illumination(Edit):
    """Divide uneven light out of the whole image, object included, as the background's slope tells it.

    Null: a saddle of light as uneven as the slope that is taken. It controls for any smooth change of light of that size.
    """

    moves: ClassVar[tuple[str, ...]] = ("Background_Slope",)
    controls: ClassVar[str] = "any smooth change of light over the image of that size"

    def _light(self, image: Array, outside: Mask, terms: Array) -> Array:
        """Return the light ``(C, *S)`` of mean 1 over the background, never under a fifth of it."""
        plane = np.tensordot(fitted_plane(image, outside, terms), terms, axes=1)
        mean = plane[:, outside].mean(1).reshape(-1, *(1,) * outside.ndim)
        if (mean <= 0).any():
            raise ShapeError(
                f"{self}: light is divided out of images whose background is above 0; use flatten_background"
            )
        return np.asarray(np.maximum(plane / mean, 0.2))

    def edited(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:  # noqa: ARG002
        """Return the image under even light."""
        return image / self._light(image, ~inside, plane_terms(inside.shape)), np.ones_like(inside)

    def matched(self, image: Array, inside: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
        """Return the image under light that is bent instead."""
        outside, terms = ~inside, plane_terms(inside.shape)
        uneven = self._light(image, outside, terms) - 1
        strength = np.sqrt((uneven[:, outside] ** 2).mean(1)).reshape(-1, *(1,) * inside.ndim)
        return image / np.maximum(1 + strength * saddle(outside, terms, rng), 0.2), np.ones_like(inside)
