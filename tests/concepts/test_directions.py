"""Probes, permutations and directions: against closed forms, naive loops and planted distractors."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from pellucid.concepts.directions import DIRECTIONS, cleared, orthogonal, partial, pattern, probe, responses
from pellucid.concepts.fairness import fair_sensitivity
from pellucid.concepts.probing import balanced_accuracy, fit_probe, folds_of, held_out, permuted, r_squared
from pellucid.errors import BadRecipe, ShapeError

NONE = np.empty((0, 0))


def _cosine(left, right):
    return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


def test_a_probe_of_plenty_of_images_is_ordinary_least_squares():
    random = np.random.default_rng(0)
    x = random.normal(size=(400, 6)) * np.logspace(-2, 2, 6)
    t = x @ random.normal(size=(6, 2)) / np.logspace(-2, 2, 6).mean() + 1e-3 * random.normal(size=(400, 2))
    own, plain = fit_probe(x, t), LinearRegression().fit(x, t)
    assert np.allclose(own(x), plain.predict(x), atol=0.02 * t.std())


def test_a_constant_feature_has_no_part_and_padding_changes_nothing():
    random = np.random.default_rng(0)
    x, t = random.normal(size=(40, 5)), random.normal(size=(40, 1))
    padded = np.hstack([x, np.zeros((40, 90))])
    assert np.allclose(fit_probe(padded, t).weights[:5], fit_probe(x, t).weights, atol=1e-8)
    assert np.allclose(fit_probe(padded, t).weights[5:], 0)


def test_held_out_predictions_never_saw_their_own_fold():
    random = np.random.default_rng(1)
    x, t = random.normal(size=(30, 4)), random.normal(size=(30, 1))
    folds = folds_of([f"patient {row // 3}" for row in range(30)])
    changed = t.copy()
    changed[folds == 2] += 100.0  # what is not looked at cannot matter
    assert np.allclose(held_out(x, t, folds)[folds == 2], held_out(x, changed, folds)[folds == 2])
    for fold in range(5):
        naive = fit_probe(x[folds != fold], t[folds != fold])(x[folds == fold])
        assert np.allclose(held_out(x, t, folds)[folds == fold], naive)


def test_a_group_is_in_one_fold_whatever_the_order_of_images():
    groups = [f"patient {row % 7}" for row in range(40)]
    folds = folds_of(groups)
    assert all(len({fold for fold, group in zip(folds, groups, strict=True) if group == name}) == 1 for name in groups)
    assert np.array_equal(folds_of(groups[::-1]), folds[::-1])
    with pytest.raises(ShapeError, match="two independent groups"):
        folds_of(["one"] * 9)


def test_values_are_dealt_out_within_groups_or_by_whole_groups():
    groups = ["a"] * 4 + ["b"] * 4 + ["c"] * 4
    mixed = np.arange(12.0)
    dealt = permuted(mixed, groups, 50)
    for name in "abc":
        rows = [row for row, group in enumerate(groups) if group == name]
        assert (np.sort(dealt[rows], axis=0) == np.sort(mixed[rows])[:, None]).all()
    assert len({tuple(column) for column in dealt.T}) > 40
    whole = permuted(np.repeat([0.0, 1.0, 1.0], 4), groups, 50)
    assert all(np.ptp(whole[rows], axis=0).max() == 0 for rows in (slice(0, 4), slice(4, 8), slice(8, 12)))
    assert set(whole.sum(0)) == {8.0}


def test_scores_of_probes_are_what_they_say():
    t = np.array([[1.0], [1.0], [0.0], [0.0], [0.0], [0.0]])
    told = np.array([[1.0], [-1.0], [-1.0], [-1.0], [-1.0], [1.0]])
    assert balanced_accuracy(told, t)[0] == pytest.approx((0.5 + 0.75) / 2)
    values = np.array([[1.0], [2.0], [3.0]])
    assert r_squared(values, values)[0] == 1
    assert r_squared(np.full((3, 1), 2.0), values)[0] == 0
    assert r_squared(values[::-1], values)[0] == pytest.approx(-3)


def test_the_pattern_of_a_set_is_the_difference_of_the_means():
    random = np.random.default_rng(0)
    x = random.normal(size=(30, 5))
    t = (np.arange(30) % 3 == 0).astype(float)
    difference = x[t == 1].mean(0) - x[t == 0].mean(0)
    assert _cosine(pattern().vectors(x, t[:, None], NONE)[:, 0], difference) == pytest.approx(1)


def test_a_distractor_bends_the_probe_and_not_the_pattern():
    """Haufe's example: unit 1 holds concept and noise, unit 2 the noise alone; only unit 1 moves with the concept."""
    random = np.random.default_rng(0)
    t, noise = random.normal(size=(2, 4000))
    x = np.stack([t + noise, noise], axis=1) + 0.01 * random.normal(size=(4000, 2))
    weights = probe().vectors(x, t[:, None], NONE)[:, 0]
    moved = pattern().vectors(x, t[:, None], NONE)[:, 0]
    assert weights == pytest.approx([1 / np.sqrt(2), -1 / np.sqrt(2)], abs=0.02)
    assert moved == pytest.approx([1, 0], abs=0.05)


def test_of_two_concepts_that_go_together_each_has_a_direction_of_its_own():
    random = np.random.default_rng(0)
    size = random.normal(size=4000)
    shade = 0.8 * size + 0.6 * random.normal(size=4000)
    x = np.stack([size, shade, random.normal(size=4000)], axis=1)
    bent = pattern().vectors(x, shade[:, None], NONE)[:, 0]
    alone = partial().vectors(x, shade[:, None], size[:, None])[:, 0]
    turned = orthogonal().vectors(x, shade[:, None], size[:, None])[:, 0]
    assert bent[0] > 0.5  # it leans on what goes with it
    assert alone == pytest.approx([0, 1, 0], abs=0.05)
    assert abs(_cosine(turned, pattern().vectors(x, size[:, None], NONE)[:, 0])) < 1e-9
    assert turned[0] < -0.5  # at right angles, and so off the concept's own ground
    assert abs(cleared(shade[:, None], size[:, None])[:, 0] @ size) < 1e-6 * len(size)
    for own in (partial(), orthogonal()):
        with pytest.raises(BadRecipe, match=r"held=\[...\]"):
            own.vectors(x, shade[:, None], np.empty((4000, 0)))


def test_responses_are_movements_for_one_standard_deviation():
    t = np.random.default_rng(0).normal(3, 7, size=(500, 1))
    assert responses(2 * t, t)[0, 0] == pytest.approx(2 * t.std())


@pytest.mark.parametrize("name", ["probe", "pattern"])
def test_directions_of_resampled_rows_are_those_of_the_rows(name):
    random = np.random.default_rng(0)
    x, t = random.normal(size=(60, 4)), random.normal(size=60)
    t += x @ [1.0, 2.0, 0.0, 0.0]
    rows = random.integers(60, size=60)
    own = DIRECTIONS.parse(name)
    resampled = own.resampled(x, t, np.empty((60, 0)), [rows])[:, 0]
    assert _cosine(resampled, own.vectors(x[rows], t[rows, None], np.empty((60, 0)))[:, 0]) > 0.999
    wide = np.hstack([x, random.normal(size=(60, 200))])  # more units than images
    assert np.isfinite(own.resampled(wide, t, np.empty((60, 0)), [rows])).all()


def test_the_fair_slope_is_that_of_directions_of_chance_and_knows_no_padding():
    random = np.random.default_rng(0)
    x = random.normal(size=(50, 12)) @ random.normal(size=(12, 12))
    slope, vector = random.normal(size=(2, 12))
    vector += 0.5 * slope
    told = fair_sensitivity(slope, vector, x)
    chance = random.normal(size=(200_000, 12))
    chance /= np.linalg.norm(chance, axis=1, keepdims=True)
    unit = vector / np.linalg.norm(vector)
    assert told.value == pytest.approx(slope @ unit / (chance @ slope).std(), rel=0.01)
    assert told.p == pytest.approx((np.abs(chance @ slope) >= abs(slope @ unit)).mean(), abs=0.005)
    padded = [np.concatenate([one, np.zeros(500)]) for one in (slope, vector)]
    again = fair_sensitivity(*padded, np.hstack([x, np.zeros((50, 500))]))
    assert again.value == pytest.approx(told.value, rel=1e-9)
    assert again.p == pytest.approx(told.p, rel=1e-9)
    assert again.rank == told.rank == 12
    few = fair_sensitivity(slope, vector, x[:6])
    assert few.rank == 5  # a layer wider than the images are many is judged in what the images span
