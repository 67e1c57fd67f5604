"""Experts against experts: closed forms, scikit-learn's kappa, and simulated experts of known error."""

import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score

from pellucid.errors import ShapeError
from pellucid.evaluation import annotator_agreement, evaluate


def _square(top, left, size=4, shape=(16, 16)):
    mask = np.zeros(shape, dtype=np.uint8)
    mask[top : top + size, left : left + size] = 1
    return mask


def test_equal_masks_agree_wholly_and_shifted_ones_by_the_closed_form():
    found = annotator_agreement({"a": [_square(2, 2), _square(2, 2)], "b": [_square(2, 2), _square(2, 4)]}).to_pylist()
    assert found[0] == {"image": "0", "first": "a", "second": "b", "dice": 1.0, "kappa": 1.0, "surface": 0.0}
    assert found[1]["dice"] == 0.5
    seen, marked = 1 - 16 / 256, 16 / 256
    chance = marked**2 + (1 - marked) ** 2
    assert found[1]["kappa"] == pytest.approx((seen - chance) / (1 - chance))


def test_kappa_is_scikit_learns_and_simulated_experts_agree_as_their_error_says():
    random = np.random.default_rng(0)
    truth = random.random((40, 24, 24)) < 0.3
    experts = {name: [mask ^ (random.random(mask.shape) < 0.1) for mask in truth] for name in "ab"}
    table = annotator_agreement(experts)
    expected = [cohen_kappa_score(a.ravel(), b.ravel()) for a, b in zip(*experts.values(), strict=True)]
    assert table["kappa"].to_pylist() == pytest.approx(expected)
    marked = 0.3 * 0.9 + 0.7 * 0.1
    seen = 0.9**2 + 0.1**2
    chance = marked**2 + (1 - marked) ** 2
    assert np.mean(table["kappa"].to_pylist()) == pytest.approx((seen - chance) / (1 - chance), abs=0.01)


def test_the_surface_distance_is_in_physical_units_and_symmetric():
    one, two = np.zeros((9, 9)), np.zeros((9, 9))
    one[4, 2], two[4, 5] = 1, 1
    masks = {"a": [one], "b": [two]}
    assert annotator_agreement(masks)["surface"].to_pylist() == [3.0]
    assert annotator_agreement(masks, pixel_size=(1.0, 0.5))["surface"].to_pylist() == [1.5]
    assert annotator_agreement({"b": [two], "a": [one]})["surface"].to_pylist() == [3.0]


def test_volumes_lines_and_three_annotators_give_every_pair_that_both_saw():
    masks = {"a": [np.ones((3, 4, 5)), None], "b": [np.ones((3, 4, 5)), np.ones(7)], "c": [None, np.zeros(7)]}
    table = annotator_agreement(masks, ids=["volume", "line"]).to_pylist()
    assert [(row["image"], row["first"], row["second"]) for row in table] == [("volume", "a", "b"), ("line", "b", "c")]
    assert table[0]["kappa"] is None
    assert table[1] == {"image": "line", "first": "b", "second": "c", "dice": 0.0, "kappa": 0.0, "surface": None}


def test_what_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match="two annotators"):
        annotator_agreement({"a": [np.ones((2, 2))]})
    with pytest.raises(ShapeError, match="have shapes"):
        annotator_agreement({"a": [np.ones((2, 2))], "b": [np.ones((2, 3))]})
    with pytest.raises(ShapeError, match="other numbers"):
        annotator_agreement({"a": [np.ones((2, 2))], "b": []})
    with pytest.raises(ShapeError, match="ids"):
        annotator_agreement({"a": [np.ones((2, 2))], "b": [np.ones((2, 2))]}, ids=["x", "y"])
    with pytest.raises(ShapeError, match="pixel_size"):
        annotator_agreement({"a": [np.ones((2, 2))], "b": [np.ones((2, 2))]}, pixel_size=(1.0,))


def test_a_map_scores_the_mean_over_annotators_who_marked_the_image(kit):
    net, x = kit.linear((1, 16, 16)), torch.rand(2, 1, 16, 16)
    experts = {"a": [_square(2, 2), _square(2, 2)], "b": [_square(2, 4), None]}
    oracle = torch.stack([torch.from_numpy(mask.astype(np.float32)) for mask in experts["a"]])[:, None]
    scores = evaluate(net, x, kit.given(oracle, net, x, "map"), "relevance_mass", experts)
    assert scores.table["value"].to_pylist() == pytest.approx([0.75, 1.0])
