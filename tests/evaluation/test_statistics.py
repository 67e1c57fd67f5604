import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pellucid.evaluation.statistics import average_ranks, pearson, spearman


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.integers(0, 5))
def test_average_ranks_equal_scipys_and_rows_do_not_mix(row, other):
    both = torch.tensor([row, [other] * len(row)], dtype=torch.float32)
    ranks = average_ranks(both)
    assert np.allclose(ranks[0].numpy(), stats.rankdata(row) - 1)
    assert np.allclose(ranks[1].numpy(), (len(row) - 1) / 2)


def test_correlations_equal_scipys_with_ties():
    left, right = torch.randint(0, 5, (4, 50)).float(), torch.randint(0, 9, (4, 50)).float()
    for row in range(4):
        assert float(pearson(left, right)[row]) == pytest.approx(stats.pearsonr(left[row], right[row])[0])
        assert float(spearman(left, right)[row]) == pytest.approx(stats.spearmanr(left[row], right[row])[0])


def test_correlation_with_a_constant_is_undefined_and_not_noise():
    constant = torch.full((2, 40), 0.3)
    constant[1] += 1e-12 * torch.rand(40)
    assert pearson(constant, torch.rand(2, 40)).isnan().all()
    assert pearson(torch.rand(2, 40), constant).isnan().all()
    steps = torch.arange(40.0).expand(2, 40)
    assert pearson(steps, 1e-9 * steps, noise=1e-6).isnan().all()
    assert torch.allclose(pearson(steps, 1e-9 * steps), torch.ones(2, dtype=torch.float64))
