"""Searches along a line in the latents: a direction is proposed, and the model says how far along it to go."""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from pydantic import Field
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from pellucid.counterfactual.engines.networks import Count
from pellucid.counterfactual.guidance import follow, one_input
from pellucid.counterfactual.moves import LatentMove
from pellucid.counterfactual.parts import encoded, in_parts
from pellucid.counterfactual.search import SEARCHES, Problem, Search
from pellucid.errors import BadTarget

__all__ = ["LineSearch", "class_mean_shift", "latent_shift", "linear_discriminant"]

_HALVINGS = 4


@dataclass(frozen=True, kw_only=True, repr=False)
class LineSearch(Search):
    """The first place along a line that is clearly past the goal; where there is none, the place that came nearest.

    Attributes
    ----------
    reach
        How far to go at most, in spreads of the latents.
    steps
        Places along the line; between the last that misses and the first that arrives the way is halved four times.
    """

    reach: Annotated[float, Field(gt=0)] = 6.0
    steps: Count = 16

    @abstractmethod
    def directions(self, problem: Problem, z: Tensor) -> Tensor:
        """Return the direction ``(N, D)`` of each row, in spreads of the latents; of any length."""

    def find(self, problem: Problem) -> LatentMove:
        """Return how far each row goes along its own line."""
        with torch.no_grad():
            z = encoded(problem.fitted, problem.x)
        way = self.directions(problem, z)
        way = self.reach * way / way.norm(dim=1, keepdim=True).clamp(min=1e-12) * problem.support.spread
        whole = self.move(problem, z, way)
        doses = [
            _Line(problem, whole, rows).doses(self.steps).to(z)
            for rows in in_parts(torch.arange(len(z)), problem.passes.batch_size((problem.x,)))
        ]
        return replace(whole, step=torch.cat(doses)[:, None] * way)

    def move(self, problem: Problem, z: Tensor, step: Tensor) -> LatentMove:
        """Return the move of steps ``(N, D)`` from latents."""
        return LatentMove(problem.fitted, problem.support, problem.x, z, step)


@dataclass(frozen=True)
class _Line:
    """The lines of some rows, from dose 0 to dose 1."""

    problem: Problem
    whole: LatentMove
    rows: Tensor

    @torch.no_grad()
    def gaps(self, doses: Tensor) -> Tensor:
        """Return what each row misses at its dose."""
        problem, whole = self.problem, self.whole
        made = whole.made(whole.z[self.rows] + doses[:, None] * whole.step[self.rows], self.rows)
        shown = one_input(problem.passes.model, made)
        scores = problem.passes.scores((shown,), problem.aim.read, self.rows)
        return problem.aim.gap(scores, self.rows.to(scores.device)).to(doses)

    def doses(self, steps: int) -> Tensor:
        """Return the least dose that arrives, or the one that comes nearest."""
        tried = torch.linspace(0, 1, steps + 1)[1:].to(self.whole.z)
        gaps = torch.stack([self.gaps(dose.expand(len(self.rows))) for dose in tried], 1)
        arrives = (gaps <= 0).any(1)
        first = (gaps <= 0).int().argmax(1)
        high = tried[torch.where(arrives, first, gaps.argmin(1))]
        low = (high - 1 / steps).clamp(min=0)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            past = self.gaps(middle) <= 0
            high = torch.where(arrives & past, middle, high)
            low = torch.where(arrives & ~past, middle, low)
        return high


@SEARCHES.register
@dataclass(frozen=True, kw_only=True, repr=False)
class latent_shift(LineSearch):
    """Along the slope of the score through the generator, taken once, at the image's own latent.

    Attributes
    ----------
    latents
        Move only so many latents, those of the steepest slope; None: all that may be moved. With 1 each change is that of
        one latent alone.

    References
    ----------
    Cohen et al., Gifsplanation via latent shift: a simple autoencoder approach to counterfactual generation for chest
    X-rays, MIDL 2021.
    """

    latents: Count | None = None

    def directions(self, problem: Problem, z: Tensor) -> Tensor:
        """Return the slopes.

        Raises
        ------
        CannotExplain
            When no derivatives reach the image.
        """
        found = torch.zeros_like(z)
        for rows in in_parts(torch.arange(len(z)), problem.passes.batch_size((problem.x,))):
            near = z[rows] + problem.jitter * problem.starts[rows].to(z) * problem.support.spread
            leaf = near.detach().requires_grad_()
            images = problem.fitted.decode(leaf)
            _, slopes = follow(problem.passes, images, problem.aim.read, rows)
            (found[rows],) = torch.autograd.grad(images, leaf, slopes)
        found = found * problem.support.spread * problem.aim.direction.to(z)[:, None]
        return found if self.latents is None else _steepest(found, self.latents)


@dataclass(frozen=True, kw_only=True, repr=False)
class _FromExamples(LineSearch):
    """A direction from the training images that are past the goal and those that are not."""

    @abstractmethod
    def between(self, standard: Tensor, past: Tensor) -> Tensor:
        """Return the direction ``(D,)`` from latents in their spreads ``(M, D)``, given which are past the goal."""

    def directions(self, problem: Problem, z: Tensor) -> Tensor:
        """Return the direction of each row.

        Raises
        ------
        BadTarget
            When all training images are past a goal, or none is.
        """
        support = problem.support
        spread = support.spread.clamp(min=1e-12)
        standard = torch.where(support.spread > 0, (support.latents - support.centre) / spread, 0.0)
        known: dict[bytes, Tensor] = {}
        found = []
        for row in range(len(z)):
            rows = torch.full((len(standard),), row, device=support.outputs.device)
            past = problem.aim.reached(problem.aim.read(support.outputs, rows), rows).cpu()
            key = past.numpy().tobytes()
            if key not in known:
                self._refuse(past, problem.aim.words[row])
                known[key] = self.between(standard, past)
            found.append(known[key])
        return torch.stack(found).to(z)

    def _refuse(self, past: Tensor, words: str) -> None:
        if int(past.sum()) < 2 or int((~past).sum()) < 2:
            raise BadTarget(
                f"{self} compares training images of {words} with others, and {int(past.sum())} of {len(past)} are; give "
                "more images, or use latent_optimisation"
            )


@SEARCHES.register
@dataclass(frozen=True, kw_only=True, repr=False)
class class_mean_shift(_FromExamples):
    """Along the difference of the mean latents of images past the goal and of the others; forward calls alone.

    References
    ----------
    Lamiable et al., Revealing invisible cell phenotypes with conditional generative modeling, Nat. Commun. 2023.
    """

    def between(self, standard: Tensor, past: Tensor) -> Tensor:
        """Return the difference of the means."""
        return standard[past].mean(0) - standard[~past].mean(0)


@SEARCHES.register
@dataclass(frozen=True, kw_only=True, repr=False)
class linear_discriminant(_FromExamples):
    """Along what best tells the latents of images past the goal from the others linearly; forward calls alone.

    The covariance is shrunk (Ledoit and Wolf 2004).

    Attributes
    ----------
    latents
        Move only so many latents, those that correlate best with the discriminant's score, each by its correlation; None:
        all, along the discriminant. With 1 a single property is exaggerated, as published.

    References
    ----------
    Zaritsky et al., Interpretable deep learning uncovers cellular properties in label-free live cell images that are
    predictive of highly metastatic melanoma, Cell Systems 2021.
    """

    latents: Count | None = None

    def between(self, standard: Tensor, past: Tensor) -> Tensor:
        """Return the discriminant's weights, or the leading correlations with its score."""
        moving = standard.std(0, correction=0) > 0
        points = standard[:, moving].double().cpu().numpy()
        fitted = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(points, past.numpy())
        weights = torch.from_numpy(fitted.coef_[0]).to(standard)
        found = torch.zeros_like(standard[0])
        if self.latents is None:
            found[moving] = weights
            return found
        score = standard[:, moving] @ weights
        found[moving] = torch.corrcoef(torch.cat([score[None], standard[:, moving].T]))[0, 1:]
        return _steepest(found[None], self.latents)[0]


def _steepest(directions: Tensor, count: int) -> Tensor:
    """Return directions ``(N, D)`` of which only the `count` largest numbers are left."""
    kept = directions.abs().topk(min(count, directions.shape[1]), dim=1).indices
    return torch.zeros_like(directions).scatter(1, kept, directions.gather(1, kept))
