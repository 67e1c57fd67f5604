"""Figures and the section of counterfactuals: the gate's verdict is on every one, and closed gates show no image."""

from types import SimpleNamespace

import pyarrow as pa
import pytest
import torch
from torch import nn

from pellucid.counterfactual import counterfactual, faithful_autoencoder, gate
from pellucid.errors import ShapeError
from pellucid.images import ImageRecord
from pellucid.models import Model
from pellucid.show.counterfactual import difference_colours, plot_counterfactuals, plot_strip, view_of
from pellucid.show.counterfactuals import counterfactual_content
from pellucid.show.picture import address, outline_path, rgb
from pellucid.show.report import _environment
from pellucid.show.view import View
from pellucid.study.counterfactual_pairs import MASKS
from pellucid.study.counterfactual_tables import IMAGES


def found_in(*shape):
    torch.manual_seed(0)
    x = torch.rand(12, *shape)
    model = Model(nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 2)), classes=("a", "b"), task="classification")
    fitted = faithful_autoencoder(steps=3, width=4, latents=3, batch_size=4).fit(x, model)
    verdict = gate(fitted, model, x, search="latent_optimisation(steps=2)")
    return counterfactual(model, x[:3], generator=fitted, gate=verdict, doses=3, search="latent_optimisation(steps=2)")


@pytest.mark.parametrize("shape", [(2, 20), (1, 12, 12), (3, 12, 14), (1, 8, 9, 10)])
def test_strips_of_any_number_of_axes_carry_the_verdict_and_every_score(shape):
    found = found_in(*shape)
    figure = found.plot(most=2)
    texts = [axes.get_xlabel() for axes in figure.axes]
    for row in range(2):
        for place, dose in enumerate(found.doses):
            assert f"{dose:g}: {float(found.scores[row, place]):.2f}" in texts
    assert figure.get_suptitle() == str(found.gate)
    assert not found.gate.passed
    assert figure.get_suptitle().startswith("gate closed, do not read")
    assert "2 of 3 images (the first rows)" in figure.get_supxlabel()
    assert len(plot_strip(found, doses=(-1, 0, 1), rows=[2]).axes) == 4
    with pytest.raises(ShapeError, match="no row"):
        plot_counterfactuals(found, rows=[5])


def test_a_difference_is_red_where_it_is_brighter_and_blue_where_it_is_darker():
    change = torch.zeros(2, 4, 4)
    change[:, 0, 0], change[:, 3, 3] = 0.2, -0.1
    colours = difference_colours(change, View())
    assert colours[1, 1].tolist() == [255, 255, 255]
    assert colours[0, 0].tolist() == [166, 50, 0]
    assert colours[3, 3, 2] > colours[3, 3, 0]
    volume = torch.zeros(1, 5, 4, 4)
    volume[0, 3] = 1
    assert view_of(volume, ImageRecord("CZYX", ("0",))).index == (3,)


def answered(*, passed):
    row = {"image": "im1", "source": "a", "target": "b", "status": "reached", "start": -1.0, "score": 1.0, "goal": 0.0, "strain": 0.5,
           "length": 1.0, "reason": "class b", "strip": 0}  # fmt: skip
    lost = row | {"image": "im<2>", "status": "not reached", "reason": "no valid counterfactual", "strip": None}
    check = {"name": "class_agreement", "meaning": "m", "value": 0.95 if passed else 0.5, "limit": 0.9, "rising": True, "real": None,
             "low": 0.9, "high": 1.0, "n": 40, "passed": passed}  # fmt: skip
    doses = [
        {"image": "im1", "target": "b", "dose": d, "score": d, "strain": 0.5 * d * d, "spearman": 1.0}
        for d in (-1.0, 0.0, 2.0)
    ]
    score = {"score": "validity", "model": "seed 1", "value": 0.9, "low": 0.8, "high": 1.0, "n": 10, "groups": 10}
    tensors = {
        "images": torch.rand(2, 3, 8, 8),
        "changed": torch.rand(2, 3, 8, 8),
        "strips": torch.rand(1, 3, 3, 8, 8).half(),
    }
    return SimpleNamespace(
        config=SimpleNamespace(counterfactual=SimpleNamespace(generator="faithful_autoencoder")), findings=[],
        images=SimpleNamespace(record=ImageRecord("CYX", ("r", "g", "b"))), tensors=lambda name: tensors,
        tables={"counterfactual_gate": pa.Table.from_pylist([check]), "counterfactuals": pa.Table.from_pylist([row, lost]),
                "counterfactual_doses": pa.Table.from_pylist(doses), "counterfactual_scores": pa.Table.from_pylist([score])},
    )  # fmt: skip


def beside(study, **changes):
    """The same study with two explained images and their nearest real cases."""
    row = {"source": "a", "target": "b", "image": "im1", "called": 0, "space": "embedding", "rank": 1, "counterfactual": "im7",
           "counterfactual_called": 1, "distance": 0.9, "own_kind_distance": 0.3, "tied": 0, "reason": "", "confidence": 0.97,
           "counterfactual_confidence": 0.61, "among": 30} | changes  # fmt: skip
    lost = row | {
        "image": "im2",
        "counterfactual": None,
        "reason": "every image that is called otherwise is of the same group",
    }
    farther = row | {"target": "c", "counterfactual": "im9", "distance": row["distance"] + 1}
    study.tables["counterfactual_natural"] = pa.Table.from_pylist([farther, row, lost])
    pixels = {"im1": torch.zeros(3, 8, 8), "im7": torch.ones(3, 8, 8)}
    study.images.load = pixels.__getitem__
    return study


def masked(study, size=0.0625):
    """The same study with the smallest part of its one valid change."""
    masks = torch.zeros(1, 8, 8)
    masks[0, 2:4, 4:6] = 1
    shared = {"image": "im1", "source": "a", "target": "b", "area": 0.91, "size": size}
    rows = [
        shared | {"map": "difference", "chosen": False, "mask": None},
        shared | {"map": "discriminative", "chosen": True, "mask": 0},
    ]
    study.tables["counterfactual_masks"] = pa.Table.from_pylist(rows)
    kept = {IMAGES: study.tensors(IMAGES), MASKS: {"masks": masks, "hybrids": torch.rand(1, 3, 8, 8)}}
    study.tensors = kept.__getitem__
    return study


def measured(study):
    """The same study with an area that grows, a texture that does what it likes, and an intensity that one dose lost."""
    shared = {"source": "a", "target": "b", "same": "", "unit": "", "spread": 2.0, "groups": 5, "unmeasured": 1}
    medians = [("AreaShape_Area", 1.46, 0.9, 2.0, 6), ("Texture_Contrast", -2.0, -4.0, 0.1, 6), ("AreaShape_Solidity", -0.5, None, None, 1),
               ("Intensity_MeanIntensity_r", -0.7, -1.0, -0.2, 6)]  # fmt: skip
    study.tables["counterfactual_phenotypes"] = pa.Table.from_pylist([
        shared | {"phenotype": name, "median": median, "low": low, "high": high, "n": n} for name, median, low, high, n in medians
    ])  # fmt: skip
    doses = {"AreaShape_Area": (100.0, 112.0, 1240.0), "Intensity_MeanIntensity_r": (0.5, 0.4, None)}
    study.tables["counterfactual_measures"] = pa.Table.from_pylist([
        {"image": "im1", "source": "a", "target": "b", "dose": dose, "phenotype": name, "same": "", "unit": "", "value": value,
         "change": None if value is None else (value - values[1]) / 10}
        for name, values in doses.items() for dose, value in zip((-1.0, 0.0, 2.0), values, strict=True)
    ])  # fmt: skip
    return study


def drawn(study):
    environment = _environment()
    template = environment.from_string('{% import "macros.html.j2" as draw %}{% include "counterfactual.html.j2" %}')
    return template.render(content=counterfactual_content(study))


def test_an_open_gate_shows_strips_pairs_matrix_and_refusals():
    page = drawn(answered(passed=True))
    assert page.count("<img") == 3 + 3
    assert "Gate passed" in page
    assert "1/2" in page
    assert "im&lt;2&gt;" in page
    assert page.count("2px solid #a63200") == 1  # dose 2 alone lies outside
    assert "0.95 [0.9, 1]" in page
    assert "seed 1" in page


def test_a_closed_gate_shows_no_image():
    page = drawn(answered(passed=False))
    assert "<img" not in page
    assert "Gate closed" in page


def test_real_cases_are_shown_before_the_gate_also_when_it_is_closed():
    page = drawn(beside(answered(passed=False)))
    real, made = page.split("Gate closed")
    assert real.count("<img") == 2
    assert "<img" not in made
    assert "97 % sure" in real
    assert "61 % sure" in real
    assert "im7" in real
    assert "im9" not in real  # farther away: only the nearest over all other answers is shown
    assert "0.9 away, 3 times as far as the nearest of its own answer (0.3)" in real
    assert "n = 1 of 1" in real
    assert (
        "For 1 of the images and other answers there is none: every image that is called otherwise is of the same group."
        in real
    )
    assert "only one of them may matter" in real


def test_real_cases_stand_alone_where_no_generator_could_be_fitted():
    study = beside(answered(passed=True))
    study.tables = {name: table for name, table in study.tables.items() if name == "counterfactual_natural"}
    page = drawn(study)
    assert page.count("<img") == 2
    assert "Nothing was changed" in page
    assert "Gate" not in page


def test_real_cases_of_signals_are_told_in_a_table():
    study = beside(answered(passed=False), own_kind_distance=None)
    study.images.record = ImageRecord("CX", ("ecg",))
    page = drawn(study)
    assert "<img" not in page
    assert "<td>im7</td>" in page
    assert "no other image of its own answer to compare with" in page


def test_a_pair_shows_the_part_that_is_enough_with_its_rim_and_its_share():
    study = masked(answered(passed=True))
    page = drawn(study)
    assert page.count("<img") == 3 + 4
    assert f'd="{outline_path(study.tensors(MASKS)["masks"][0])}"' in page
    assert "enough: 6.2 % of the image" in page
    assert "area 0.91" in page
    assert "only all of it is enough" in drawn(masked(answered(passed=True), size=None))
    assert page.count('class="enough"') == 1
    assert "<img" not in drawn(masked(answered(passed=False)))


def test_volumes_are_seen_in_the_plane_that_holds_most_of_the_change():
    study = masked(beside(answered(passed=True)))
    study.images.record = ImageRecord("CZYX", ("g",))
    before, after = torch.zeros(1, 5, 8, 8), torch.zeros(1, 5, 8, 8)
    after[:, 3] = 1
    study.images.load = {"im1": before, "im7": after}.__getitem__
    masks = torch.zeros(1, 5, 8, 8)
    masks[0, 2, 1:3, 1:3] = 1
    kept = {
        IMAGES: {"images": torch.stack([before] * 2), "changed": torch.stack([after] * 2), "strips": torch.rand(1, 3, 1, 5, 8, 8)},
        MASKS: {"masks": masks, "hybrids": after[None]},
    }  # fmt: skip
    study.tensors = kept.__getitem__
    page = drawn(study)
    assert page.count("<img") == 2 + 3 + 4
    white = address(rgb(torch.ones(1, 8, 8), (0.0, 1.0)))
    assert page.count(white) == 2  # the real case and the changed image, in slice 4
    assert f'd="{outline_path(masks[0, 2])}"' in page


def test_the_matrix_has_an_arrow_for_what_surely_changes_and_none_for_the_rest():
    page = drawn(measured(answered(passed=True)))
    matrix = page[page.index('class="heat"') : page.index("Every measured phenotype")]
    assert "↑ area 1.5 SD (n = 6)" in matrix
    assert "↓ mean r intensity 0.7 SD (n = 6)" in matrix
    assert "contrast" not in matrix
    assert "solidity" not in matrix
    assert "-2 [-4, 0.1]" in page
    assert "-0.5 (no interval)" in page
    assert "↑" not in drawn(answered(passed=True))


def test_a_dial_stands_under_each_image_of_its_strip_with_value_and_spreads():
    page = drawn(measured(answered(passed=True)))
    strip = page[page.index("The change in doses") : page.index("Before, after, difference")]
    assert strip.index("area (px²)") < strip.index("mean r intensity")
    assert "−1.2 SD" in strip
    assert "1240" in strip
    assert "+112.8 SD" in strip
    assert "rgba(240,160,122,1.00)" in strip
    assert "In effect 1 of 2 measured phenotypes change" in strip
    assert "not measured" not in strip
    lost = measured(answered(passed=True))
    table = lost.tables["counterfactual_measures"].to_pylist()
    lost.tables["counterfactual_measures"] = pa.Table.from_pylist(
        [row | ({"value": None, "change": None} if row["dose"] == 2 else {}) for row in table]
    )
    assert "At 1 of 3 doses no object could be outlined: not measured." in drawn(lost)


def test_why_nothing_was_measured_is_said():
    study = answered(passed=True)
    study.findings = [
        {"id": "counterfactual-phenotypes", "statement": "What changes is not told: signals have no outline."}
    ]
    assert "signals have no outline" in drawn(study)


def test_a_study_that_did_not_ask_has_no_section():
    study = answered(passed=True)
    study.config.counterfactual = None
    assert counterfactual_content(study) is None
