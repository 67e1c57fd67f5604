"""Sample sizes are those of the tables, and likeness within groups costs images."""

import numpy as np
import pytest

from pellucid.errors import CannotExplain
from pellucid.interpretation.power import likeness_within_groups, sample_size


@pytest.mark.parametrize(("effect", "images"), [(0.5, 64), (0.8, 26), (0.2, 394), (-0.5, 64)])
def test_sizes_are_those_of_cohens_tables(effect, images):
    assert sample_size(effect).images == images


def test_a_large_effect_needs_few_and_power_is_reached_in_simulation():
    found = sample_size(1.2)
    rng = np.random.default_rng(0)
    from scipy.stats import ttest_ind

    x, y = rng.standard_normal((2, 4000, found.images))
    assert (ttest_ind(x + 1.2, y, axis=1).pvalue <= 0.05).mean() == pytest.approx(found.power, abs=0.04)


def test_alike_images_of_a_group_count_for_less():
    one = sample_size(0.5, per_group=10, likeness=0.0)
    alike = sample_size(0.5, per_group=10, likeness=0.3)
    same = sample_size(0.5, per_group=10, likeness=1.0)
    assert (one.groups, alike.groups, same.groups) == (7, 24, 64)
    assert "24 groups of 10 images" in str(alike)


def test_likeness_is_the_intraclass_correlation():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(400), 6)
    values = np.sqrt(0.3) * rng.standard_normal(400)[groups] + np.sqrt(0.7) * rng.standard_normal(2400)
    assert likeness_within_groups(values, [str(group) for group in groups]) == pytest.approx(0.3, abs=0.05)
    assert likeness_within_groups(rng.standard_normal(50), ["a"] * 50) == 0
    assert likeness_within_groups(rng.standard_normal(50), [str(i) for i in range(50)]) == 0


@pytest.mark.parametrize("effect", [0.0, 1e-4])
def test_what_no_experiment_finds_is_refused(effect):
    with pytest.raises(CannotExplain, match="too small"):
        sample_size(effect)
