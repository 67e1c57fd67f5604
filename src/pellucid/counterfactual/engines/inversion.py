"""Edits that keep an image's own noise: it is taken back to noise under its latent and drawn again under the moved one."""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from pellucid.counterfactual.engines.diffusion import DiffusionCodec
from pellucid.counterfactual.engines.engine import FittedEngine
from pellucid.counterfactual.engines.lines import latent_shift
from pellucid.counterfactual.moves import LatentMove
from pellucid.counterfactual.parts import in_parts
from pellucid.counterfactual.search import SEARCHES, Problem
from pellucid.errors import CannotExplain

__all__ = ["InvertedMove", "inverted_shift"]


@dataclass(frozen=True)
class InvertedMove(LatentMove):
    """What a step in the latents changes where each image is drawn again from its own noise.

    Attributes
    ----------
    codec
        Of the diffusion autoencoder.
    noise
        ``(N, C, *S)`` of the images.
    depth
        The time that the noise belongs to.
    """

    codec: DiffusionCodec
    noise: Tensor
    depth: float

    def at(self, dose: float, rows: Tensor) -> Tensor:
        """Return the images of some rows at a dose; at dose 0 these are the images themselves."""
        return self.x[rows] if dose == 0 else super().at(dose, rows)

    def made(self, there: Tensor, rows: Tensor) -> Tensor:
        """Return the images that latents give with each row's own noise."""
        return self.support.within(self.codec.images(there, self.noise[rows], depth=self.depth), self.x[rows])


@SEARCHES.register
@dataclass(frozen=True, kw_only=True, repr=False)
class inverted_shift(latent_shift):
    """Along the slope of the score, each image drawn again from its own noise; for `diffusion_autoencoder` alone.

    Attributes
    ----------
    depth
        How far back to noise, 0 to 1: with little of it, little can change; with all of it, the noise holds the image back.

    References
    ----------
    Preechakul et al., Diffusion autoencoders: toward a meaningful and decodable representation, CVPR 2022.
    """

    depth: Annotated[float, Field(gt=0, le=1)] = 0.6

    def move(self, problem: Problem, z: Tensor, step: Tensor) -> InvertedMove:
        """Return the move of steps from latents.

        Raises
        ------
        CannotExplain
            When the generator draws from no noise.
        """
        codec = problem.fitted.codec if isinstance(problem.fitted, FittedEngine) else None
        if not isinstance(codec, DiffusionCodec):
            raise CannotExplain(
                f"{self} needs a diffusion_autoencoder, not {problem.fitted.generator}; use latent_shift"
            )
        with torch.no_grad():
            parts = zip(in_parts(problem.x), in_parts(z), strict=True)
            noise = torch.cat([codec.invert(x.to(there), there, depth=self.depth) for x, there in parts])
        return InvertedMove(problem.fitted, problem.support, problem.x, z, step, codec, noise, self.depth)
