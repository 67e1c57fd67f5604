"""Figures and the section of counterfactuals: the gate's verdict is on every one, and closed gates show no image."""

from types import SimpleNamespace

import pyarrow as pa
import pytest
import torch
from torch import nn

from pellucid.counterfactual import faithful_autoencoder, counterfactual, gate
from pellucid.errors import ShapeError
from pellucid.images import ImageRecord
from pellucid.models import Model
from pellucid.show.counterfactual import difference_colours, plot_counterfactuals, plot_strip, view_of
from pellucid.show.counterfactuals import counterfactual_content
from pellucid.show.report import _environment
from pellucid.show.view import View


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
    doses = [{"image": "im1", "target": "b", "dose": d, "score": d, "strain": 0.5 * d * d, "spearman": 1.0} for d in (-1.0, 0.0, 2.0)]
    score = {"score": "validity", "model": "seed 1", "value": 0.9, "low": 0.8, "high": 1.0, "n": 10, "groups": 10}
    tensors = {"images": torch.rand(2, 3, 8, 8), "changed": torch.rand(2, 3, 8, 8), "strips": torch.rand(1, 3, 3, 8, 8).half()}
    return SimpleNamespace(
        config=SimpleNamespace(counterfactual=SimpleNamespace(generator="faithful_autoencoder")),
        images=SimpleNamespace(record=ImageRecord("CYX", ("r", "g", "b"))), tensors=lambda name: tensors,
        tables={"counterfactual_gate": pa.Table.from_pylist([check]), "counterfactuals": pa.Table.from_pylist([row, lost]),
                "counterfactual_doses": pa.Table.from_pylist(doses), "counterfactual_scores": pa.Table.from_pylist([score])},
    )  # fmt: skip


def drawn(study):
    environment = _environment()
    template = environment.from_string('{% import "macros.html.j2" as draw %}{% include "counterfactual.html.j2" %}')
    return template.render(counterfactual_content(study))


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


def test_a_study_that_did_not_ask_has_no_section():
    study = answered(passed=True)
    study.config.counterfactual = None
    assert counterfactual_content(study) is None
