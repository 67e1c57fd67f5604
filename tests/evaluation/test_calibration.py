"""Truth planted in one's own images: methods that show the change where it was made are told from those that do not."""

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.errors import CannotExplain, ShapeError
from pellucid.evaluation import calibrate
from pellucid.models import Model


class Bright(nn.Module):
    """Sums the squared brightness of the middle of the image."""

    def forward(self, x):
        inside = x[:, :, 4:-4, 4:-4].square().sum((1, 2, 3))
        return torch.stack([inside - 40, 40 - inside], 1)


@pytest.fixture(scope="module")
def scene():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(24, 3, 20, 20, generator=generator) * 0.5 + 0.2
    outlines = torch.zeros(24, 20, 20)
    outlines[:, 5:-5, 5:-5] = 1
    return x, outlines


METHODS = ["input_x_gradient", "edge_map", "random_map"]
EDITS = {"edits": ["brighten(amount=0.3)", "brighten(amount=-0.3)"], "on_object": []}


def test_a_map_that_shows_the_planted_changes_is_chosen_and_a_control_that_sees_them_too_is_not(scene):
    found = calibrate(Model(Bright()), *scene, METHODS, **EDITS)
    assert found.chosen == "input_x_gradient"
    means = {
        (row["method"], row["metric"]): row["mean"]
        for row in found.ranking.table.to_pylist()
        if row["metric"] != "overall"
    }
    assert means["input_x_gradient", "proportion"] > 0.95
    assert means["input_x_gradient", "locality"] > 0.95
    assert abs(means["edge_map", "proportion"]) < 0.5
    assert means["random_map", "proportion"] == 0
    assert not found.ranking.abstains()
    assert list(found.judged) == found.ranking.order()
    assert found.judged["input_x_gradient"].low > 0.9


def test_scores_are_the_stated_formulas_of_what_the_table_holds(scene):
    found = calibrate(Model(Bright()), *scene, METHODS, **EDITS)
    rows = [row for row in found.table.to_pylist() if row["image"] == "3" and row["method"] == "edge_map"]
    assert len(rows) == 4
    effect, told, whole = (np.array([row[name] for row in rows]) for name in ("effect", "told", "whole"))
    scores = {
        row["metric"]: row["value"]
        for row in found.scores.table.to_pylist()
        if row["image"] == "3" and row["method"] == "edge_map"
    }
    size = np.sqrt((effect**2).sum())
    assert scores["proportion"] == pytest.approx((told * effect).sum() / np.sqrt((told**2).sum()) / size)
    assert scores["locality"] == pytest.approx((told * effect).sum() / np.sqrt((whole**2).sum()) / size)


class Wide(nn.Module):
    """Sums the squared brightness of a corner outside every outline."""

    def forward(self, x):
        corner = x[:, :, :4, :4].square().sum((1, 2, 3))
        return torch.stack([corner - 10, 10 - corner], 1)


def test_a_cue_outside_the_object_is_reached_where_the_maps_point_at_it(scene):
    found = calibrate(Model(Wide()), *scene, METHODS, **EDITS)
    assert found.chosen == "input_x_gradient"
    moved = {row["edit"].split()[-1] for row in found.table.to_pylist() if abs(row["effect"]) > 0.1}
    assert moved == {"claim"}


def test_halves_part_no_group_and_both_have_rows(scene):
    groups = [f"plate {row // 4}" for row in range(24)]
    rows = calibrate(Model(Bright()), *scene, METHODS, **EDITS, groups=groups).table.to_pylist()
    halves = {group: {row["judged"] for row in rows if row["group"] == group} for group in groups}
    assert all(len(half) == 1 for half in halves.values())
    assert {half for each in halves.values() for half in each} == {True, False}


def test_edits_that_the_model_does_not_answer_to_are_no_truth(scene):
    x, outlines = scene
    rim = torch.zeros_like(outlines)
    rim[:, :3] = 1
    with pytest.raises(CannotExplain, match="answered to an edit in 0 of 24 images"):
        calibrate(Model(Bright()), x, rim, METHODS[1:], **EDITS)
    with pytest.raises(ShapeError, match="do not fit"):
        calibrate(Model(Bright()), x, outlines[:3], METHODS)


def test_an_image_gives_the_same_rows_alone_or_among_others(scene):
    x, outlines = scene
    ids = [f"image {row}" for row in range(24)]
    whole = calibrate(Model(Bright()), x, outlines, METHODS[:1], **EDITS, ids=ids, least=0.0)
    part = calibrate(Model(Bright()), x[5:17], outlines[5:17], METHODS[:1], **EDITS, ids=ids[5:17], least=0.0)
    values = {(row["image"], row["edit"]): row["effect"] for row in whole.table.to_pylist()}
    for row in part.table.to_pylist():
        assert row["effect"] == pytest.approx(values[row["image"], row["edit"]], rel=1e-4)
    assert whole.plot().axes
