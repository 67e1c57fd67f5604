"""Natural counterfactuals: the right neighbour, ties by id, own group passed over, distances in the space's unit."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from pellucid.counterfactual.engines import (
    Space,
    embedding_space,
    natural_counterfactuals,
    phenotype_space,
    pixel_space,
)
from pellucid.errors import BadTarget, CannotExplain, ShapeError
from pellucid.images import phantoms
from pellucid.measure import measure_images, phenotypes
from pellucid.models import Model, Passes


def line(*places: float) -> Space:
    return Space("line", np.array(places)[:, None], "step")


def found(table: pa.Table, image: str) -> list[str | None]:
    return [row["counterfactual"] for row in table.to_pylist() if row["image"] == image]


def test_nearest_of_another_class_with_its_distance_and_yardstick():
    table = natural_counterfactuals(line(0.0, 1.0, 5.0, 7.5), [0, 0, 1, 2], ["a", "b", "c", "d"])
    row = table.to_pylist()[0]
    assert (row["counterfactual"], row["distance"], row["own_kind_distance"]) == ("c", 5.0, 1.0)
    assert found(table, "c") == ["d"]
    only = natural_counterfactuals(
        line(0.0, 1.0, 5.0, 7.5), [0, 0, 1, 2], ["a", "b", "c", "d"], target=2, of=["b", "d"]
    )
    assert [(row["counterfactual"], row["distance"]) for row in only.to_pylist()] == [("d", 6.5), (None, None)]
    assert only["reason"].to_pylist() == ["", "the image itself is called 2"]


def test_own_group_is_passed_over_and_an_image_without_another_group_says_why():
    space, called, ids = line(0.0, 1.0, 5.0), [0, 1, 1], ["a", "b", "c"]
    assert found(natural_counterfactuals(space, called, ids, groups=["p", "p", "q"]), "a") == ["c"]
    alone = natural_counterfactuals(space, called, ids, groups=["p", "p", "p"])
    assert alone["counterfactual"].to_pylist() == [None] * 3
    assert set(alone["reason"].to_pylist()) == {"every image that is called otherwise is of the same group"}


def test_ties_go_by_id_and_are_counted_whatever_the_order():
    places, called, ids = [0.0, 2.0, -2.0, 2.0, 3.0], [0, 1, 1, 1, 1], ["a", "z", "m", "k", "b"]
    expected = [("k", 2), ("m", 2), ("z", 2), ("b", 0)]
    for order in ([0, 1, 2, 3, 4], [4, 2, 1, 3, 0]):
        table = natural_counterfactuals(
            line(*(places[i] for i in order)),
            [called[i] for i in order],
            [ids[i] for i in order],
            neighbours=4,
            of=["a"],
        )
        assert [(row["counterfactual"], row["tied"]) for row in table.to_pylist()] == expected


def test_distance_is_the_root_mean_square_over_shared_features():
    features = np.array([[0.0, 0.0, np.nan], [3.0, np.nan, 7.0], [np.nan, np.nan, 1.0], [3.0, 4.0, 0.0]])
    assert Space("some", features, "1").distances(0) == pytest.approx([0.0, 3.0, np.inf, np.sqrt(12.5)])


def test_pixel_space_agrees_with_a_naive_loop():
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(size=(12, 2, 5, 4)))
    called = rng.integers(0, 3, 12).tolist()
    ids = [f"i{n}" for n in range(12)]
    table = natural_counterfactuals(pixel_space(images), called, ids)
    for row in table.to_pylist():
        here = ids.index(row["image"])
        naive = {
            ids[n]: float(((images[n] - images[here]) ** 2).mean().sqrt())
            for n in range(12)
            if called[n] != called[here]
        }
        assert row["counterfactual"] == min(naive, key=naive.__getitem__)
        assert row["distance"] == pytest.approx(min(naive.values()), rel=1e-12)


def test_embedding_space_is_what_the_layer_says_in_standard_deviations():
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    network(x)
    with Passes(Model(network, embedding="1")) as passes:
        space = embedding_space(passes, x)
    rows = network[1](network[0](x)).detach().mean((2, 3)).double().numpy()
    assert space.features == pytest.approx(rows / rows.std(0), rel=1e-5)
    with Passes(Model(network)) as passes, pytest.raises(CannotExplain, match="names no embedding"):
        embedding_space(passes, x)


def test_phenotypes_find_the_twin_that_pixels_miss():
    """A cell moved by five pixels measures alike and lies elsewhere: the phenotypes know it, the pixels do not."""
    cells = phantoms.cells(24, (32, 32), 0).images
    x, table = cells.tensor(), measure_images(cells)
    (mask,) = cells.mask("object", [cells.ids[0]])
    moved, moved_mask = x[0].roll((5, 5), (1, 2)), mask.roll((5, 5), (0, 1))
    twin = phenotypes(moved, moved_mask, cells.record).append_column("image", pa.array(["twin"]))
    ids, called = [*cells.ids, "twin"], [0] + [1] * 24
    measured = phenotype_space(pa.concat_tables([table, twin.select(table.column_names)]), ids)
    assert np.nanstd(measured.features, axis=0) == pytest.approx(np.ones(measured.features.shape[1]))
    assert found(natural_counterfactuals(measured, called, ids, of=[ids[0]]), ids[0]) == ["twin"]
    pixels = pixel_space(torch.cat([x, moved[None]]))
    assert found(natural_counterfactuals(pixels, called, ids, of=[ids[0]]), ids[0]) != ["twin"]
    assert np.isnan(phenotype_space(table, [*ids[:5], "not measured"]).features[-1]).all()


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (([0, 0, 0], ["a", "b", "c"], {}), BadTarget, "all 3 images are called 0"),
        (([0, 1, 1], ["a", "b", "c"], {"target": 4}), BadTarget, "none of the 3 images is called 4"),
        (([0, 1], ["a", "b", "c"], {}), ShapeError, "3 features, 2 called, 3 ids"),
        (([0, 1, 1], ["a", "b", "c"], {"of": ["q"]}), ShapeError, "no image 'q'"),
        (([0, 1, 1], ["a", "b", "c"], {"neighbours": 0}), ShapeError, "neighbours=0"),
    ],
)
def test_what_cannot_be_answered_is_refused(arguments, error, said):
    called, ids, settings = arguments
    with pytest.raises(error, match=said):
        natural_counterfactuals(line(0.0, 1.0, 2.0), called, ids, **settings)
