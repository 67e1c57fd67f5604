"""Agreement of methods on images: identical ones agree wholly, random ones by chance, and planted groups are found."""

import pytest
import torch
from scipy.stats import spearmanr

from pellucid import explain
from pellucid.errors import ShapeError
from pellucid.evaluation import METRICS, agree, evaluate

MEASURES = {"feature", "rank", "sign", "signed_rank", "correlation"}


def _rows(found, measure):
    return [row for row in found.table.to_pylist() if row["measure"] == measure]


@pytest.fixture
def scene(kit):
    net, x = kit.linear((2, 12, 12)), torch.rand(5, 2, 12, 12)
    return net, x, lambda values, name: kit.given(values, net, x, name)


def test_a_method_agrees_wholly_with_its_multiple_and_its_negative_differs_in_sign_only(scene):
    _, x, given = scene
    values = torch.randn(x.shape)
    same = agree([given(values, "one"), given(3 * values, "two")], x)
    assert {row["measure"] for row in same.table.to_pylist()} == MEASURES
    assert [row["value"] for row in same.table.to_pylist()] == pytest.approx([1.0] * 25)
    assert float(same.disagreement.max()) == 0
    against = agree([given(values, "one"), given(-values, "two")], x)
    assert [row["value"] for row in _rows(against, "feature")] == pytest.approx([1.0] * 5)
    assert [row["value"] for row in _rows(against, "sign")] == [0.0] * 5
    assert [row["value"] for row in _rows(against, "signed_rank")] == [0.0] * 5


@pytest.mark.parametrize("measure", ["feature", "rank", "sign", "signed_rank"])
def test_random_maps_agree_as_much_as_chance_says(measure, kit):
    net, x = kit.linear((1, 16, 16)), torch.rand(150, 1, 16, 16)
    maps = [kit.given(torch.randn(x.shape), net, x, str(place)) for place in range(3)]
    rows = _rows(agree(maps, x, share=0.2, slack=0.05), measure)
    mean = sum(row["value"] for row in rows) / len(rows)
    assert mean == pytest.approx(rows[0]["chance"], rel=0.12)


def test_the_matrix_is_the_mean_rank_correlation_of_magnitudes(scene):
    _, x, given = scene
    one, two = torch.randn(x.shape), torch.randn(x.shape)
    two[:, :, :6] += one[:, :, :6]
    found = agree([given(one, "one"), given(two, "two")], x)
    pooled = [values.sum(1).flatten(1).abs() for values in (one, two)]
    expected = sum(spearmanr(*pair).statistic for pair in zip(*(part.tolist() for part in pooled), strict=True)) / 5
    assert found.matrix[0, 1] == found.matrix[1, 0] == pytest.approx(expected, abs=1e-6)


def test_planted_groups_of_methods_are_found(scene):
    _, x, given = scene
    ideas = [torch.randn(x.shape).exp() for _ in range(2)]
    maps = [given(ideas[place % 2] + 0.05 * torch.randn(x.shape), f"method {place}") for place in range(6)]
    found = agree(maps, x)
    assert {frozenset(group) for group in found.groups()} == {
        frozenset(f"method {place}" for place in (0, 2, 4)), frozenset(f"method {place}" for place in (1, 3, 5)),
    }  # fmt: skip
    assert agree(maps, x, threshold=2.0).clusters == (1,) * 6


def test_disagreement_is_where_it_was_planted_pixel_by_pixel_and_object_by_object(scene):
    _, x, given = scene
    shared = torch.rand(5, 1, 12, 12).expand(x.shape)
    maps = []
    for place in range(4):
        values = shared.clone()
        values[..., :6] = torch.rand(5, 1, 12, 6)
        maps.append(given(values, f"method {place}"))
    labels = torch.ones(12, 12, dtype=torch.long)
    labels[:, 6:], labels[0] = 2, 0
    found = agree(maps, x, labels=labels)
    assert found.disagreement.shape == (5, 12, 12)
    assert float(found.disagreement[..., :6].mean()) > 3 * float(found.disagreement[..., 6:].mean())
    assert float(found.disagreement.max()) <= 0.5
    rows = found.objects.to_pylist()
    assert [(row["label"], row["pixels"]) for row in rows[:2]] == [(1, 66), (2, 66)]
    inside = found.disagreement[:, 1:, :6].flatten(1).mean(1)
    assert [row["disagreement"] for row in rows if row["label"] == 1] == pytest.approx(inside.tolist())


def test_pairs_equal_the_metrics_of_the_same_names(scene):
    net, x, _ = scene
    maps = [explain(net, x, method) for method in ("input_x_gradient", "random_map")]
    maps[1] = maps[1].from_values(maps[1].values, net, x, name="other")
    found = agree(maps, x)
    for measure, name in (("feature", "feature_agreement"), ("rank", "top_rank_agreement"), ("sign", "sign_agreement"),
                          ("signed_rank", "signed_rank_agreement")):  # fmt: skip
        table = evaluate(net, x, maps, METRICS.parse(name)).table
        assert [row["value"] for row in _rows(found, measure)] == table["value"].to_pylist()[:5]
        assert [row["chance"] for row in _rows(found, measure)] == table["chance"].to_pylist()[:5]


def test_maps_without_signs_are_compared_without_and_flat_ones_give_nulls(scene):
    net, x, given = scene
    found = agree([explain(net, x, "saliency"), explain(net, x, "gradient")], x)
    assert {row["measure"] for row in found.table.to_pylist()} == {"feature", "rank", "correlation"}
    flat = agree([given(torch.ones(x.shape), "flat"), given(torch.randn(x.shape), "map")], x)
    assert flat.table["value"].null_count == 25


def test_what_cannot_be_compared_is_refused(scene, kit):
    net, x, given = scene
    one = given(torch.randn(x.shape), "one")
    with pytest.raises(ShapeError, match="two explanations or more"):
        agree([one], x)
    with pytest.raises(ShapeError, match="the same images and target"):
        agree([one, kit.given(torch.randn(x.shape), net, x, "two", target=2)], x)


def test_the_picture_shows_every_method_and_where_the_tree_was_cut(scene):
    _, x, given = scene
    maps = [given(torch.randn(x.shape), f"method {place}") for place in range(4)]
    figure = agree(maps, x).plot()
    labels = [text.get_text() for text in figure.axes[1].get_yticklabels()]
    assert sorted(labels) == [f"method {place}" for place in range(4)]
    assert "4 methods on 5 images" in figure._suptitle.get_text()
