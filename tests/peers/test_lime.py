"""lime: the same surrogate from the same coalitions and answers, in the space of masks."""

import numpy as np
import pytest
import torch

from pellucid.attribution.perturbation.fitters import weighted_ridge
from pellucid.attribution.perturbation.lime import proximity
from pellucid.attribution.perturbation.samplers import bernoulli

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def drawn():
    design = bernoulli(8, 60, torch.Generator().manual_seed(0))
    z = design.masks.double()
    answers = torch.stack([z @ torch.arange(8.0).double() + z[:, 0] * z[:, 3], 1 / (1 + z.sum(1))], 1)
    return design, answers


def test_the_kernel_is_theirs(peer, drawn):
    """theirs: √exp(−d² / w²) of the cosine distance d to the whole image; ours: exp(−d² / 2w²)."""
    metrics, masks = peer("sklearn.metrics"), drawn[0].masks.double().numpy()
    kept = masks.any(1)  # the cosine of nothing is nothing: theirs is left to the library, ours says 1
    distances = metrics.pairwise_distances(masks[kept], np.ones((1, 8)), metric="cosine").ravel()
    wanted = np.sqrt(np.exp(-(distances**2) / 0.25**2))
    torch.testing.assert_close(proximity(drawn[0].masks, 0.25)[torch.from_numpy(kept)], torch.from_numpy(wanted))


@pytest.mark.parametrize("target", [0, 1])
def test_the_surrogate_is_theirs(peer, drawn, target):
    design, answers = drawn
    repeated = design.masks.repeat_interleave(design.total.long(), 0).double().numpy()
    labels = answers.repeat_interleave(design.total.long(), 0).numpy()
    weights = proximity(design.masks, 0.25)
    kernel = weights.repeat_interleave(design.total.long()).numpy()
    base = peer("lime.lime_base").LimeBase(lambda _distances: kernel, random_state=0)
    distances = np.zeros(len(repeated))
    intercept, effects, r2, _ = base.explain_instance_with_data(
        repeated, labels, distances, target, num_features=8, feature_selection="none"
    )
    fit = weighted_ridge(design, weights, answers, 1.0)
    wanted = torch.tensor([value for _, value in sorted(effects)])
    torch.testing.assert_close(fit.effects[:, target], wanted.double(), rtol=1e-6, atol=1e-9)
    assert float(fit.r2[target]) == pytest.approx(r2, rel=1e-6)
    assert np.isfinite(intercept)
