"""The parts of the evidence lower bound against closed forms."""

import math

import pytest
import torch
from torch.distributions import Normal
from torch.distributions import kl_divergence as reference

from pellucid.counterfactual.engines.elbo import draw, gaussian_misfit, kl_divergence, total_correlation


def test_divergence_from_the_unit_normal():
    random = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(5, 3, generator=random), torch.randn(5, 3, generator=random)
    known = reference(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(1)
    assert torch.allclose(kl_divergence(mean, log_variance), known, atol=1e-6)
    assert kl_divergence(torch.zeros(1, 4), torch.zeros(1, 4)).item() == 0


def test_misfit_is_the_gaussian_likelihood_up_to_its_constant():
    error = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(1))
    likelihood = Normal(0.0, 0.3).log_prob(error).flatten(1).sum(1)
    constant = 6 * math.log(0.3 * math.sqrt(2 * math.pi))
    assert torch.allclose(gaussian_misfit(error, 0.3), -likelihood - constant, atol=1e-4)


def test_samples_have_the_posteriors_moments():
    mean, log_variance = (
        torch.tensor([[1.0, -2.0]]).repeat(4000, 1),
        torch.tensor([[0.0, math.log(0.25)]]).repeat(4000, 1),
    )
    z = draw(mean, log_variance, torch.Generator().manual_seed(0))
    assert z.mean(0).tolist() == pytest.approx([1.0, -2.0], abs=0.05)
    assert z.std(0).tolist() == pytest.approx([1.0, 0.5], abs=0.03)


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_total_correlation_of_a_gaussian(correlation):
    """Posterior means that correlate and equal posterior widths make a Gaussian whose total correlation is known."""
    random = torch.Generator().manual_seed(0)
    covariance = torch.tensor([[1.0, correlation], [correlation, 1.0]])
    mean = torch.randn(1500, 2, generator=random) @ torch.linalg.cholesky(covariance).T
    log_variance = torch.full_like(mean, math.log(0.1))
    whole = covariance + 0.1 * torch.eye(2)
    known = -0.5 * math.log(float(torch.linalg.det(whole / 1.1)))
    assert total_correlation(draw(mean, log_variance, random), mean, log_variance).item() == pytest.approx(
        known, abs=0.06
    )


def test_total_correlation_pushes_correlated_latents_apart():
    random = torch.Generator().manual_seed(0)
    mean = torch.randn(200, 2, generator=random) @ torch.tensor([[1.0, 0.8], [0.0, 0.6]])
    mean.requires_grad_()
    log_variance = torch.full_like(mean, -2.0)
    before = total_correlation(mean, mean, log_variance)
    (slope,) = torch.autograd.grad(before, mean)
    after = mean.detach() - 5 * slope
    assert total_correlation(after, after, log_variance) < before
    assert torch.corrcoef(after.T)[0, 1].abs() < torch.corrcoef(mean.detach().T)[0, 1].abs()
