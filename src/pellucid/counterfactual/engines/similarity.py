"""Similarity as a critic sees it: images are alike where a network that tells real from rebuilt finds no difference."""

import torch
from torch import Tensor
from torch.nn import functional

from pellucid.counterfactual.engines.networks import Onlooker

__all__ = ["critic_loss", "fooling_loss", "unlikeness"]


def critic_loss(critic: Onlooker, real: Tensor, made: Tensor) -> Tensor:
    """Return what the critic learns from: real images are above 0, made ones below (hinge loss)."""
    found, invented = critic(real), critic(made.detach())
    loss: Tensor = functional.relu(1 - found).mean() + functional.relu(1 + invented).mean()
    return loss


def fooling_loss(critic: Onlooker, made: Tensor) -> Tensor:
    """Return what a generator learns from a critic: made images should pass for real."""
    verdict: Tensor = critic(made)
    return -verdict.mean()


def unlikeness(critic: Onlooker, real: Tensor, made: Tensor) -> Tensor:
    """Return how differently the critic's inner maps answer to an image and to its reconstruction.

    It is the mean square difference of each map over the map's mean square, averaged over the stages: 0 for the same
    image, whatever the critic's scale.

    References
    ----------
    Lafarge et al., Capturing single-cell phenotypic variation via unsupervised representation learning, MIDL 2019.
    """
    with torch.no_grad():
        wanted = critic.maps(real)
    found = critic.maps(made)
    misses = [(there - here).square().mean() / here.square().mean() for here, there in zip(wanted, found, strict=True)]
    return torch.stack(misses).mean()
