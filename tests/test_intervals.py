import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.intervals import Interval, mean_interval, share_interval

numbers = st.lists(st.floats(-100, 100), min_size=2, max_size=30)


def covered(make, truth, *, trials=200, seed=0, **settings_):
    """How often the interval of a drawn sample holds the truth."""
    random = np.random.default_rng(seed)
    hits = 0
    for trial in range(trials):
        values, groups = make(random)
        found = mean_interval(values, groups=groups, draws=300, seed=trial, **settings_)
        hits += found.low <= truth <= found.high
    return hits / trials


@pytest.mark.parametrize("count", [3, 5, 12, 40])
def test_an_interval_over_images_holds_the_truth_as_often_as_it_says(count):
    share = covered(lambda random: (random.normal(2.0, 1.0, count), None), 2.0)
    assert 0.91 <= share <= 0.985


def grouped(random, groups=8, members=6):
    """Images of a group share what their group adds: one patient's images are no independent witnesses."""
    names = np.repeat(np.arange(groups), members)
    return random.normal(0.0, 1.0, groups)[names] + random.normal(0.0, 0.3, len(names)), names.tolist()


def test_an_interval_over_groups_holds_the_truth_where_one_over_images_does_not():
    assert 0.91 <= covered(grouped, 0.0) <= 0.985
    assert covered(lambda random: (grouped(random)[0], None), 0.0) < 0.75


def test_groups_of_other_sizes_still_give_an_interval_that_holds_the_truth():
    def make(random):
        names = np.repeat(np.arange(10), random.integers(1, 12, 10))
        return random.normal(1.0, 1.0, 10)[names] + random.normal(0, 0.2, len(names)), names.tolist()

    assert 0.88 <= covered(make, 1.0) <= 0.985


def test_one_group_gives_a_mean_and_no_interval():
    found = mean_interval([0.2, 0.4, 0.6], groups=["p", "p", "p"])
    assert found.value == pytest.approx(0.4)
    assert np.isnan([found.low, found.high]).all()
    assert (found.n, found.groups) == (3, 1)
    assert str(found) == "0.4 [no interval from 1 group]"
    assert np.isnan(mean_interval([1.0]).low)


def test_nothing_gives_nothing():
    found = mean_interval([])
    assert np.isnan([found.value, found.low, found.high]).all()
    assert (found.n, found.groups) == (0, 0)
    assert str(found) == "nan [no interval from 0 groups]"


def test_what_every_group_agrees_on_has_no_width():
    found = mean_interval([0.5] * 6, groups=list("aabbcc"))
    assert (found.low, found.value, found.high) == (0.5, 0.5, 0.5)
    assert found.groups == 3


def test_a_share_never_leaves_its_bounds():
    found = mean_interval([1.0, 1.0, 0.9], bounds=(0.0, 1.0))
    assert found.high == 1.0
    assert mean_interval([1.0, 1.0, 0.9]).high > 1.0


def test_the_resampled_means_are_those_of_a_naive_loop():
    values, groups = [1.0, 2.0, 4.0, 8.0, 16.0], ["a", "a", "b", "c", "c"]
    random = np.random.default_rng(5)
    counts = random.multinomial(3, [1 / 3] * 3, size=50)
    means = []
    for draw in counts:
        chosen = [value for value, group in zip(values, groups, strict=True) for _ in range(draw["abc".index(group)])]
        means.append(np.mean(chosen))
    low, high = np.quantile(means, [0.025, 0.975])
    wider = 4.30265273 / 1.95996398 * np.sqrt(3 / 2)
    found = mean_interval(values, groups=groups, draws=50, seed=5)
    assert found.low == pytest.approx(6.2 + wider * (low - 6.2), rel=1e-6)
    assert found.high == pytest.approx(6.2 + wider * (high - 6.2), rel=1e-6)


def test_a_large_set_is_resampled_in_blocks(monkeypatch):
    values = np.random.default_rng(1).random(50)
    whole = mean_interval(values, draws=100)
    monkeypatch.setattr("pellucid.intervals._CHUNK", 120)
    assert mean_interval(values, draws=100) == whole


@given(numbers, st.floats(-10, 10), st.floats(0.1, 10))
@settings(max_examples=40, deadline=None)
def test_shifting_and_stretching_the_values_does_so_to_the_interval(values, shift, factor):
    plain = mean_interval(values, draws=60)
    moved = mean_interval([shift + factor * value for value in values], draws=60)
    for one, other in zip((plain.value, plain.low, plain.high), (moved.value, moved.low, moved.high), strict=True):
        assert other == pytest.approx(shift + factor * one, abs=1e-6)
    assert plain.low <= plain.value + 1e-9
    assert plain.value <= plain.high + 1e-9


@given(numbers)
@settings(max_examples=40, deadline=None)
def test_the_same_seed_gives_the_same_interval_whatever_the_groups_are_called(values):
    names = [f"g{place // 2}" for place in range(len(values))]
    if len(set(names)) > 1:
        assert mean_interval(values, groups=names, draws=60) == mean_interval(
            values, groups=[name.replace("g", "patient ") for name in names], draws=60
        )


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)],  # Newcombe 1998, Stat. Med., table I
)
def test_a_share_has_its_wilson_interval(successes, trials, low, high):
    found = share_interval(successes, trials)
    assert (found.value, found.low, found.high) == pytest.approx((successes / trials, low, high), abs=1e-4)


def test_a_share_of_nothing_can_be_anything():
    found = share_interval(0, 0)
    assert (found.low, found.high, found.n) == (0.0, 1.0, 0)
    assert np.isnan(found.value)


def test_an_interval_prints_as_a_reader_quotes_it():
    assert str(Interval(0.12345, 0.1, 0.2, 5, 5)) == "0.123 [0.1, 0.2]"
