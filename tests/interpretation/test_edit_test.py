"""Edit-and-test finds what a known model reads, leaves alone what it does not, and says when an edit looks unreal."""

import numpy as np
import pytest
import torch

from pellucid.errors import BadRecipe, CannotExplain
from pellucid.images import phantoms
from pellucid.interpretation.doses import dose_response, doses_of
from pellucid.interpretation.edit_test import beyond_null, edit_and_test
from pellucid.interpretation.evidence import Case
from pellucid.interpretation.realism import Realism
from pellucid.interpretation.shares import edit_shares
from pellucid.interpretation.sign_flips import mean_p_value
from pellucid.measure.spots import find_spots

PHANTOM = phantoms.cells(25, (48, 48), seed=4)
IMAGES, OUTLINES = PHANTOM.images.tensor(), PHANTOM.factor_mask("object")
GROUPS = [str(group) for group in PHANTOM.images.column("group")]
CASES = [
    Case(name, image, outline, label, group)
    for name, image, outline, label, group in zip(
        PHANTOM.images.ids, IMAGES, OUTLINES, PHANTOM.images.label(), GROUPS, strict=True
    )
]


def bright_area(images):
    """A model that reads the size of the cell."""
    return (images.mean(1) > 0.28).double().sum((1, 2)) / 100


def bright_middle(images):
    """A model that reads how bright the object is."""
    return 10 * images[:, :, 16:32, 16:32].mean((1, 2, 3)).double()


def spot_number(images):
    """A model that counts spots."""
    return torch.tensor([
        float(len(find_spots(image.double().numpy().mean(0), np.ones(image.shape[1:], dtype=bool), (2.4, 2.4), contrast=0.12).peaks))
        for image in images
    ])  # fmt: skip


EDITS = ["resize_object(factor=1.25)", "brighten(amount=0.2)", "recolour", "remove_spots", "replace_background"]


@pytest.mark.parametrize(
    ("model", "edit"),
    [
        (bright_area, "resize_object(factor=1.25)"),
        (bright_middle, "brighten(amount=0.2)"),
        (spot_number, "remove_spots"),
    ],
)
def test_the_edit_of_what_the_model_reads_comes_first_and_beats_its_null(model, edit):
    tests = edit_and_test(model, CASES, EDITS, realism=Realism.of(IMAGES, PHANTOM.images.ids, groups=GROUPS))
    first = tests.effects.to_pylist()[0]
    assert first["edit"] == edit
    assert first["beyond_low"] > 0
    # five slides have 32 flips: none of them can be rarer than 1/32
    assert first["p"] == pytest.approx(1 / 32)
    assert (first["n"], first["groups"]) == (25, 5)
    assert tests.effect(edit).low > 0 or tests.effect(edit).high < 0
    assert set(tests.table.column_names) == {"image", "group", "edit", "change", "null_change", "beyond", "realistic"}


def test_a_model_that_reads_nothing_of_the_object_answers_to_no_edit_of_it():
    tests = edit_and_test(lambda images: images[:, :, :3, :3].mean((1, 2, 3)), CASES, EDITS[:4])
    assert np.allclose(tests.table["change"].to_pylist(), 0)
    assert np.allclose(tests.table["null_change"].to_pylist(), 0)
    assert tests.effects["p"].to_pylist() == [1.0] * 4


def test_a_row_does_not_depend_on_the_others():
    whole = edit_and_test(bright_middle, CASES, ["recolour"]).table.to_pylist()
    part = edit_and_test(bright_middle, CASES[3:4] + CASES[:2] + CASES[8:11], ["recolour"]).table.to_pylist()
    assert [row for row in whole if row["image"] == CASES[3].id] == [row for row in part if row["image"] == CASES[3].id]


def test_a_null_that_makes_a_sure_call_surer_than_any_has_not_answered():
    before = np.array([3.0, 5.0, -4.0])
    after, after_null = np.array([-3.0, -5.0, -4.0]), np.array([30.0, 50.0, -40.0])
    assert beyond_null(before, after, after_null, limit=5.0).tolist() == [6.0 - 2.0, 10.0, -1.0]
    assert beyond_null(before, after, after_null, limit=100.0).max() < 0


def test_what_cannot_be_tried_is_left_out_or_refused():
    smooth = [Case(f"{i}", torch.rand(3, 48, 48) * 0.01 + 0.4 * OUTLINES[i], OUTLINES[i], 0, "a") for i in range(6)]
    assert edit_and_test(bright_middle, smooth, ["remove_spots"]).effects.num_rows == 0
    with pytest.raises(BadRecipe, match="was not tested"):
        edit_and_test(bright_middle, smooth, ["brighten"]).effect("recolour")
    with pytest.raises(CannotExplain, match="there are none"):
        edit_and_test(bright_middle, [], ["brighten"])
    assert edit_and_test(bright_middle, smooth, ["brighten"]).effects["beyond_low"][0].as_py() is None


def test_a_dose_is_followed_and_its_null_is_not():
    table = dose_response(bright_middle, CASES, "brighten", "amount", [-0.2, -0.1, 0.1, 0.2]).to_pylist()
    change = [row["change"] for row in table]
    assert change == sorted(change)
    assert change[0] < 0 < change[-1]
    assert table[0]["monotone"] == pytest.approx(1)
    assert all(abs(row["null_change"]) < 0.3 * abs(row["change"]) for row in table)
    flat = dose_response(lambda images: images[:, 0, 0, 0], CASES, "brighten", "amount", [-0.1, 0.05, 0.1]).to_pylist()
    assert flat[0]["monotone"] == 0
    with pytest.raises(BadRecipe, match="no setting 'size'"):
        dose_response(bright_middle, CASES, "brighten", "size", [1, 2])


@pytest.mark.parametrize(
    ("edit", "setting", "doses"),
    [
        ("resize_object(factor=1.2)", "factor", (1.05, 1.1, 1.15, 1.2)),
        ("resize_object(factor=0.8)", "factor", (0.95, 0.9, 0.85, 0.8)),
        ("brighten_rim(amount=-0.2)", "amount", (-0.05, -0.1, -0.15, -0.2)),
        ("add_spots(number=3)", "number", (1, 2, 3)),
        ("shift_rim(pixels=-2)", "pixels", (-1, -2)),
        ("blur_rim", "scale", (0.5, 1.0, 1.5, 2.0)),
    ],
)
def test_doses_rise_from_nothing_to_what_was_asked(edit, setting, doses):
    turned = doses_of(edit)
    assert turned[0] == setting
    assert turned[1] == pytest.approx(doses)
    assert all(isinstance(one, int) == isinstance(other, int) for one, other in zip(turned[1], doses, strict=False))


def test_an_edit_without_a_strength_has_no_doses():
    assert doses_of("replace_background") is None


def test_a_dose_says_up_to_where_images_look_real():
    realism = Realism.of(IMAGES, PHANTOM.images.ids, groups=GROUPS)
    table = dose_response(bright_middle, CASES, "brighten", "amount", [0.01, 0.9], realism=realism).to_pylist()
    assert table[0]["realistic"] > 0.9
    assert table[1]["realistic"] < 0.2


def test_realism_passes_real_images_and_fails_strange_ones():
    real = phantoms.cells(60, (48, 48), seed=8)
    seen = real.images.tensor()
    slides = real.images.column("group")
    realism = Realism.of(seen[:40], real.images.ids[:40], groups=slides[:40])
    assert (realism.distance(seen[40:], real.images.ids[40:]) <= 1).mean() > 0.8
    assert (realism.distance(seen[:40], real.images.ids[:40]) <= 1).mean() > 0.95
    strange = (1 - seen[:10], seen[:10] + 0.3 * torch.randn(10, 3, 48, 48, generator=torch.Generator().manual_seed(0)))
    for images in strange:
        assert (realism.distance(images, real.images.ids[:10]) > 1).all()


def test_edits_together_share_out_the_change_of_the_score():
    def both(images):
        return bright_middle(images) + 0.5 * bright_area(images)

    table = edit_shares(
        both, CASES, ["brighten(amount=0.1)", "resize_object(factor=1.25)", "replace_background"], draws=6
    )
    rows = {row["interpretation"]: row for row in table.to_pylist()}
    assert rows["together"]["share"] > 0.5
    parts = [row["share"] for name, row in rows.items() if name != "together"]
    assert sum(parts) == pytest.approx(rows["together"]["share"])
    assert rows["replace_background"]["share"] < 0.1
    assert rows["brighten(amount=0.1)"]["low"] > 0.05


def test_sign_flips_are_exact_where_few_and_calibrated_where_many():
    assert mean_p_value([1.0, 1.0, 1.0, 1.0]) == pytest.approx(2 / 16)
    assert mean_p_value([1.0, 1.0, 1.0, 1.0], side="above") == pytest.approx(1 / 16)
    assert mean_p_value([-1.0, -1.0, -1.0], side="above") == 1
    assert np.isnan(mean_p_value([1.0, 2.0]))
    rng = np.random.default_rng(0)
    ps = [mean_p_value(rng.standard_normal(30) + rng.standard_normal(10).repeat(3), groups=np.arange(30) // 3, draws=499)
          for _ in range(500)]  # fmt: skip
    assert 0.025 <= np.mean(np.array(ps) <= 0.05) <= 0.08
