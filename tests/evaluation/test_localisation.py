import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from pellucid.errors import ShapeError
from pellucid.evaluation import METRICS, evaluate

PLAUSIBILITY = sorted(
    name
    for name, metric in METRICS.items()
    if metric.profile.family == "localisation" and name != "impact_coverage"  # which asks the model too: test_impact
)


@pytest.fixture
def scene(kit):
    net, x = kit.linear((1, 10, 10)), torch.rand(3, 1, 10, 10)
    masks = torch.zeros(3, 10, 10)
    masks[:, 2:4, 3:8] = 1
    return net, x, masks


@pytest.mark.parametrize("name", PLAUSIBILITY)
def test_the_mask_itself_scores_one_and_its_complement_zero(name, scene, kit):
    net, x, masks = scene
    maps = [kit.given(masks[:, None], net, x, "oracle"), kit.given(1 - masks[:, None], net, x, "complement")]
    settings = {"share": 0.1} if name in {"mask_iou", "top_k_intersection"} else {}
    scores = evaluate(net, x, maps, METRICS[name](**settings), masks)
    assert kit.column(scores, name, "oracle") == pytest.approx([1.0] * 3)
    assert kit.column(scores, name, "complement") == pytest.approx([0.0] * 3)


@pytest.mark.parametrize("name", PLAUSIBILITY)
def test_random_maps_score_the_chance_that_stands_beside_them(name, kit):
    rows = 300
    net, x = kit.linear((1, 12, 12)), torch.rand(rows, 1, 12, 12)
    masks = torch.zeros(rows, 12, 12)
    masks[:, :6, :5] = 1
    scores = evaluate(net, x, kit.given(torch.randn_like(x), net, x, "random"), name, masks)
    found = np.mean(kit.column(scores, name, "random"))
    chance = kit.column(scores, name, "random", "chance")
    assert found == pytest.approx(np.mean(chance), abs=0.07)
    if name not in {"localisation_auc", "mask_iou"}:
        assert set(chance) == {30 / 144}


def test_relevance_mass_counts_positive_relevance_only_and_stays_within_range(scene, kit):
    net, x, masks = scene
    values = torch.full((3, 1, 10, 10), -5.0)
    values[:, :, 2, 3], values[:, :, 9, 9] = 3.0, 1.0
    scores = evaluate(net, x, kit.given(values, net, x, "signed"), "relevance_mass", masks)
    assert kit.column(scores, "relevance_mass", "signed") == pytest.approx([0.75] * 3)
    nothing = evaluate(net, x, kit.given(-torch.ones_like(x), net, x, "negative"), "relevance_mass", masks)
    assert nothing.table["reason"].to_pylist() == ["the map has no positive relevance"] * 3


def test_auc_equals_scikit_learns_with_ties(scene, kit):
    net, x, masks = scene
    values = torch.randint(0, 4, (3, 1, 10, 10)).float()
    scores = evaluate(net, x, kit.given(values, net, x, "map"), "localisation_auc", masks)
    expected = [roc_auc_score(masks[row].flatten(), values[row].flatten()) for row in range(3)]
    assert kit.column(scores, "localisation_auc", "map") == pytest.approx(expected)


@pytest.mark.parametrize("name", PLAUSIBILITY)
def test_missing_and_empty_masks_give_no_score_and_say_which(name, scene, kit):
    net, x, masks = scene
    given = kit.given(torch.rand_like(x), net, x, "map")
    scores = evaluate(net, x, given, name, [None, torch.zeros(10, 10), masks[2]])
    assert kit.column(scores, name, "map", "reason") == ["the image has no mask", "the mask is empty", ""]
    assert kit.column(scores, name, "map")[:2] == [None, None]
    assert kit.column(scores, name, "map", "chance")[:2] == [None, None]
    none = evaluate(net, x, given, name)
    assert set(none.table["reason"].to_pylist()) == {"no masks were given"}


def test_a_mask_of_everything_has_no_auc(scene, kit):
    net, x, _ = scene
    scores = evaluate(net, x, kit.given(torch.rand_like(x), net, x, "map"), "localisation_auc", torch.ones(3, 10, 10))
    assert all("whole image" in reason for reason in scores.table["reason"].to_pylist())


def test_several_annotators_give_the_mean_over_those_who_marked(scene, kit):
    net, x, masks = scene
    values = masks[:, None].clone()
    elsewhere = torch.zeros(3, 10, 10)
    elsewhere[:, 8:, 8:] = 1
    second = [elsewhere[0], None, torch.zeros(10, 10)]
    scores = evaluate(net, x, kit.given(values, net, x, "map"), "relevance_mass", {"ann": masks, "bob": second})
    assert kit.column(scores, "relevance_mass", "map") == pytest.approx([0.5, 1.0, 1.0])
    assert kit.column(scores, "relevance_mass", "map", "chance") == pytest.approx([0.07, 0.1, 0.1])


def test_label_images_count_wherever_they_are_not_zero(scene, kit):
    net, x, masks = scene
    given = kit.given(torch.rand_like(x), net, x, "map")
    plain = evaluate(net, x, given, "relevance_mass", masks)
    labelled = evaluate(net, x, given, "relevance_mass", (7 * masks).int().numpy())
    assert plain.table["value"] == labelled.table["value"]


def test_masks_that_do_not_fit_are_refused(scene, kit):
    net, x, masks = scene
    given = kit.given(torch.rand_like(x), net, x, "map")
    with pytest.raises(ShapeError, match=r"2 for 3 images"):
        evaluate(net, x, given, "relevance_mass", masks[:2])
    with pytest.raises(ShapeError, match=r"'bob', row 0, have shape \(5, 5\)"):
        evaluate(net, x, given, "relevance_mass", {"bob": torch.ones(3, 5, 5)})


def test_a_flat_top_is_pointed_at_by_chance_and_not_by_index(kit):
    rows = 200
    net, x = kit.linear((1, 10, 10)), torch.rand(rows, 1, 10, 10)
    masks = torch.zeros(rows, 10, 10)
    masks[:, :5] = 1
    flat = kit.given(torch.ones_like(x), net, x, "flat", ids=[str(row) for row in range(rows)])
    hits = kit.column(evaluate(net, x, flat, "pointing_game", masks), "pointing_game", "flat")
    assert np.mean(hits) == pytest.approx(0.5, abs=0.12)
