"""Truth planted in one's own images: methods that show the change where it was made are told from those that do not."""

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


METHODS = ["input_x_gradient", "edge_map"]
EDITS = ["brighten(amount=0.3)", "brighten(amount=-0.3)"]


def test_a_method_that_shows_the_planted_change_is_chosen_and_a_control_that_sees_it_too_is_not(scene):
    found = calibrate(Model(Bright()), *scene, METHODS, edits=EDITS)
    assert found.chosen == "input_x_gradient"
    judged = found.judged
    assert judged["input_x_gradient"].value == pytest.approx(1.0)
    assert judged["edge_map"].low < 0.2
    inside = [row["inside"] for row in found.table.to_pylist() if row["method"] == "edge_map"]
    assert sum(inside) / len(inside) > 3 * found.table["area"][0].as_py()
    signed = [row["signed"] for row in found.table.to_pylist() if row["method"] == "input_x_gradient"]
    assert all(share > 0.99 for share in signed)


def test_halves_part_no_group_and_both_have_rows(scene):
    groups = [f"plate {row // 4}" for row in range(24)]
    rows = calibrate(Model(Bright()), *scene, METHODS, edits=EDITS, groups=groups).table.to_pylist()
    halves = {group: {row["judged"] for row in rows if row["group"] == group} for group in groups}
    assert all(len(half) == 1 for half in halves.values())
    assert {half for each in halves.values() for half in each} == {True, False}


def test_edits_that_the_model_does_not_answer_to_are_no_truth(scene):
    x, outlines = scene
    rim = torch.zeros_like(outlines)
    rim[:, :3] = 1
    with pytest.raises(CannotExplain, match="answered to 0 of 48 edits"):
        calibrate(Model(Bright()), x, rim, METHODS, edits=EDITS)
    with pytest.raises(ShapeError, match="do not fit"):
        calibrate(Model(Bright()), x, outlines[:3], METHODS)


def test_an_image_gives_the_same_rows_alone_or_among_others(scene):
    x, outlines = scene
    ids = [f"image {row}" for row in range(24)]
    whole = calibrate(Model(Bright()), x, outlines, METHODS[:1], edits=EDITS, ids=ids, least=0.0)
    part = calibrate(Model(Bright()), x[5:17], outlines[5:17], METHODS[:1], edits=EDITS, ids=ids[5:17], least=0.0)
    values = {(row["image"], row["edit"]): row["effect"] for row in whole.table.to_pylist()}
    for row in part.table.to_pylist():
        assert row["effect"] == pytest.approx(values[row["image"], row["edit"]], rel=1e-4)
    assert whole.plot().axes
