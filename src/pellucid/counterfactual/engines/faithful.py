"""The default generator: a small autoencoder whose reconstructions the model answers as it answers the images."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from pellucid.counterfactual.coder import Coder
from pellucid.counterfactual.engines.elbo import draw, kl_divergence
from pellucid.counterfactual.engines.engine import Codec, Engine, adam, plain
from pellucid.counterfactual.engines.loop import descend
from pellucid.counterfactual.engines.networks import Weight
from pellucid.counterfactual.generator import GENERATORS
from pellucid.counterfactual.guidance import Guide
from pellucid.models import Passes

__all__ = ["faithful_autoencoder"]

_LATENTS = 64


@GENERATORS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class faithful_autoencoder(Engine):
    """A convolutional autoencoder that is held to the model's answers: what the model sees must survive the round trip.

    The loss is ``pixels`` × L1 in each channel's own range + ``agreement`` × the miss of the model's standardised outputs on
    the reconstruction + ``spread`` × the divergence of the latents from a unit normal. A model without derivatives is
    followed through a linear head on the latents, of the image and of its reconstruction.

    Attributes
    ----------
    pixels, agreement, spread
        Weights of the parts of the loss.
    """

    batch_size: Annotated[int, Field(ge=2)] = 16
    rate: Annotated[float, Field(gt=0)] = 2e-3
    pixels: Weight = 4.0
    agreement: Weight = 0.05
    spread: Weight = 1e-3

    def numbers(self, shape: tuple[int, ...]) -> int:
        """Return how many numbers a latent has for images of `shape`: at most an eighth of the numbers of an image."""
        return self.latents or min(_LATENTS, max(8, prod(shape) // 8))

    def objective(self, codec: Codec, passes: Passes, images: Tensor) -> "_Faithful":
        """Return the loss of pixels, answers and latents."""
        return _Faithful(self, plain(codec), passes, images)


class _Faithful:
    """What is asked of the autoencoder with one batch."""

    def __init__(self, settings: faithful_autoencoder, coder: Coder, passes: Passes, images: Tensor) -> None:
        self.settings, self.coder = settings, coder
        self.guide = Guide(passes, images)
        self.head = nn.Linear(coder.latents, len(self.guide.centre)).to(coder.centre.device)
        self.helpers = nn.ModuleList([self.head])
        self.optimisers = [adam(coder, self.head, rate=settings.rate)]

    def __call__(self, x: Tensor, random: torch.Generator) -> Mapping[str, Tensor]:
        """Learn from images; return the parts of the loss."""
        mean, log_variance = self.coder.encode(x)
        rebuilt = self.coder.decode(draw(mean, log_variance, random))
        asked = slice(0, -(-len(x) // 2))  # the model is the dear part; every other image is enough
        wanted = self.guide.standard(self.guide.say(x[asked]))
        parts = {
            "pixels": ((rebuilt - x) / self.coder.reach).abs().mean(),
            "agreement": self._disagreement(mean[asked], rebuilt[asked], wanted),
            "spread": kl_divergence(mean, log_variance).mean() / self.coder.latents,
        }
        descend(
            self.optimisers[0],
            sum((getattr(self.settings, name) * part for name, part in parts.items()), mean.new_zeros(())),
        )
        return parts

    def _disagreement(self, mean: Tensor, rebuilt: Tensor, wanted: Tensor) -> Tensor:
        if self.guide.reachable:
            return self.guide.disagreement(rebuilt, wanted)
        again, _ = self.coder.encode(rebuilt)
        return functional.smooth_l1_loss(self.head(mean), wanted) + functional.smooth_l1_loss(self.head(again), wanted)
