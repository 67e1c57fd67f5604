"""What a model relies on, measured by re-rendering, on models whose reliance is written down."""

import pytest
import torch
from torch import nn

from pellucid.errors import BadImage, CannotExplain
from pellucid.images import phantoms
from pellucid.interpretation import flip_matrix, recovered
from pellucid.models import Model

SIZE = (48, 48)


class Blue(nn.Module):
    """Calls an image treated when its nucleus, the bluest thing, is large."""

    def forward(self, x):
        blue = (x[:, 2] - x[:, 0] - 0.15).clamp(min=0).sum((1, 2))
        return torch.stack([torch.zeros_like(blue), 2.0 * (blue - 8.5)], 1)


class Corner(nn.Module):
    """Calls an image treated when its tag is there."""

    def __init__(self, tag):
        super().__init__()
        self.tag = tag

    def forward(self, x):
        bright = (x.mean(1) * self.tag).sum((1, 2)) / self.tag.sum()
        return torch.stack([torch.zeros_like(bright), 100 * (bright - 0.3)], 1)


@pytest.fixture(scope="module")
def cells():
    return phantoms.cells(30, SIZE, seed=5, shortcut=phantoms.Shortcut())


def test_the_factor_that_a_model_reads_is_the_one_that_moves_it(cells):
    found = flip_matrix(Model(Blue()), cells)
    effects = found.effects()
    assert next(iter(effects)) == "nucleus_size"
    assert effects["nucleus_size"].value > 0.8
    assert max(effect.value for name, effect in effects.items() if name != "nucleus_size") < 0.25
    assert found.used(0.3) == ("nucleus_size",)


def test_a_shortcut_is_used_by_a_model_that_looks_at_nothing_else(cells):
    image = cells.images.ids[0]
    tag = (cells.render(image, shortcut=1) != cells.render(image, shortcut=0)).any(0).float()
    found = flip_matrix(Model(Corner(tag)), cells, cells.images.ids[:12])
    assert found.used() == ("shortcut",)
    rows = [row for row in found.table.to_pylist() if row["factor"] == "shortcut"]
    assert all(row["flipped"] and {row["from"], row["to"]} == {0.0, 1.0} for row in rows)
    assert len(rows) == 12


def test_a_model_that_looks_at_nothing_relies_on_nothing(cells):
    constant = nn.Sequential(nn.Flatten(), nn.Linear(3 * 48 * 48, 2))
    nn.init.zeros_(constant[1].weight)
    found = flip_matrix(Model(constant), cells, cells.images.ids[:6])
    assert found.used() == ()
    assert all(effect.value == 0 for effect in found.effects().values())


def test_factors_can_be_chosen_and_rows_do_not_depend_on_each_other(cells):
    whole = flip_matrix(Model(Blue()), cells, factors=["cell_size"])
    alone = flip_matrix(Model(Blue()), cells, cells.images.ids[3:4], factors=["cell_size"], batch_size=1)
    assert set(whole.table["factor"].to_pylist()) == {"cell_size"}
    assert alone.table["moved"][0].as_py() == pytest.approx(whole.table["moved"][3].as_py(), abs=1e-6)
    assert whole.plot().axes


def test_a_regression_and_an_unknown_image_are_refused(cells):
    with pytest.raises(CannotExplain, match="no classifier"):
        flip_matrix(Model(Blue(), task="regression"), cells, cells.images.ids[:2])
    with pytest.raises(BadImage):
        flip_matrix(Model(Blue()), cells, ["nobody"])


def test_maps_that_recover_the_flip_matrix_are_told_from_those_that_show_edges(cells):
    ids = cells.images.ids[:8]
    methods = ["integrated_gradients(steps=16)", "edge_map", "random_map"]
    table = recovered(Model(Blue()), cells, methods, ids)
    mean = {
        method: sum(row["cosine"] for row in table.to_pylist() if row["method"] == method) / len(ids)
        for method in methods
    }
    assert mean["integrated_gradients(steps=16)"] > 0.95
    assert abs(mean["edge_map"]) < 0.6
    assert abs(mean["random_map"]) < 0.6
    alone = recovered(Model(Blue()), cells, methods[:1], ids[2:3]).to_pylist()[0]["cosine"]
    assert alone == pytest.approx(table["cosine"][2].as_py(), abs=1e-4)


def test_a_model_that_nothing_moves_gives_no_truth(cells):
    constant = nn.Sequential(nn.Flatten(), nn.Linear(3 * 48 * 48, 2))
    nn.init.zeros_(constant[1].weight)
    table = recovered(Model(constant), cells, ["gradient"], cells.images.ids[:2])
    assert table["cosine"].to_pylist() == [None, None]
