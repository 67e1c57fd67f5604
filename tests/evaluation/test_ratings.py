"""Agreement of expert panels: closed forms, published examples, simulations with a known answer."""

import numpy as np
import pytest

from pellucid.errors import ShapeError
from pellucid.evaluation import rating_agreement

NAN = np.nan
KRIPPENDORFF = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
    [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
]
"""The example of Krippendorff 2011: alpha is 0.743 nominal, 0.815 ordinal, 0.849 interval."""

SHROUT_FLEISS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float).T
"""The example of Shrout and Fleiss 1979: ICC(2,1) is 0.29, ICC(2,4) 0.62."""


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_the_published_one(level, alpha):
    assert rating_agreement(KRIPPENDORFF, level=level, draws=20).alpha.value == pytest.approx(alpha, abs=6e-4)


def test_intraclass_correlation_is_the_published_one():
    found = rating_agreement(SHROUT_FLEISS, level="interval", draws=20)
    assert found.single.value == pytest.approx(0.29, abs=5e-3)
    assert found.average.value == pytest.approx(0.62, abs=5e-3)


def test_raters_who_agree_agree_wholly_and_raters_who_guess_not_at_all():
    random = np.random.default_rng(0)
    truth = random.integers(0, 4, 300).astype(float)
    same = rating_agreement([truth, truth, truth], draws=50)
    assert same.alpha.value == same.single.value == 1.0
    assert same.pairs["kappa"].to_pylist() == [1.0] * 3
    guessed = rating_agreement(random.integers(0, 4, (3, 300)), draws=200)
    for interval in (guessed.alpha, guessed.single):
        assert interval.low < 0 < interval.high


def test_the_interval_holds_the_agreement_of_a_simulated_panel():
    """Ratings are a case's own value and a rater's noise of equal variance: the intraclass correlation is one half."""
    held = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        ratings = random.normal(size=60) + random.normal(size=(4, 60))
        single = rating_agreement(ratings, level="interval", draws=100, seed=seed).single
        held += single.low <= 0.5 <= single.high
    assert held >= 34


def test_cases_of_one_patient_are_drawn_together():
    random = np.random.default_rng(1)
    patients = np.repeat(np.arange(12), 10)
    own = random.normal(size=12)[patients]
    ratings = own + 0.3 * random.normal(size=(3, 120))
    alone, together = (
        rating_agreement(ratings, level="interval", groups=groups, draws=200).alpha for groups in (None, list(patients))
    )
    assert together.groups == 12
    assert together.high - together.low > alone.high - alone.low


def test_ratings_that_cannot_be_compared_are_refused():
    with pytest.raises(ShapeError, match="at least two raters"):
        rating_agreement([[1.0, 2.0]])
    with pytest.raises(ShapeError, match="no case of the 2 was rated by two raters"):
        rating_agreement([[1.0, NAN], [NAN, 2.0]])
    with pytest.raises(ShapeError, match="1 names were given for 2 raters"):
        rating_agreement([[1.0, 2.0], [1.0, 2.0]], raters=["a"])
