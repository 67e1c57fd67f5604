"""The diffusion autoencoder: a latent says what an image shows, a denoiser draws it; slow, and the most faithful in detail."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from pellucid.counterfactual.coder import Coder
from pellucid.counterfactual.engines.denoiser import Denoiser
from pellucid.counterfactual.engines.engine import Codec, Engine, adam, guide_of
from pellucid.counterfactual.engines.loop import descend
from pellucid.counterfactual.engines.networks import Count, Weight
from pellucid.counterfactual.generator import GENERATORS
from pellucid.models import Passes

__all__ = ["DiffusionCodec", "diffusion_autoencoder", "noised"]

_OUTSET = 0
"""Seed of the noise that all images are drawn from where none of their own is given."""


def noised(x: Tensor, noise: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """Return images with noise, and what is to be predicted of them, at times ``(N,)`` from 0, the image, to 1, noise.

    The share of the image falls as a cosine; predicted is the velocity cos · noise − sin · image, from which both follow.

    References
    ----------
    Salimans and Ho, Progressive distillation for fast sampling of diffusion models, ICLR 2022.
    """
    image, noise_share = _shares(time, x)
    return image * x + noise_share * noise, image * noise - noise_share * x


def _shares(time: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    angle = (time * (math.pi / 2)).view(-1, *[1] * (like.ndim - 1))
    return angle.cos(), angle.sin()


class DiffusionCodec(Codec):
    """An encoder and a denoiser; drawing goes from noise to image in equal, deterministic steps (DDIM).

    References
    ----------
    Song et al., Denoising diffusion implicit models, ICLR 2021.
    """

    outset: Tensor

    def __init__(
        self, shape: tuple[int, ...], outputs: int, *, settings: "diffusion_autoencoder", latents: int
    ) -> None:
        super().__init__(torch.ones(latents, dtype=torch.bool), outputs)
        self.coder = Coder(shape, latents=latents, width=settings.width)
        del self.coder.decoder
        self.denoiser = Denoiser(
            shape[0], len(shape) - 1, latents=latents, width=settings.width, stages=settings.stages
        )
        self.draws = settings.draws
        noise = torch.randn(1, *shape, generator=torch.Generator().manual_seed(_OUTSET))
        self.register_buffer("outset", noise)

    def scale_to(self, images: Tensor) -> None:
        """Take the scale of every channel from images."""
        self.coder.scale_to(images)

    def scaled(self, x: Tensor) -> Tensor:
        """Return images on the scale of the denoiser."""
        return (x - self.coder.centre) / self.coder.reach

    def latents(self, x: Tensor) -> Tensor:
        """Return what images show."""
        return self.coder.encode(x)[0]

    def images(self, z: Tensor, noise: Tensor | None = None, *, depth: float = 1.0) -> Tensor:
        """Return the images of latents, drawn from noise; differentiable.

        Parameters
        ----------
        z
            ``(N, D)``.
        noise
            ``(N, C, *S)`` what `invert` returned, or None: the same for all images.
        depth
            The time that this noise belongs to.
        """
        x = self.outset.expand(len(z), *self.outset.shape[1:]) if noise is None else noise
        return self._drawn(x, z, depth, 0.0) * self.coder.reach + self.coder.centre

    def invert(self, x: Tensor, z: Tensor, *, depth: float = 1.0) -> Tensor:
        """Return the noise ``(N, C, *S)`` at time `depth` from which these latents draw these images."""
        return self._drawn(self.scaled(x), z, 0.0, depth)

    def _drawn(self, x: Tensor, z: Tensor, begin: float, end: float) -> Tensor:
        """Go from one time to another; the way there and the way back take the same steps."""
        steps = max(1, math.ceil(self.draws * abs(end - begin)))
        times = torch.linspace(begin, end, steps + 1, dtype=torch.float64).to(x.device, x.dtype)
        for now, then in pairwise(times):
            velocity = self.denoiser(x, now.expand(len(x)), z)
            (image, noise), (later_image, later_noise) = _shares(now, x), _shares(then, x)
            x = later_image * (image * x - noise * velocity) + later_noise * (noise * x + image * velocity)
        return x


@GENERATORS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class diffusion_autoencoder(Engine):
    """A denoiser that is told by a latent what to draw; sharp where autoencoders blur, at `draws` passes an image.

    The defaults are a small one for a CPU. On a GPU take what was published: ``diffusion_autoencoder(latents=512, width=64,
    stages=4, draws=100, rate=1e-4, steps=500000)`` and batches of 32 to 128. An image is its latent alone here, and drawn
    from the same noise as all others; its own noise is found by `DiffusionCodec.invert` and used by `inverted_shift`.

    The loss is the mean square miss of the velocity + ``agreement`` × the miss of the model's standardised outputs on what one
    step makes of images that are more image than noise. A running mean of the weights is kept.

    Attributes
    ----------
    stages
        How often the denoiser halves the image.
    draws
        Steps from noise to image.
    agreement
        Weight of the model's answers.
    memory
        Of the running mean of the weights, in steps' share kept.

    References
    ----------
    Preechakul et al., Diffusion autoencoders: toward a meaningful and decodable representation, CVPR 2022; Atad et al.,
    Counterfactual explanations for medical image classification and regression using diffusion autoencoder, MELBA 2024.
    """

    stages: Count = 2
    draws: Count = 20
    agreement: Weight = 0.0
    memory: Annotated[float, Field(ge=0, lt=1)] = 0.995

    def codec(self, shape: tuple[int, ...], outputs: int) -> Codec:
        """Return the encoder and the denoiser."""
        return DiffusionCodec(shape, outputs, settings=self, latents=self.numbers(shape))

    def objective(self, codec: Codec, passes: Passes, images: Tensor) -> "_Denoising":
        """Return what the denoiser learns."""
        return _Denoising(self, codec, passes, images)


class _Denoising:
    """The loss of a diffusion autoencoder; the codec holds the running mean of what learns."""

    def __init__(self, settings: diffusion_autoencoder, codec: Codec, passes: Passes, images: Tensor) -> None:
        if not isinstance(codec, DiffusionCodec):
            raise TypeError(f"{type(codec).__name__} is no DiffusionCodec")
        self.settings, self.codec = settings, codec
        self.guide = guide_of(passes, images, str(settings)) if settings.agreement else None
        self.learner = DiffusionCodec(
            tuple(images.shape[1:]), int(codec.outputs), settings=settings, latents=len(codec.movable)
        ).to(codec.outset.device)
        self.learner.load_state_dict(codec.state_dict())
        self.count = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.helpers = nn.ModuleList([self.learner, nn.ParameterList([self.count])])
        self.optimisers = [adam(self.learner, rate=settings.rate)]

    def __call__(self, x: Tensor, random: torch.Generator) -> Mapping[str, Tensor]:
        """Learn from images; return the parts of the loss."""
        learner, clean = self.learner, self.learner.scaled(x)
        noise = torch.randn(x.shape, generator=random).to(x)
        time = ((torch.rand(1, generator=random) + torch.arange(len(x)) / len(x)) % 1).to(x)
        there, wanted = noised(clean, noise, time)
        found = learner.denoiser(there, time, learner.latents(x))
        parts = {"velocity": (found - wanted).square().mean()}
        loss = parts["velocity"]
        if self.guide is not None:
            parts["agreement"] = self._disagreement(x, there, found, time)
            loss = loss + self.settings.agreement * parts["agreement"]
        descend(self.optimisers[0], loss)
        self._remember()
        return parts

    def _disagreement(self, x: Tensor, there: Tensor, velocity: Tensor, time: Tensor) -> Tensor:
        clear = time < 0.5
        image, noise = _shares(time[clear], there)
        made = image * there[clear] - noise * velocity[clear]
        assert self.guide is not None  # noqa: S101  # asked for only where there is one
        wanted = self.guide.standard(self.guide.say(x[clear]))
        return self.guide.disagreement(made * self.learner.coder.reach + self.learner.coder.centre, wanted)

    @torch.no_grad()
    def _remember(self) -> None:
        """Let the codec follow what learns; slower the longer it has."""
        self.count.add_(1)
        kept = min(self.settings.memory, float((1 + self.count) / (10 + self.count)))
        for mean, now in zip(self.codec.parameters(), self.learner.parameters(), strict=True):
            mean.lerp_(now, 1 - kept)
