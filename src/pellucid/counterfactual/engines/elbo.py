"""The evidence lower bound of a variational autoencoder and its parts, each with a closed form to be tested against."""

import math

import torch
from torch import Tensor

__all__ = ["draw", "gaussian_misfit", "kl_divergence", "total_correlation"]


def draw(mean: Tensor, log_variance: Tensor, random: torch.Generator) -> Tensor:
    """Return a sample of each row's Gaussian, differentiable in both (Kingma and Welling, ICLR 2014)."""
    noise = torch.randn(mean.shape, generator=random).to(mean)
    return mean + noise * (log_variance / 2).exp()


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the divergence ``(N,)`` of each row's Gaussian from the standard normal, in nats."""
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1)


def gaussian_misfit(error: Tensor, noise: float) -> Tensor:
    """Return the negative log-likelihood ``(N,)`` of errors ``(N, ...)`` under Gaussian noise, up to a constant."""
    return error.square().flatten(1).sum(1) / (2 * noise**2)


def total_correlation(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return how far the latents are from independent of each other over the images, in nats.

    The posteriors of the batch stand for those of all images: an estimate that is too high where there are few images for
    the number of latents, and right in the limit. Its slopes are those of minibatch weighted sampling.

    Parameters
    ----------
    z
        ``(B, D)`` one sample of the posterior of each image.
    mean, log_variance
        ``(B, D)`` of those posteriors.

    References
    ----------
    Chen et al., Isolating sources of disentanglement in variational autoencoders, NeurIPS 2018.
    """
    gap = z[:, None] - mean[None]
    density = -0.5 * (gap.square() / log_variance.exp() + log_variance + math.log(2 * math.pi))  # (B, B, D)
    joint = density.sum(2).logsumexp(1) - math.log(len(z))
    marginals = (density.logsumexp(1) - math.log(len(z))).sum(1)
    return (joint - marginals).mean()
