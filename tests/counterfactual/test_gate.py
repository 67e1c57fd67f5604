"""The gate lets the generator that knows the world through, and closes on every one that is known to be bad."""

import math

import pytest
import torch

from pellucid.counterfactual import Check, counterfactual, gate
from pellucid.errors import ShapeError
from pellucid.models import Model


def verdict(world, flaw, model=None, **settings):
    model = world.model if model is None else model
    fitted = world.oracle(flaw=flaw).fit(world.images, model)
    return gate(fitted, model, world.held_out, training=world.images, **settings)


def test_the_gate_opens_for_the_generator_that_knows_the_world(world):
    assert world.gate.passed
    assert world.gate.failed == ()
    assert {check.name for check in world.gate.checks} == {
        "class_agreement", "score_correlation", "support", "realism", "grain", "off_target", "composition", "stability",
    }  # fmt: skip
    assert all(check.real is None or check.real > 0 for check in world.gate.checks)
    assert str(world.gate) == "gate passed: 8 checks on 80 held-out images"


@pytest.mark.parametrize(
    ("flaw", "seen"),
    [
        ("constant", {"class_agreement", "score_correlation"}),
        ("shuffled", {"class_agreement", "score_correlation"}),
        ("blurred", {"class_agreement", "score_correlation"}),
    ],
)
def test_bad_generators_are_rejected_for_what_is_wrong_with_them(world, flaw, seen):
    found = verdict(world, flaw)
    assert not found.passed
    assert seen <= {check.name for check in found.failed}
    assert str(found).startswith("gate closed")


def test_a_decoder_that_hides_the_answer_in_noise_is_rejected_though_the_model_agrees(world):
    found = verdict(world, "adversarial", world.reader(world.brittle))
    assert found["class_agreement"].passed
    assert found["score_correlation"].passed
    assert "grain" in {check.name for check in found.failed}


@pytest.mark.parametrize("attack", ["pixel_attack", "pixel_attack(steps=1)", "pixel_attack(bound=0.02)"])
def test_an_attack_on_the_pixels_is_rejected_though_it_changes_the_answer(world, attack):
    brittle = world.reader(world.brittle)
    found = verdict(world, "", brittle, search=attack)
    assert not found.passed
    assert not found["grain"].passed
    got = counterfactual(brittle, world.held_out[:8], search=attack, generator=world.fitted, gate=found)
    assert got.flipped.all()
    assert not got.gate.passed


def test_a_model_of_numbers_is_tried_without_classes(world):
    found = verdict(world, "", Model(world.Reader(outputs=1), task="regression"))
    assert found.passed, found
    assert "class_agreement" not in {check.name for check in found.checks}


def test_the_verdict_does_not_depend_on_the_batch(world):
    again = gate(world.fitted, world.model, world.held_out, training=world.images, batch_size=7)
    for mine, other in zip(world.gate.checks, again.checks, strict=True):
        assert mine.name == other.name
        assert math.isclose(mine.value, other.value, abs_tol=1e-3)


def test_what_cannot_be_told_is_a_failure():
    assert not Check("a", "b", float("nan"), 0.5, rising=True).passed
    assert not Check("a", "b", float("nan"), 0.5, rising=False).passed
    assert "FAILED a nan" in str(Check("a", "b", float("nan"), 0.5, rising=True))


def test_few_images_are_refused(world):
    with pytest.raises(ShapeError, match="8 held-out images or more"):
        gate(world.fitted, world.model, world.held_out[:5])
    with pytest.raises(ShapeError, match="8 images or more"):
        gate(world.fitted, world.model, world.held_out, training=world.images[:3])


def test_the_support_is_the_envelope_of_the_training_images(world):
    support = world.gate.support
    inside = support.distance(world.fitted.encode(world.images)) <= 1
    assert abs(float(inside.float().mean()) - 0.99) < 0.01
    whitened = (support.latents - support.centre) @ support.whiten
    torch.testing.assert_close(torch.cov(whitened.T, correction=0), torch.eye(6), atol=1e-3, rtol=0)
    far = world.paint(torch.full((1, 6), 6.0))
    assert float(support.strain(world.fitted, far)) > 1.5
    noise = world.held_out[:1] + 0.5 * torch.rand(1, 1, 24, 24)
    assert float(support.strain(world.fitted, noise)) > 1.5
