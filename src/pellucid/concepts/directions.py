"""Directions of a layer that stand for a concept: a value each, since they answer different questions."""

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pellucid.concepts.probing import fit_probe, scale_of
from pellucid.errors import BadRecipe
from pellucid.recipes import Recipe, Registry

__all__ = ["DIRECTIONS", "Direction", "cleared", "orthogonal", "partial", "pattern", "probe", "responses"]

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, repr=False)
class Direction(Recipe):
    """From features and the values of a concept to a unit vector along which the concept grows."""

    @abstractmethod
    def vectors(self, features: Array, targets: Array, others: Array) -> Array:
        """Return ``(D, T)`` unit vectors for targets ``(N, T)``; `others` ``(N, K)`` are other concepts of the images."""

    def resampled(self, features: Array, target: Array, others: Array, draws: list[NDArray[np.int64]]) -> Array:
        """Return ``(D, len(draws))`` the vector of one target ``(N,)`` over resampled rows."""
        return np.hstack([self.vectors(features[rows], target[rows, None], others[rows]) for rows in draws])


DIRECTIONS: Registry[Direction] = Registry("direction", Direction, "pellucid.directions")  # type: ignore[type-abstract]


def unit(vectors: Array) -> Array:
    """Return columns of length 1; a column of nothing stays nothing."""
    length = np.linalg.norm(vectors, axis=0)
    return np.asarray(vectors / np.where(length > 0, length, 1.0))


def cleared(targets: Array, others: Array) -> Array:
    """Return targets ``(N, T)`` less what other concepts ``(N, K)`` say of them by a straight line."""
    still = np.column_stack([np.ones(len(targets)), others])
    return np.asarray(targets - still @ np.linalg.lstsq(still, targets, rcond=None)[0])


def responses(features: Array, targets: Array) -> Array:
    """Return ``(D, T)`` how far the features move for one standard deviation of each target."""
    spread = targets.std(0)
    return _covariance(features, targets) / np.where(spread > 0, spread, 1.0)


def _covariance(features: Array, targets: Array) -> Array:
    return np.asarray((features - features.mean(0)).T @ (targets - targets.mean(0)) / len(features))


@DIRECTIONS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class probe(Direction):
    """The weights of the linear probe that tells the concept best: the classic concept activation vector.

    It also turns away from whatever disturbs the reading, so that it may point where the concept never moves the layer.

    References
    ----------
    Kim et al. 2018, Interpretability beyond feature attribution: quantitative testing with concept activation vectors.
    """

    def vectors(self, features: Array, targets: Array, others: Array) -> Array:  # noqa: ARG002  # it looks at one concept
        """Return the probes' weights."""
        return unit(fit_probe(features, targets).weights)

    def resampled(self, features: Array, target: Array, others: Array, draws: list[NDArray[np.int64]]) -> Array:  # noqa: ARG002
        """Refit with the penalty that all rows chose."""
        strength = float(fit_probe(features, target[:, None]).strength[0])
        spread = scale_of(features)
        scaled = features / spread
        found = [_ridge(scaled[rows], target[rows], strength) for rows in draws]
        return unit(np.stack(found, axis=1) / spread[:, None])


def _ridge(features: Array, target: Array, strength: float) -> Array:
    """Solve one ridge regression in the smaller of its two spaces."""
    x, t = features - features.mean(0), target - target.mean()
    count, width = x.shape
    if width <= count:
        return np.asarray(np.linalg.solve(x.T @ x + strength * np.eye(width), x.T @ t))
    return np.asarray(x.T @ np.linalg.solve(x @ x.T + strength * np.eye(count), t))


@DIRECTIONS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class pattern(Direction):
    """Where the layer moves when the concept grows: its covariance with the concept, which no distractor bends.

    For a set it is the difference of the mean activations with and without it.

    References
    ----------
    Haufe et al. 2014, On the interpretation of weight vectors of linear models in multivariate neuroimaging; Pahde et al.
    2025, Navigating neural space: revisiting concept activation vectors to overcome directional divergence.
    """

    def vectors(self, features: Array, targets: Array, others: Array) -> Array:  # noqa: ARG002
        """Return the covariances."""
        return unit(_covariance(features, targets))


def _refuse_none(direction: Direction, others: Array) -> None:
    if not others.shape[1]:
        raise BadRecipe(f"direction={direction} holds other concepts still, and there is none: give held=[...]")


@DIRECTIONS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class partial(Direction):
    """Where the layer moves when the concept grows and the held concepts stay: for concepts that go together.

    The covariance with what of the concept no straight line through the held ones tells.

    References
    ----------
    Frisch and Waugh 1933, Partial time regressions as compared with individual trends.
    """

    def vectors(self, features: Array, targets: Array, others: Array) -> Array:
        """Return the covariances with the cleared concepts."""
        _refuse_none(self, others)
        return unit(_covariance(features, cleared(targets, others)))


@DIRECTIONS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class orthogonal(Direction):
    """The pattern of the concept, turned to a right angle with the patterns of the held concepts.

    Along it no held concept is read. Where concepts go together it also leaves the concept's own ground: the layer does not
    move along it when the concept alone changes, which `partial` says.

    References
    ----------
    Erogullari et al. 2025, Post-hoc concept disentanglement: from correlated to isolated concept representations.
    """

    def vectors(self, features: Array, targets: Array, others: Array) -> Array:
        """Return the patterns less their parts along those of the held concepts."""
        _refuse_none(self, others)
        away, singular, _ = np.linalg.svd(unit(_covariance(features, others)), full_matrices=False)
        away = away[:, singular > 1e-9 * singular.max(initial=1e-300)]
        found = _covariance(features, targets)
        return unit(found - away @ (away.T @ found))
