"""Variational autoencoders: plain, β, total correlation, sparse, with a critic's similarity, held to the model or not."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from pellucid.counterfactual.coder import Coder
from pellucid.counterfactual.engines.elbo import draw, gaussian_misfit, kl_divergence, total_correlation
from pellucid.counterfactual.engines.engine import Codec, Engine, adam, guide_of, plain
from pellucid.counterfactual.engines.loop import descend
from pellucid.counterfactual.engines.networks import Onlooker, Weight
from pellucid.counterfactual.engines.similarity import critic_loss, unlikeness
from pellucid.counterfactual.generator import GENERATORS
from pellucid.models import Passes

__all__ = ["variational_autoencoder"]


@GENERATORS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class variational_autoencoder(Engine):
    """A variational autoencoder: latents that spread like a unit normal, and with ``beta`` above 1 tend to be independent.

    The loss of an image, in nats, is its misfit under Gaussian noise + ``beta`` × the divergence of its latents from the
    unit normal + ``total_correlation`` × that of the latents from independence + ``sparsity`` × the sum of their sizes.
    With ``beta=1`` and nothing else it is the evidence lower bound; ``beta=4`` is the β-VAE, ``total_correlation=5`` the
    β-TC-VAE whose weight is 6; ``beta=0`` is a plain autoencoder as latent shift takes it. It knows nothing of the model
    unless ``agreement`` is above 0.

    Attributes
    ----------
    beta, total_correlation, sparsity
        Weights of the parts of the loss.
    similarity
        Weight of the difference that a critic, learning to tell real images from reconstructions, finds between the two;
        1 weighs a share of its maps like as much square error of the pixels.
    agreement
        Weight of the miss of the model's standardised outputs on the reconstruction, per pixel.
    noise
        Standard deviation of a pixel about its reconstruction, in halves of its channel's range.

    References
    ----------
    Kingma and Welling, Auto-encoding variational Bayes, ICLR 2014; Higgins et al., β-VAE, ICLR 2017; Chen et al., Isolating
    sources of disentanglement in variational autoencoders, NeurIPS 2018; Lafarge et al., Capturing single-cell phenotypic
    variation via unsupervised representation learning, MIDL 2019.
    """

    beta: Weight = 1.0
    total_correlation: Weight = 0.0
    sparsity: Weight = 0.0
    similarity: Weight = 0.0
    agreement: Weight = 0.0
    noise: Annotated[float, Field(gt=0)] = 0.1

    def objective(self, codec: Codec, passes: Passes, images: Tensor) -> "_Bound":
        """Return the evidence lower bound with what is added to it."""
        return _Bound(self, plain(codec), passes, images)


class _Bound:
    """The loss of a variational autoencoder."""

    def __init__(self, settings: variational_autoencoder, coder: Coder, passes: Passes, images: Tensor) -> None:
        self.settings, self.coder = settings, coder
        self.guide = guide_of(passes, images, str(settings)) if settings.agreement else None
        self.critic = Onlooker(images.shape[1], images.ndim - 2, width=settings.width).to(coder.centre.device)
        self.helpers = nn.ModuleList([self.critic])
        self.optimisers = [adam(coder, rate=settings.rate), adam(self.critic, rate=settings.rate, betas=(0.5, 0.9))]

    def __call__(self, x: Tensor, random: torch.Generator) -> Mapping[str, Tensor]:
        """Learn from images; return the parts of the loss, per image in nats or as what they are."""
        mean, log_variance = self.coder.encode(x)
        z = draw(mean, log_variance, random)
        rebuilt = self.coder.decode(z)
        parts = {
            "misfit": gaussian_misfit((rebuilt - x) / self.coder.reach, self.settings.noise).mean(),
            "divergence": kl_divergence(mean, log_variance).mean(),
        }
        loss = parts["misfit"] + self.settings.beta * parts["divergence"]
        if self.settings.total_correlation:
            parts["total_correlation"] = total_correlation(z, mean, log_variance)
            loss = loss + self.settings.total_correlation * parts["total_correlation"]
        if self.settings.sparsity:
            parts["sparsity"] = mean.abs().sum(1).mean()
            loss = loss + self.settings.sparsity * parts["sparsity"]
        loss = loss / prod(x.shape[1:])
        if self.guide is not None:
            parts["agreement"] = self.guide.disagreement(rebuilt, self.guide.standard(self.guide.say(x)))
            loss = loss + self.settings.agreement * parts["agreement"]
        if self.settings.similarity:
            parts |= self._similarity(x, rebuilt)
            loss = loss + self.settings.similarity / (2 * self.settings.noise**2) * parts["similarity"]
        descend(self.optimisers[0], loss)
        return parts

    def _similarity(self, x: Tensor, rebuilt: Tensor) -> dict[str, Tensor]:
        critic, optimiser = self.critic, self.optimisers[1]
        real, made = ((images - self.coder.centre) / self.coder.reach for images in (x, rebuilt))
        told = critic_loss(critic, real, made)
        descend(optimiser, told)
        return {"similarity": unlikeness(critic, real, made), "critic": told}
