"""Augmentation robustness: an equivariant explainer on an equivariant model is perfect, whatever the change."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from pellucid import Model, explain
from pellucid.attribution import Attribution, Method, Taxonomy
from pellucid.attribution.controls import edge_map
from pellucid.attribution.gradient import gradient, input_x_gradient
from pellucid.evaluation import evaluate
from pellucid.evaluation.transforms import TRANSFORMS, warp
from pellucid.models import Normalise, targets

NAMES = list(TRANSFORMS)


class Steady(nn.Module):
    """Always the same answer, with a gradient that is nought."""

    def forward(self, x):
        return torch.tensor([1.0, 0.0]).to(x) + 0 * x.flatten(1).sum(1, keepdim=True)


@dataclass(frozen=True, kw_only=True, repr=False)
class itself(Method):
    """Returns the image, which moves with the image."""

    taxonomy: ClassVar[Taxonomy] = Taxonomy(family="gradient", question="?", cost="0", reference="none")

    def attribute(self, call):
        return Attribution(call.inputs)


@dataclass(frozen=True, kw_only=True, repr=False)
class fixed(Method):
    """Returns the same map for every image."""

    taxonomy: ClassVar[Taxonomy] = Taxonomy(family="gradient", question="?", cost="0", reference="none")

    def attribute(self, call):
        one = torch.rand(call.inputs[0].shape[1:], generator=torch.Generator().manual_seed(0))
        return Attribution((one.expand_as(call.inputs[0]).clone(),))


def _score(net, x, method, text):
    return evaluate(net, x, explain(net, x, method), text).table["value"].to_pylist()


@pytest.mark.parametrize("shape", [(2, 24), (3, 16, 12), (1, 8, 6, 9)], ids=["1-D", "2-D", "3-D"])
def test_a_map_that_moves_with_the_image_is_as_steady_as_a_model_that_never_moves(shape):
    x = torch.rand(2, *shape)
    moving = [name for name in NAMES if name not in {"hue", "saturation"} and TRANSFORMS[name].fits(x)]
    for name in moving:
        text = f'augmentation_robustness(transforms=("{name}",))'
        assert _score(Steady(), x, itself(), text) == pytest.approx([1.0, 1.0], abs=1e-3)


@pytest.mark.parametrize("name", ["rotation", "translation", "scale"])
def test_a_map_that_stays_while_the_image_moves_is_found_out(name):
    x = torch.rand(3, 1, 16, 16)
    text = f'augmentation_robustness(transforms=("{name}",))'
    assert max(_score(Steady(), x, fixed(), text)) < 0.75
    light = 'augmentation_robustness(transforms=("brightness",))'
    assert _score(Steady(), x, fixed(), light) == pytest.approx([1.0] * 3, abs=1e-6)


def test_the_score_is_relative_to_the_models_own_change(kit):
    net, x = kit.linear((1, 8, 8)), torch.rand(4, 1, 8, 8)
    net[1].weight.mul_(0.01)  # a gradient that stays, and a probability that moves a little
    found = _score(net, x, gradient(), 'augmentation_robustness(transforms=("brightness",), steps=1)')
    before = net(x).softmax(1)
    own = before.argmax(1, keepdim=True)
    expected = torch.zeros(4)
    for sign in (-1, 1):
        spread = (x.flatten(1).amax(1) - x.flatten(1).amin(1)).view(4, 1, 1, 1)
        after = net(x + sign * 0.4 * spread).softmax(1).gather(1, own)[:, 0]
        pair = torch.stack([before.gather(1, own)[:, 0], after])
        expected += 0.5 / ((1 + pair.amin(0) / pair.amax(0)) / 2)
    assert found == pytest.approx(expected.tolist(), abs=1e-5)


def test_strengths_at_which_the_model_gives_way_are_left_out(kit):
    net, x = kit.linear((1, 8, 8)), torch.rand(2, 1, 8, 8)
    net[1].weight.copy_(torch.tensor([1.0, 0.0, 0.0])[:, None].expand(3, 64))  # the score is the brightness
    net[1].bias.zero_()
    explained = explain(net, x, gradient(), targets.Contrast(0, 1))
    score = evaluate(net, x, explained, 'augmentation_robustness(transforms=("brightness",))')
    assert score.table["value"].null_count == 2
    assert "changes too much" in score.table["reason"][0].as_py()


def test_changed_images_are_answered_once_for_all_methods(kit):
    net, x = kit.convolutional().eval().requires_grad_(False), torch.rand(2, 2, 10, 10)
    maps = [explain(net, x, method) for method in (gradient(), input_x_gradient())]
    text = 'augmentation_robustness(transforms=("translation",), steps=1)'
    one, two = (evaluate(net, x, some, text) for some in (maps[:1], maps))
    assert one.backwards == 4
    assert two.backwards == 8
    assert two.forwards - one.forwards <= 4  # only what the second method itself asks for


def test_colours_change_in_the_images_own_units():
    x = torch.rand(2, 3, 8, 8)
    plain, model = Steady(), Model(Steady(), preprocess=Normalise((0.5, 0.2, 0.3), (0.1, 0.4, 0.2)))
    text = 'augmentation_robustness(transforms=("saturation", "hue"), similarity="cosine")'
    assert _score(plain, x, itself(), text) != pytest.approx(_score(model, x, itself(), text), abs=1e-3)
    turned = TRANSFORMS["hue"].apply(x, 1.0)
    assert torch.allclose(turned.mean(1), x.mean(1), atol=1e-6)
    assert torch.allclose(TRANSFORMS["hue"].apply(turned, -1.0), x, atol=1e-6)
    assert torch.allclose(TRANSFORMS["saturation"].apply(x, -1.0) - x.mean(1, keepdim=True),
                          0.6 * (x - x.mean(1, keepdim=True)), atol=1e-6)  # fmt: skip


def test_translation_is_by_whole_pixels_and_a_quarter_turn_is_a_rotation():
    x = torch.rand(1, 2, 8, 8)
    moved = TRANSFORMS["translation"].apply(x, 0.5)  # 0.2 of 8, two pixels
    assert torch.allclose(moved[..., :-2], x[..., 2:], atol=1e-6)
    quarter = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    assert torch.allclose(warp(x, quarter), x.rot90(1, (2, 3)), atol=1e-5) or torch.allclose(
        warp(x, quarter), x.rot90(-1, (2, 3)), atol=1e-5
    )
    line = torch.rand(2, 1, 10)
    assert torch.allclose(TRANSFORMS["translation"].apply(line, 0.5)[..., :-2], line[..., 2:], atol=1e-6)


def test_what_cannot_be_changed_so_says_why():
    net, x = Steady(), torch.rand(2, 1, 8, 8)
    found = evaluate(net, x, explain(net, x, itself()), 'augmentation_robustness(transforms=("hue", "saturation"))')
    assert "cannot be done to inputs of shape (1, 8, 8)" in found.table["reason"][0].as_py()
    control = evaluate(net, x, explain(net, x, edge_map()), "augmentation_robustness")
    assert "never looks at the model" in control.table["reason"][0].as_py()


def test_a_score_that_is_no_class_is_held_against_its_own_size(kit):
    net, x = kit.linear((1, 8, 8), classes=2), torch.rand(2, 1, 8, 8)
    net[1].bias.add_(torch.tensor([200.0, 0.0]))
    explained = explain(net, x, gradient(), targets.Contrast(0, 1))
    found = evaluate(net, x, explained, 'augmentation_robustness(transforms=("brightness",))')
    assert found.table["value"].to_pylist() == pytest.approx([1.0] * 2, abs=0.01)
