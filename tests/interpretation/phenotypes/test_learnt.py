"""A model that guesses is told from one that knows, at the rate that is stated."""

import numpy as np
import pytest

from pellucid.errors import ShapeError
from pellucid.interpretation.phenotypes import LEAST_SKILL, skill


def test_a_perfect_model_has_one_a_constant_one_has_nothing_and_rare_classes_count_as_much():
    labels = [0] * 90 + [1] * 10
    assert skill(labels, labels).value == pytest.approx(1)
    assert skill(labels, [0] * 100).value == pytest.approx(0)
    assert skill([0, 1, 2] * 20, [0, 1, 1] * 20).value == pytest.approx((2 / 3 - 1 / 3) / (2 / 3))


def test_guessing_beats_chance_no_more_often_than_stated():
    random = np.random.default_rng(0)
    trials = [skill(random.integers(2, size=120), random.integers(2, size=120), seed=trial) for trial in range(60)]
    assert sum(one.low > LEAST_SKILL for one in trials) <= 3  # 2.5 % of 60 are 1.5


def test_whole_groups_are_drawn():
    labels, groups = [0, 1] * 60, np.repeat(np.arange(4), 30)
    right = np.where(groups < 2, labels, 1 - np.array(labels))  # right on two slides, wrong on two
    assert skill(labels, right, groups=list(groups)).low < -0.9
    assert skill(labels, right).low > -0.5


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ShapeError, match="two classes or more"):
        skill([1, 1], [1, 0])
