import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, precision_score, recall_score, roc_auc_score

from pellucid.errors import ShapeError
from pellucid.intervals import share_interval
from pellucid.models import performance
from pellucid.models.performance import _Measured


def made(count=200, classes=3, seed=0, skill=1.5):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, count)
    logits = draw.normal(size=(count, classes))
    logits[np.arange(count), labels] += skill
    return labels, torch.tensor(logits)


def rows(found, metric):
    return {row["class"]: row for row in found.table.to_pylist() if row["metric"] == metric}


def test_every_number_equals_scikit_learns():
    labels, logits = made()
    logits = (logits * 2).round() / 2  # ties
    found = performance(labels, logits, classes=("a", "b", "c"))
    said, chance = logits.argmax(1).numpy(), logits.softmax(1).numpy()
    assert found.accuracy.value == pytest.approx((said == labels).mean())
    assert found.balanced_accuracy.value == pytest.approx(balanced_accuracy_score(labels, said))
    assert found.auc.value == pytest.approx(roc_auc_score(labels, chance, multi_class="ovr"))
    recall, precision = recall_score(labels, said, average=None), precision_score(labels, said, average=None)
    assert [rows(found, "recall")[name]["value"] for name in "abc"] == pytest.approx(recall.tolist())
    assert [rows(found, "precision")[name]["value"] for name in "abc"] == pytest.approx(precision.tolist())
    assert found.confusion.sum() == 200
    assert np.trace(found.confusion) / 200 == pytest.approx(found.accuracy.value)


def test_weighted_resamples_equal_repeated_images():
    labels, logits = made(40)
    weights = np.random.default_rng(1).multinomial(40, np.full(40, 1 / 40)).astype(float)
    chance, said = logits.softmax(1).numpy(), logits.argmax(1).numpy()
    weighted = _Measured(labels, chance, said)(weights[None])
    repeated = np.repeat(np.arange(40), weights.astype(int))
    plain = _Measured(labels[repeated], chance[repeated], said[repeated])(np.ones((1, 40)))
    for name, value in plain.items():
        assert weighted[name][0] == pytest.approx(value[0]), name


def test_brier_and_calibration_equal_their_hand_values():
    logits = torch.tensor([[0.8, 0.2], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7]]).log()
    found = performance([0, 1, 0, 1], logits)
    assert found.brier.value == pytest.approx((2 * 0.04 + 2 * 0.64 + 2 * 0.16 + 2 * 0.09) / 4)
    assert found.calibration_error.value == pytest.approx((2 * abs(0.8 - 0.5) + 0.4 + 0.3) / 4)


def test_the_temperature_changes_probabilities_only():
    labels, logits = made()
    cold, warm = (performance(labels, logits, temperature=temperature) for temperature in (1.0, 3.0))
    assert cold.accuracy == warm.accuracy
    assert cold.brier != warm.brier
    assert warm.brier == performance(labels, logits / 3).brier


def test_one_logit_is_the_log_odds_of_the_second_class():
    found = performance([0, 1, 1], torch.tensor([[-1.0], [2.0], [-0.5]]), classes=("no", "yes"))
    assert found.accuracy.value == pytest.approx(2 / 3)
    assert found.auc.value == 1.0
    assert found.brier == performance([0, 1, 1], torch.tensor([[0, -1.0], [0, 2.0], [0, -0.5]])).brier


def test_the_baseline_names_the_commonest_class():
    labels, logits = [0, 0, 0, 1], torch.eye(2)[[0, 1, 0, 1]]
    found = performance(labels, logits, classes=("cell", "debris"))
    assert found.baseline == 0.75
    assert "commonest class gives 75.0 %" in found.summary
    assert "75.0 % of 4 images" in found.summary


def clustered(draw, groups=40, size=10):
    """Images of a group succeed or fail together: the chance of success is the group's own, 0.7 on average."""
    chance = draw.beta(1.4, 0.6, groups)
    right = draw.random((groups, size)) < chance[:, None]
    labels = np.zeros(groups * size, int)
    labels[::2] = 1
    said = np.where(right.ravel(), labels, 1 - labels)
    return labels, torch.eye(2)[said], np.repeat(np.arange(groups), size)


def test_group_intervals_cover_and_image_intervals_do_not():
    draw = np.random.default_rng(0)
    covered = {"groups": 0, "images": 0}
    for _ in range(40):
        labels, logits, groups = clustered(draw)
        for name, given in (("groups", groups), ("images", None)):
            found = performance(labels, logits, groups=given).accuracy
            covered[name] += found.low <= 0.7 <= found.high
    assert covered["groups"] >= 34
    assert covered["images"] < covered["groups"] - 4


def test_intervals_over_images_cover():
    draw = np.random.default_rng(1)
    hits = {"accuracy": 0, "balanced_accuracy": 0, "auc": 0, "brier": 0}
    labels, logits = made(40_000, 2, seed=9)
    chance, said = logits.softmax(1).numpy(), logits.argmax(1).numpy()
    truth = _Measured(labels, chance, said)(np.ones((1, 40_000)))
    for _ in range(40):
        chosen = draw.choice(40_000, 120, replace=False)
        found = performance(labels[chosen], logits[chosen])
        for name in hits:
            estimate = getattr(found, name)
            hits[name] += estimate.low <= truth[name, -1][0] <= estimate.high
    assert min(hits.values()) >= 34, hits


def test_the_calibration_interval_holds_its_value():
    labels, logits = made(300, 3)
    found = performance(labels, logits, temperature=0.9).calibration_error
    assert 0 <= found.low <= found.value <= found.high


def test_singleton_groups_resample_images():
    labels, logits = made(60)
    one = performance(labels, logits, groups=list(range(60)))
    assert one.groups == 60
    assert one.brier == performance(labels, logits).brier


def test_images_without_a_group_stand_for_themselves():
    labels, logits = made(6)
    assert performance(labels, logits, groups=["s", "s", None, None, "t", "t"]).groups == 4


def test_few_groups_are_said_to_be_few():
    labels, logits = made(40)
    found = performance(labels, logits, groups=[place % 4 for place in range(40)])
    assert "4 groups only" in found.warnings[0]
    assert "4 groups" in found.summary


def test_a_perfect_score_keeps_an_interval_as_wide_as_its_groups_allow():
    labels = [0, 1] * 20
    found = performance(labels, torch.eye(2)[labels], groups=[place // 4 for place in range(40)])
    assert found.accuracy.high == pytest.approx(1.0)
    assert found.accuracy.low == pytest.approx(share_interval(10, 10).low)
    assert found.interval == "Wilson over 10 groups"


def test_a_class_that_no_image_shows_is_named_and_left_out():
    found = performance([0, 1, 0, 1], torch.eye(3)[[0, 1, 2, 1]], classes=("a", "b", "c"))
    assert found.balanced_accuracy.value == 0.75
    assert rows(found, "recall")["c"]["value"] is None
    assert "no image shows c" in found.warnings[0]


def test_the_same_seed_gives_the_same_intervals():
    labels, logits = made(80)
    assert performance(labels, logits, seed=3).brier == performance(labels, logits, seed=3).brier
    assert performance(labels, logits, seed=3).brier != performance(labels, logits, seed=4).brier


@pytest.mark.parametrize(
    ("labels", "logits", "further", "says"),
    [
        ([0], torch.ones(2, 2), {}, "do not fit logits"),
        ([], torch.ones(0, 2), {}, "N above 0"),
        ([0, 2], torch.ones(2, 2), {}, "run from 0 to 2"),
        ([0, 1], torch.tensor([[1.0, float("nan")], [0, 0]]), {}, "NaN"),
        ([0, 1], torch.ones(2, 2), {"classes": ("a",)}, "1 class names"),
        ([0, 1], torch.ones(2, 2), {"groups": ["s"]}, "1 groups"),
    ],
)
def test_what_does_not_fit_is_refused(labels, logits, further, says):
    with pytest.raises(ShapeError, match=says):
        performance(labels, logits, **further)
