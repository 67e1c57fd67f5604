"""Counterfactuals in a world where the right one is known: only the first blob may change."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from pellucid.counterfactual import Exaggeration, counterfactual
from pellucid.errors import BadTarget, CannotExplain, ShapeError
from pellucid.models import Model
from pellucid.models.targets import Class, Output, Similarity


@pytest.fixture(scope="module")
def found(world):
    return counterfactual(world.model, world.held_out[:24], generator=world.fitted, gate=world.gate, margin=0.5)


def test_every_image_crosses_and_the_model_says_so_of_the_shown_image(world, found):
    said = world.model.network(found.changed).argmax(1)
    assert torch.equal(said, 1 - world.model.network(found.images).argmax(1))
    assert found.valid.all()
    assert found.flipped.all()
    torch.testing.assert_close(found.scores[:, -1], (found.after * torch.eye(2)[said]).sum(1) * 2)


def test_only_what_the_model_reads_is_changed_and_no_more_than_needed(world, found):
    step = found.move.step
    assert (step[:, 1:].abs().amax(1) < 0.15 * step[:, 0].abs()).all()
    least = world.z_out[:24, 0].abs() + 0.5  # the border, and half a spread of the score past it
    assert (step[:, 0].abs() < least + 0.2).all()
    assert (step[:, 0].abs() > least - 0.2).all()


def test_the_change_is_pasted_on_the_real_image(world, found):
    moved = world.paint(world.z_out[:24] + found.move.step) - world.paint(world.z_out[:24])
    torch.testing.assert_close(found.changed - found.images, moved, atol=1e-5, rtol=0)


def test_the_path_begins_at_the_image_and_rises_with_the_dose(found):
    assert torch.equal(found.path[:, 0], found.images)
    assert torch.equal(found.path[:, -1], found.changed)
    assert (found.scores.diff(dim=1) > 0).all()
    torch.testing.assert_close(found.scores[:, 4], found.scores[:, [0, 8]].mean(1), atol=1e-3, rtol=0)


def test_row_i_alone_equals_row_i_in_a_batch_and_does_not_depend_on_the_order(world, found):
    one = counterfactual(world.model, world.held_out[7:8], generator=world.fitted, gate=world.gate, margin=0.5)
    torch.testing.assert_close(one.changed[0], found.changed[7], atol=1e-5, rtol=0)
    turned = counterfactual(
        world.model, world.held_out[:24].flip(0), generator=world.fitted, gate=world.gate, batch_size=5, margin=0.5
    )
    torch.testing.assert_close(turned.changed.flip(0), found.changed, atol=1e-5, rtol=0)


def test_without_a_margin_it_goes_as_far_as_the_median_image_of_the_class(world):
    got = counterfactual(world.model, world.held_out[:24], generator=world.fitted, gate=world.gate)
    known = (world.model.network(world.images) @ torch.tensor([[1.0, -1.0], [-1.0, 1.0]])).T  # of dark, of bright
    for target in range(2):
        rows = got.after.argmax(1) == target
        typical = known[target][known[target] > 0].median()
        assert (got.scores[rows, -1] >= typical - 1e-4).all()
        assert float(got.scores[rows, -1].median()) < 1.2 * float(typical)


def test_the_support_ends_where_no_training_image_lies_along_the_way(world, found):
    axis = torch.zeros_like(found.move.step)
    axis[:, 0] = 1.0
    move = replace(found.move, step=axis, z=torch.zeros_like(axis))
    rows = torch.arange(len(axis))
    strain = [float(move.strain(dose, rows, found.images).median()) for dose in (1.0, 4.0)]
    low, high = world.z[:, 0].quantile(0.005), world.z[:, 0].quantile(0.995)
    expected = (4.0 - (low + high) / 2) / ((high - low) / 2)
    assert strain[0] <= 1 < strain[1]
    assert strain[1] == pytest.approx(float(expected), rel=0.1)


def test_the_strip_is_judged_where_real_images_vouch_for_it():
    doses, scores = (-2.0, -1.0, 0.0, 1.0, 2.0), torch.tensor([[9.0, -1, 0, 1, 2], [0.0, 1, 2, 3, 4]])
    strain = torch.tensor([[1.2, 0.9, 0.5, 0.9, 1.0], [2.0, 1.1, 0.5, 0.9, 1.1]])
    strip = Exaggeration.of(doses, torch.zeros(2, 5, 1, 8, 8), scores, strain)
    assert strip.limits == [(-1.0, 2.0), (0.0, 1.0)]
    assert float(strip.spearman[0]) == pytest.approx(1)
    assert strip.spearman[1].isnan()  # two doses are no rank


def test_the_exaggerated_strip_goes_the_other_way_too_and_marks_the_support(found):
    strip = found.exaggerate((-3, -1, 0, 0.5, 1, 3, 12))
    assert torch.equal(strip.images[:, 2], found.images)
    assert (strip.scores.diff(dim=1) > -1e-4).all()  # an image that is at an end stays there
    judged = ~strip.spearman.isnan()
    assert judged.float().mean() > 0.8
    assert (strip.spearman[judged] > 0.9).all()
    assert all(high < 12 for _, high in strip.limits)
    assert all(low <= 0 <= high for low, high in strip.limits)
    with pytest.raises(ShapeError, match="three doses or more that rise"):
        found.exaggerate((0, 1))


def test_one_class_a_row_by_name_and_those_that_are_there(world):
    x = world.held_out[:6]
    got = counterfactual(world.model, x, target="bright", generator=world.fitted, gate=world.gate)
    there = world.model.network(x).argmax(1) == 1
    assert [status == "already there" for status in got.status] == there.tolist()
    assert torch.equal(got.changed[there], x[there])
    assert "as it is" in got.reasons[int(there.nonzero()[0])]
    assert (got.after.argmax(1) == 1).all()


def test_one_logit_and_many_classes(world):
    single = Model(world.Reader(outputs=1), classes=("bright",), task="classification")
    got = counterfactual(single, world.held_out[:6], generator=world.fitted, gate=world.gate_of(single))
    assert ((got.before > 0) != (got.after > 0)).all()
    many = Model(_Three(), classes=("a", "b", "c"), task="classification")
    for target in range(3):
        got = counterfactual(many, world.held_out[:9], target=target, generator=world.fitted, gate=world.gate_of(many))
        assert (got.after.argmax(1) == target).all()


def test_a_value_of_a_regression_from_both_sides(world):
    number = Model(world.Reader(outputs=1), task="regression")
    gate = world.gate_of(number)
    got = counterfactual(number, world.held_out[:8], target=Output(0), value=0.5, generator=world.fitted, gate=gate)
    ways = torch.sign(0.5 - got.before[:, 0])
    assert ((got.after[:, 0] - 0.5) * ways >= 0).all()
    assert ((got.after[:, 0] - 0.5).abs() < 0.4).all()
    with pytest.raises(BadTarget, match="value="):
        counterfactual(number, world.held_out[:2], generator=world.fitted, gate=gate)


def test_a_value_of_an_embedding(world):
    torch.manual_seed(0)
    net = nn.Sequential(_Centred(), nn.Linear(24 * 24, 8, bias=False), nn.Tanh(), nn.Linear(8, 2))
    model = Model(net, classes=("a", "b"), embedding="2", task="classification")
    aim = Similarity(net[:3](world.held_out[40:41])[0].detach())
    got = counterfactual(
        model, world.held_out[:8], target=aim, value=0.9, generator=world.fitted, gate=world.gate_of(model)
    )
    rises = got.scores[:, -1] > got.scores[:, 0]
    assert torch.equal(rises, got.scores[:, 0] < 0.9)
    assert got.flipped.float().mean() > 0.8


def test_no_counterfactual_is_an_outcome(world):
    blind = Model(_Constant(), classes=("a", "b"), task="classification")
    gate = world.gate_of(blind)
    got = counterfactual(blind, world.held_out[:3], generator=world.fitted, gate=gate)
    assert got.status == ("not reached",) * 3
    assert "no valid counterfactual" in got.reasons[0]
    assert not got.valid.any()
    assert not gate.passed
    far = counterfactual(
        Model(world.Reader(outputs=1), task="regression"), world.held_out[:3], target=0, value=30.0,
        generator=world.fitted, gate=world.gate,
    )  # fmt: skip
    assert set(far.status) <= {"outside the support", "not reached"}


def test_black_boxes_are_searched_by_forward_calls_alone(world):
    def opaque(x):
        with torch.no_grad():
            return world.model.network(x.detach())

    model = Model(opaque, classes=("dark", "bright"), task="classification")
    gate = world.gate_of(model)
    assert gate.passed, gate
    got = counterfactual(model, world.held_out[:24], generator=world.fitted, gate=gate)
    assert got.search == "proxy_line"
    assert got.valid.float().mean() > 0.9
    step = got.move.step.abs()
    assert (step[:, 0] > 3 * step[:, 1:].mean(1)).float().mean() > 0.8
    with pytest.raises(CannotExplain):
        counterfactual(model, world.held_out[:2], search="latent_optimisation", generator=world.fitted, gate=gate)


def test_preprocessing_is_followed(world):
    class Shifted(nn.Module):
        def forward(self, x):
            return world.model.network(x / 255)

    model = Model(Shifted(), classes=("dark", "bright"), preprocess=lambda x: 255 * x, task="classification")
    got = counterfactual(model, world.held_out[:6], generator=world.fitted, gate=world.gate)
    plain = counterfactual(world.model, world.held_out[:6], generator=world.fitted, gate=world.gate)
    torch.testing.assert_close(got.changed, plain.changed, atol=1e-3, rtol=0)


def test_what_does_not_fit_is_refused(world):
    given = {"generator": world.fitted, "gate": world.gate}
    with pytest.raises(ShapeError, match="at least one image"):
        counterfactual(world.model, world.held_out[:0], **given)
    with pytest.raises(ShapeError, match="one id an image"):
        counterfactual(world.model, world.held_out[:2], ids=["a"], **given)
    with pytest.raises(ShapeError, match="two doses"):
        counterfactual(world.model, world.held_out[:2], doses=1, **given)
    with pytest.raises(BadTarget, match="no class 'grey'"):
        counterfactual(world.model, world.held_out[:2], target="grey", **given)
    with pytest.raises(BadTarget, match="value="):
        counterfactual(world.model, world.held_out[:2], target=Output(0), **given)
    assert counterfactual(world.model, world.held_out[:2], target=Class(1), **given).aim.words[0] == "class bright"


class _Three(nn.Module):
    def __init__(self):
        super().__init__()
        y, x = torch.meshgrid(torch.arange(24), torch.arange(24), indexing="ij")
        places = [(6, 6), (6, 17), (17, 6)]
        self.register_buffer(
            "near", torch.stack([(-((y - a) ** 2 + (x - b) ** 2) / 20).exp().flatten() for a, b in places])
        )

    def forward(self, x):
        return (x - 0.5).flatten(1) @ self.near.T


class _Centred(nn.Module):
    def forward(self, x):
        return (x - 0.5).flatten(1)


class _Constant(nn.Module):
    def forward(self, x):
        return torch.stack([x.sum((1, 2, 3)) * 0 + 1, x.sum((1, 2, 3)) * 0], 1)


def test_a_larger_margin_goes_further(world):
    near, far = (
        counterfactual(world.model, world.held_out[:8], margin=margin, generator=world.fitted, gate=world.gate)
        for margin in (0.1, 1.0)
    )
    assert (near.scores[:, -1] < far.scores[:, -1]).all()
    assert near.flipped.all()
    with pytest.raises(ShapeError, match="0 or more"):
        counterfactual(world.model, world.held_out[:2], margin=-1, generator=world.fitted, gate=world.gate)
