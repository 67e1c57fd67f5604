"""Adversarial autoencoders: latents that a discriminator takes for normal; a few may be made to carry the model's answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from pellucid.counterfactual.coder import Coder
from pellucid.counterfactual.engines.engine import Codec, Engine, PlainCodec, adam, guide_of, plain
from pellucid.counterfactual.engines.loop import descend
from pellucid.counterfactual.engines.networks import Onlooker, Weight, perceptron
from pellucid.counterfactual.engines.similarity import critic_loss, unlikeness
from pellucid.counterfactual.generator import GENERATORS
from pellucid.errors import BadRecipe
from pellucid.models import Passes

__all__ = ["adversarial_autoencoder", "correlation_between"]

_HIDDEN = 128
_QUICK = 10
"""How much faster the linear reading of the subset learns than the networks."""


@GENERATORS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class adversarial_autoencoder(Engine):
    """An autoencoder whose latents pass for normal numbers; with ``subset`` a few of them must tell the model's answer.

    With the defaults it is the adversarial autoencoder whose latents a linear discriminant reads and exaggerates
    (`linear_discriminant`). With ``subset=8, recogniser=0.1, decorrelation=0.1, agreement=0.05`` it has the parts of
    DISCOVER: only the subset may be moved, the model's outputs must follow from it linearly, a recogniser must name the
    latent that was moved from the change of the image, latents must not correlate, and the model must answer to the
    reconstruction as to the image. A recogniser that never errs is no proof that one latent is one property: two
    properties may share a latent.

    The loss is ``pixels`` × L1 in each channel's own range + the other weights × their parts.

    Attributes
    ----------
    pixels, adversarial, agreement
        Weights: of the pixels, of passing for normal, of the miss of the model's standardised outputs on the reconstruction.
    similarity
        Weight of the difference that a critic, learning to tell real images from reconstructions, finds between the two.
    subset
        How many latents, the first ones, carry the model's answer; 0: no such subset, all may be moved.
    score
        Weight of the miss of the model's standardised outputs as the subset tells them.
    recogniser, nudge
        Weight of naming the moved latent of the subset (of all, without one), and by how much it is moved.
    decorrelation
        Weight of the mean square correlation between latents.

    References
    ----------
    Makhzani et al., Adversarial autoencoders, 2015; Zaritsky et al., Interpretable deep learning uncovers cellular properties
    in label-free live cell images that are predictive of highly metastatic melanoma, Cell Systems 2021; Rotem et al., Visual
    interpretability of image-based classification models by generative latent space disentanglement, Nat. Commun. 2024.
    """

    pixels: Weight = 4.0
    adversarial: Weight = 0.02
    agreement: Weight = 0.0
    similarity: Weight = 0.0
    subset: Annotated[int, Field(ge=0)] = 0
    score: Weight = 1.0
    recogniser: Weight = 0.0
    nudge: Annotated[float, Field(gt=0)] = 1.5
    decorrelation: Weight = 0.0

    def codec(self, shape: tuple[int, ...], outputs: int) -> Codec:
        """Return an autoencoder of which the subset, or everything, may be moved."""
        latents = self.numbers(shape)
        if self.subset > latents:
            raise BadRecipe(f"{self}: subset={self.subset} of {latents} latents; ask for fewer, or for more latents")
        coder = Coder(shape, latents=latents, width=self.width)
        return PlainCodec(coder, outputs, movable=self.subset or None)

    def objective(self, codec: Codec, passes: Passes, images: Tensor) -> "_Adversaries":
        """Return what the autoencoder and its adversaries learn."""
        return _Adversaries(self, codec, passes, images)


class _Adversaries:
    """The losses of an adversarial autoencoder."""

    def __init__(self, settings: adversarial_autoencoder, codec: Codec, passes: Passes, images: Tensor) -> None:
        self.settings, self.coder = settings, plain(codec)
        self.movable = int(codec.movable.sum())
        follows = settings.agreement or (settings.subset and settings.score)
        self.guide = guide_of(passes, images, str(settings)) if follows else None
        look = {"channels": images.shape[1], "dims": images.ndim - 2, "width": settings.width}
        self.normal = perceptron(self.coder.latents, _HIDDEN, _HIDDEN, 1)
        self.critic = Onlooker(**look)
        self.recogniser = Onlooker(**look, verdicts=self.movable)
        self.teller = nn.Linear(self.movable, int(codec.outputs))
        self.helpers = nn.ModuleList([self.normal, self.critic, self.recogniser, self.teller]).to(
            self.coder.centre.device
        )
        self.main = adam(self.coder, self.recogniser, rate=settings.rate)
        self.main.add_param_group({"params": list(self.teller.parameters()), "lr": _QUICK * settings.rate})
        self.against = adam(self.normal, self.critic, rate=settings.rate, betas=(0.5, 0.9))
        self.optimisers = [self.main, self.against]

    def __call__(self, x: Tensor, random: torch.Generator) -> Mapping[str, Tensor]:
        """Learn from images; return the parts of the loss."""
        z = self.coder.encode(x)[0]
        rebuilt = self.coder.decode(z)
        parts = {
            "pixels": ((rebuilt - x) / self.coder.reach).abs().mean(),
            "adversarial": functional.softplus(-self.normal(z)).mean(),
        }
        if self.guide is not None:
            wanted = self.guide.standard(self.guide.say(x))
            parts["agreement"] = self.guide.disagreement(rebuilt, wanted)
            parts["score"] = functional.smooth_l1_loss(self.teller(z[:, : self.movable]), wanted)
        if self.settings.recogniser:
            parts["recogniser"] = self._unrecognised(z, rebuilt, random)
        if self.settings.decorrelation:
            parts["decorrelation"] = correlation_between(z)
        real, made = self._scaled(x), self._scaled(rebuilt)
        if self.settings.similarity:
            parts["similarity"] = unlikeness(self.critic, real, made)
        loss = torch.stack([getattr(self.settings, name) * part for name, part in parts.items()]).sum()
        parts["discriminator"] = self._told_apart(z.detach(), real, made.detach(), random)
        descend(self.main, loss)
        descend(self.against, parts["discriminator"])
        return parts

    def _scaled(self, x: Tensor) -> Tensor:
        return (x - self.coder.centre) / self.coder.reach

    def _told_apart(self, z: Tensor, real: Tensor, made: Tensor, random: torch.Generator) -> Tensor:
        normal = torch.randn(z.shape, generator=random).to(z)
        loss: Tensor = functional.softplus(-self.normal(normal)).mean() + functional.softplus(self.normal(z)).mean()
        return loss + critic_loss(self.critic, real, made) if self.settings.similarity else loss

    def _unrecognised(self, z: Tensor, rebuilt: Tensor, random: torch.Generator) -> Tensor:
        """Return how badly the moved latent is named from what it changes in the image."""
        moved = torch.randint(self.movable, (len(z),), generator=random).to(z.device)
        sign = 2.0 * torch.randint(2, (len(z), 1), generator=random).to(z) - 1
        there = z + sign * self.settings.nudge * functional.one_hot(moved, z.shape[1])
        change = (self.coder.decode(there) - rebuilt) / self.coder.reach
        return functional.cross_entropy(self.recogniser(change), moved)


def correlation_between(z: Tensor) -> Tensor:
    """Return the mean square correlation between different latents ``(N, D)`` over a batch; 0 for a single latent."""
    centred = z - z.mean(0)
    unit = centred / centred.norm(dim=0).clamp(min=1e-6)
    found = unit.T @ unit
    apart = ~torch.eye(z.shape[1], dtype=torch.bool, device=z.device)
    total: Tensor = found[apart].square().sum()
    return total / max(1, int(apart.sum()))
