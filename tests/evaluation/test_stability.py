"""Nets that learnt the task again, settings of one method, and copies that leave the score alone."""

import copy

import numpy as np
import pytest
import torch

from pellucid import explain
from pellucid.attribution.gradient import gradient
from pellucid.errors import BadRecipe, ShapeError
from pellucid.evaluation import average_distances, compare_models, equally_accurate, sweep
from pellucid.evaluation.stability import REPEATED, box_atlas
from pellucid.models import Model


@pytest.fixture
def scene(kit):
    net, x = kit.linear((1, 12, 12)), torch.rand(5, 1, 12, 12)
    return net, x, explain(net, x, gradient(), 0, ids=list("abcde"))


def of(table, model, metric):
    return [row["value"] for row in table.to_pylist() if row["model"] == model and row["metric"] == metric]


def test_the_same_net_gives_the_same_maps_and_the_negated_one_the_opposite(scene):
    net, x, explained = scene
    against = copy.deepcopy(net)
    against[1].weight.neg_()
    table = compare_models(Model.of(net), {"same": Model.of(net), "against": Model.of(against)}, x, [explained])
    assert table.num_rows == 2 * len(REPEATED) * 5
    assert of(table, "same", REPEATED[0]) == pytest.approx([0.0] * 5, abs=1e-6)
    assert of(table, "same", REPEATED[1]) == pytest.approx([0.0] * 5, abs=1e-6)
    assert of(table, "same", REPEATED[2]) == of(table, "same", REPEATED[3]) == [1.0] * 5
    assert of(table, "against", REPEATED[0]) == pytest.approx([2.0] * 5, abs=1e-6)
    assert of(table, "against", REPEATED[1]) == pytest.approx([2.0] * 5, abs=1e-6)


def test_without_another_net_there_is_nothing_to_compare(scene):
    net, x, explained = scene
    with pytest.raises(ShapeError, match="no other model to compare with"):
        compare_models(Model.of(net), {}, x, [explained])


@pytest.mark.parametrize("shape", [(12, 12), (40,), (6, 8, 10), (3, 2)])
def test_the_atlas_covers_every_pixel_with_near_equal_boxes(shape):
    atlas = box_atlas(shape)
    assert atlas.shape == shape
    sizes = torch.bincount(atlas.flatten())[1:]
    assert int(atlas.min()) == 1
    assert 4 <= len(sizes) <= 20
    assert int(sizes.max()) <= 4 * int(sizes.min())


def test_average_maps_are_compared_by_a_naive_rule():
    one, two = torch.rand(4, 1, 3, 3), torch.rand(4, 1, 3, 3)
    rows = average_distances({"a": one, "same": one[[2, 0, 1, 3]], "b": two, "against": -one}).to_pylist()
    found = {(row["first"], row["second"]): row for row in rows}
    assert found["a", "same"]["l2"] == pytest.approx(0, abs=1e-6)
    assert found["a", "same"]["correlation"] == pytest.approx(1)
    assert found["a", "against"]["l2"] == pytest.approx(2)
    assert found["a", "against"]["correlation"] == pytest.approx(-1)
    means = [values.mean(0).numpy().ravel() for values in (one, two)]
    naive = np.linalg.norm(means[0] / np.linalg.norm(means[0]) - means[1] / np.linalg.norm(means[1]))
    assert found["a", "b"]["l2"] == pytest.approx(naive, abs=1e-6)
    with pytest.raises(ShapeError, match="one shape from two models or more"):
        average_distances({"a": one})
    with pytest.raises(ShapeError, match="one shape"):
        average_distances({"a": one, "b": torch.rand(4, 1, 2, 2)})


def test_accuracies_are_compared_image_by_image():
    right = np.array([1, 1, 1, 0] * 10)
    same, equal = equally_accurate(right, right)
    assert (same.value, equal) == (0.0, True)
    worse, equal = equally_accurate(right, 1 - right)
    assert (worse.value, equal) == (-0.5, False)
    swapped = np.roll(right, 1)
    level, equal = equally_accurate(right, swapped)
    assert (level.value, equal) == (0.0, True)
    with pytest.raises(ShapeError, match="40 images and the other 3"):
        equally_accurate(right, [1, 0, 1])


def test_equal_accuracy_by_groups_needs_two_of_them():
    _, equal = equally_accurate([1, 0, 1], [0, 1, 1], groups=["a", "a", "a"])
    assert not equal


def test_settings_that_cannot_matter_have_no_spread_and_those_that_do_have_one(kit):
    net, x = kit.linear((1, 8, 8)), torch.rand(3, 1, 8, 8)
    methods = ["integrated_gradients(steps=4)", "integrated_gradients(steps=9)", "occlusion(window=1, stride=1)",
               "occlusion(window=5, stride=1)", "saliency"]  # fmt: skip
    found = sweep(net, x, methods, 0, ids=list("abc"))
    assert set(found.agreements) == {"integrated_gradients", "occlusion"}
    assert len(found.explanations) == 4
    rows = found.table.to_pylist()
    path = [row for row in rows if row["name"] == "integrated_gradients"]
    blurred = [row for row in rows if row["name"] == "occlusion"]
    assert [row["correlation"] for row in path] == pytest.approx([1.0] * 3, abs=1e-6)
    assert [row["overlap"] for row in path] == [1.0] * 3
    assert float(found.spread("integrated_gradients").max()) < 0.02
    assert max(row["correlation"] for row in blurred) < 0.9
    assert found.spread("occlusion").shape == (3, 8, 8)
    assert float(found.spread("occlusion").mean()) > 0.05


def test_a_sweep_needs_two_settings_of_a_method(kit):
    net, x = kit.linear((1, 4, 4)), torch.rand(2, 1, 4, 4)
    with pytest.raises(BadRecipe, match="at least two of the same name"):
        sweep(net, x, ["saliency", "gradient", "saliency"], 0)
    found = sweep(net, x, ["occlusion(window=1)", "occlusion(window=2)"], 0)
    with pytest.raises(BadRecipe, match="'saliency' was not swept; occlusion were"):
        found.spread("saliency")
