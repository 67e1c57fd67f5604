"""Counterfactuals of a model without derivatives: a smooth stand-in on the latents proposes, forward calls decide."""

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from pellucid.counterfactual.guidance import one_input
from pellucid.counterfactual.moves import LatentMove, Move
from pellucid.counterfactual.parts import encoded
from pellucid.counterfactual.search import SEARCHES, Problem, Search
from pellucid.counterfactual.support import Support
from pellucid.errors import CannotExplain

__all__ = ["Proxy", "proxy_line"]

_LANDMARKS = 512
_RIDGE = 1e-3


@dataclass(frozen=True)
class Proxy:
    """Kernel ridge regression of the model's outputs on whitened latents of the training images.

    Attributes
    ----------
    points
        ``(M, D)`` whitened latents.
    weights
        ``(M, K)``.
    width
        Of the Gaussian kernel.
    centre
        ``(K,)`` mean output.
    """

    points: Tensor
    weights: Tensor
    width: float
    centre: Tensor

    @classmethod
    def of(cls, support: Support) -> "Proxy":
        """Fit it to the latents and outputs that a support holds."""
        drawn = slice(None, None, max(1, -(-len(support.latents) // _LANDMARKS)))
        points = support.whitened(support.latents)[drawn].double()
        outputs = support.outputs[drawn].double()
        centre = outputs.mean(0)
        width = float(torch.pdist(points[:256]).median().clamp(min=1e-6))
        kernel = (-torch.cdist(points, points).square() / (2 * width**2)).exp()
        ridge = _RIDGE * len(points) * torch.eye(len(points), dtype=points.dtype, device=points.device)
        weights = torch.linalg.solve(kernel + ridge, outputs - centre)
        return cls(points.float(), weights.float(), width, centre.float())

    def __call__(self, whitened: Tensor) -> Tensor:
        """Return the outputs ``(N, K)`` that it foretells for whitened latents ``(N, D)``."""
        square = (whitened[:, None] - self.points[None]).square().sum(2)
        return (-square / (2 * self.width**2)).exp() @ self.weights + self.centre


@SEARCHES.register
@dataclass(frozen=True, kw_only=True, repr=False)
class proxy_line(Search):
    """A step along the stand-in's slopes, tried in rising doses by forward calls until the model itself agrees.

    Attributes
    ----------
    steps
        Of the walk on the stand-in, each of `stride` in whitened latents; the model is asked after every one.
    stride
        Length of one.
    """

    steps: Annotated[int, Field(ge=1)] = 24
    stride: Annotated[float, Field(gt=0)] = 0.25

    def find(self, problem: Problem) -> Move:
        """Walk from each image; the first place that is clearly past the goal is kept, else the one that came nearest.

        Raises
        ------
        CannotExplain
            When the target reads a layer, or the outputs are maps: the stand-in knows outputs ``(N, K)`` alone.
        """
        support, aim, x = problem.support, problem.aim, problem.x
        if aim.read.layer is not None or support.outputs.ndim != 2:
            raise CannotExplain(
                f"{self} foretells outputs (N, K); aim at a class or an output, or use latent_optimisation"
            )
        proxy = Proxy.of(support)
        with torch.no_grad():
            z = encoded(problem.fitted, x)
        walk = _Walk(problem, z, proxy)
        for _ in range(self.steps):
            if not len(walk.rows):
                break
            walk.go(self.stride)
        return replace(walk.whole, step=walk.best)


class _Walk:
    """Where each row stands, and the best place that it has seen."""

    def __init__(self, problem: Problem, z: Tensor, proxy: Proxy) -> None:
        self.problem, self.z, self.proxy = problem, z, proxy
        support = problem.support
        self.start = support.whitened(z)
        self.now = self.start + problem.jitter * problem.starts.to(z)
        self.best = torch.zeros_like(z)
        self.whole = LatentMove(problem.fitted, support, problem.x, z, self.best)
        every = torch.arange(len(z), device=z.device)
        self.missing = problem.aim.gap(problem.aim.start, every)
        self.rows = every[self.missing > 0]

    def go(self, stride: float) -> None:
        """Take one step with the rows that have not arrived."""
        problem, rows = self.problem, self.rows
        self.now[rows] += stride * self._uphill(rows)
        step = (self.now[rows] - self.start[rows]) @ problem.support.colour
        with torch.no_grad():
            shown = self.whole.made(self.z[rows] + step, rows)
        scores = problem.passes.scores((one_input(problem.passes.model, shown),), problem.aim.read, rows)
        gap = problem.aim.gap(scores.to(rows.device), rows)
        better = gap < self.missing[rows]
        self.best[rows[better]] = step[better]
        self.missing[rows[better]] = gap[better]
        self.rows = rows[gap > 0]

    def _uphill(self, rows: Tensor) -> Tensor:
        """Return unit steps along which the stand-in's score nears the goal."""
        leaf = self.now[rows].detach().requires_grad_()
        scores = self.problem.aim.read(self.proxy(leaf), rows)
        (slopes,) = torch.autograd.grad(scores.sum(), leaf)
        uphill: Tensor = slopes * self.problem.aim.direction[rows][:, None]
        lengths: Tensor = uphill.norm(dim=1, keepdim=True)
        return uphill / lengths.clamp(min=1e-12)
