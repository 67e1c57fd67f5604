"""Conditional autoencoders: what an image is, and, apart from it, what the model calls it, which can then be exchanged."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from pellucid.counterfactual.coder import Coder
from pellucid.counterfactual.engines.engine import Codec, Engine, adam, guide_of, judged
from pellucid.counterfactual.engines.loop import descend
from pellucid.counterfactual.engines.networks import Onlooker, Weight
from pellucid.counterfactual.engines.similarity import critic_loss, fooling_loss
from pellucid.counterfactual.generator import GENERATORS
from pellucid.errors import CannotExplain
from pellucid.models import Passes, ReadOut
from pellucid.models.predict import two_columns

__all__ = ["ConditionalCodec", "conditional_autoencoder", "score_of"]


class ConditionalCodec(Codec):
    """An autoencoder some of whose latents are the condition: the only ones that may be moved.

    With classes the condition is one share a class; with score bins it is one number, the place among the bins, and
    images between two bins are made from a mixture of both.

    Attributes
    ----------
    levels
        ``(B,)`` the model's score in the middle of each bin; empty for classes.
    """

    levels: Tensor

    def __init__(self, coder: Coder, outputs: int, *, categories: int, ordered: bool) -> None:
        content = coder.latents - categories
        latents = content + (1 if ordered else categories)
        super().__init__(torch.arange(latents) >= content, outputs)
        self.coder, self.content, self.categories, self.ordered = coder, content, categories, ordered
        self.register_buffer("levels", torch.zeros(categories if ordered else 0))

    def scale_to(self, images: Tensor) -> None:
        """Take the scale of every channel from images."""
        self.coder.scale_to(images)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the image is ``(N, content)`` and the log-odds of its category ``(N, categories)``."""
        mean = self.coder.encode(x)[0]
        return mean[:, : self.content], mean[:, self.content :]

    def latents(self, x: Tensor) -> Tensor:
        """Return what the image is, and its condition."""
        content, logits = self.split(x)
        shares = logits.softmax(1)
        if self.ordered:
            shares = (shares * torch.arange(self.categories).to(shares)).sum(1, keepdim=True)
        return torch.cat([content, shares], 1)

    def images(self, z: Tensor) -> Tensor:
        """Return the images of latents; differentiable."""
        content, condition = z[:, : self.content], z[:, self.content :]
        return self.made(content, self.between(condition) if self.ordered else condition)

    def between(self, place: Tensor) -> Tensor:
        """Return the shares ``(N, B)`` of the bins next to a place ``(N, 1)``; outside, of the outermost."""
        inside = place.clamp(0, self.categories - 1)
        return (1 - (inside - torch.arange(self.categories).to(place)).abs()).clamp(min=0)

    def made(self, content: Tensor, shares: Tensor) -> Tensor:
        """Return images of this content under a condition ``(N, categories)``."""
        return self.coder.decode(torch.cat([content, shares], 1))


@GENERATORS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class conditional_autoencoder(Engine):
    """An autoencoder that keeps what an image is apart from what the model calls it, so that the latter can be exchanged.

    With ``condition="class"`` an image is carried from class to class (as a conditional generator does between biological
    conditions, here for the model's own classes and for real images); with ``"score"`` the model's score is cut into `bins`
    of equally many images, and the image is drawn as of any bin: progressive exaggeration.

    The loss is ``pixels`` × (L1 of the image made from its content and its own condition + ``cycle`` × L1 of the image
    brought to another condition and back) + ``category`` × the miss of the condition that is read off the image +
    ``agreement`` × the miss of the model's answer to the image under the other condition + ``realism`` × what a critic finds
    unreal in that image.

    Attributes
    ----------
    condition
        ``"class"`` or ``"score"``; the latter for models with one output or two classes.
    bins
        How many, for the score.
    pixels, cycle, category, agreement, realism
        Weights of the parts of the loss.

    References
    ----------
    Singla et al., Explanation by progressive exaggeration, ICLR 2020; DeGrave et al., Auditing the inference processes of
    medical-image classifiers, Nat. Biomed. Eng. 2025; Lamiable et al., Revealing invisible cell phenotypes with conditional
    generative modeling, Nat. Commun. 2023.
    """

    condition: Literal["class", "score"] = "score"
    bins: Annotated[int, Field(ge=2)] = 10
    pixels: Weight = 4.0
    cycle: Weight = 1.0
    category: Weight = 0.1
    agreement: Weight = 0.2
    realism: Weight = 0.01

    def codec(self, shape: tuple[int, ...], outputs: int) -> Codec:
        """Return the networks; the condition takes numbers of its own beside the latents.

        Raises
        ------
        CannotExplain
            When the model's outputs are not one score.
        """
        if self.condition == "score" and outputs > 2:
            raise CannotExplain(f'{self}: a model of {outputs} outputs has no one score; use condition="class"')
        categories = self.bins if self.condition == "score" else max(2, outputs)
        coder = Coder(shape, latents=self.numbers(shape) + categories, width=self.width)
        return ConditionalCodec(coder, outputs, categories=categories, ordered=self.condition == "score")

    def objective(self, codec: Codec, passes: Passes, images: Tensor) -> "_Exchange":
        """Return what is learnt by exchanging conditions."""
        return _Exchange(self, codec, passes, images)


class _Exchange:
    """The losses of a conditional autoencoder."""

    def __init__(self, settings: conditional_autoencoder, codec: Codec, passes: Passes, images: Tensor) -> None:
        if not isinstance(codec, ConditionalCodec):
            raise TypeError(f"{type(codec).__name__} is no ConditionalCodec")
        self.settings, self.codec, self.passes = settings, codec, passes
        said = guide_of(passes, images, str(settings)).say(images)
        self.answer = _Bins.over(said, codec) if codec.ordered else _Classes()
        self.critic = Onlooker(images.shape[1], images.ndim - 2, width=settings.width).to(codec.movable.device)
        self.helpers = nn.ModuleList([self.critic])
        self.main = adam(codec, rate=settings.rate)
        self.against = adam(self.critic, rate=settings.rate, betas=(0.5, 0.9))
        self.optimisers = [self.main, self.against]

    def __call__(self, x: Tensor, random: torch.Generator) -> Mapping[str, Tensor]:
        """Learn from images; return the parts of the loss."""
        own = self.answer.category(self.passes.outputs(self.passes.model.prepare(x)))
        other = torch.randint(self.codec.categories, own.shape, generator=random).to(own)
        content, logits = self.codec.split(x)
        rebuilt, made = (self.codec.made(content, self._shares(wanted)) for wanted in (own, other))
        back = self.codec.made(self.codec.split(made)[0], self._shares(own))
        parts = {
            "pixels": self._gap(rebuilt, x), "cycle": self._gap(back, x), "category": functional.cross_entropy(logits, own),
            "agreement": judged(self.passes, made, self.answer.miss(other)).mean(),
        }  # fmt: skip
        weights = {"pixels": self.settings.pixels, "cycle": self.settings.pixels * self.settings.cycle,
                   "category": self.settings.category, "agreement": self.settings.agreement}  # fmt: skip
        loss = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
        if self.settings.realism:
            real, unreal = self._scaled(x), self._scaled(made)
            parts["realism"] = fooling_loss(self.critic, unreal)
            loss = loss + self.settings.realism * parts["realism"]
            parts["critic"] = critic_loss(self.critic, real, unreal)
        descend(self.main, loss)
        if self.settings.realism:
            descend(self.against, parts["critic"])
        return parts

    def _shares(self, category: Tensor) -> Tensor:
        return functional.one_hot(category, self.codec.categories).float()

    def _scaled(self, x: Tensor) -> Tensor:
        return (x - self.codec.coder.centre) / self.codec.coder.reach

    def _gap(self, made: Tensor, x: Tensor) -> Tensor:
        return ((made - x) / self.codec.coder.reach).abs().mean()


class _Classes:
    """The category is the class that the model calls an image."""

    def category(self, outputs: Tensor) -> Tensor:
        """Return the category ``(N,)`` of outputs."""
        return two_columns(outputs.flatten(1)).argmax(1)

    def miss(self, wanted: Tensor) -> ReadOut:
        """Return how far the outputs are from a category."""

        def read(outputs: Tensor, rows: Tensor) -> Tensor:
            return functional.cross_entropy(two_columns(outputs.flatten(1)), wanted[rows], reduction="none")

        return ReadOut(read)


@dataclass(frozen=True)
class _Bins:
    """The category is the bin of the model's score; bins hold equally many training images."""

    edges: Tensor
    levels: Tensor
    spread: float

    @classmethod
    def over(cls, outputs: Tensor, codec: ConditionalCodec) -> "_Bins":
        scores = score_of(outputs)
        shares = torch.linspace(0, 1, codec.categories + 1, dtype=torch.float64)
        edges = scores.double().quantile(shares[1:-1].to(scores.device)).to(scores)
        place = torch.bucketize(scores, edges)
        spread = max(float(scores.std(correction=0)), 1e-12)
        levels = torch.stack([_level(scores, place == number, edges, number) for number in range(codec.categories)])
        codec.levels.copy_(levels)
        return cls(edges, levels, spread)

    def category(self, outputs: Tensor) -> Tensor:
        """Return the category ``(N,)`` of outputs."""
        return torch.bucketize(score_of(outputs), self.edges)

    def miss(self, wanted: Tensor) -> ReadOut:
        """Return how far the score is from the middle of a bin, in spreads."""

        def read(outputs: Tensor, rows: Tensor) -> Tensor:
            gap = (score_of(outputs) - self.levels[wanted[rows]]) / self.spread
            return functional.smooth_l1_loss(gap, torch.zeros_like(gap), reduction="none")

        return ReadOut(read)


def score_of(outputs: Tensor) -> Tensor:
    """Return the score ``(N,)`` of a model of one output or two: that output, or the second logit less the first."""
    rows = outputs.flatten(1)
    return rows[:, 0] if rows.shape[1] == 1 else rows[:, 1] - rows[:, 0]


def _level(scores: Tensor, inside: Tensor, edges: Tensor, number: int) -> Tensor:
    """Return the middle score of a bin; of one that ties left empty, its edge."""
    return scores[inside].median() if bool(inside.any()) else edges[min(number, len(edges) - 1)]
