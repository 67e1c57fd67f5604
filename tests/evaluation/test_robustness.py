from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from pellucid import explain
from pellucid.attribution import Attribution, Method, Taxonomy
from pellucid.attribution.controls import random_map
from pellucid.attribution.gradient import gradient, input_x_gradient
from pellucid.errors import CannotExplain
from pellucid.evaluation import METRICS, evaluate
from pellucid.evaluation.bench import Bench
from pellucid.evaluation.noise import noise as draw
from pellucid.evaluation.robustness import NoiseMetric
from pellucid.models import Model, Passes

ROBUSTNESS = sorted(name for name, metric in METRICS.items() if issubclass(metric, NoiseMetric))


@dataclass(frozen=True, kw_only=True, repr=False)
class fussy(Method):
    """Refuses bright images; elsewhere returns them."""

    taxonomy: ClassVar[Taxonomy] = Taxonomy(family="gradient", question="?", cost="0", reference="none")
    limit: float = 10.0

    def attribute(self, call):
        if float(call.inputs[0].max()) > self.limit:
            raise CannotExplain("too bright")
        return Attribution(call.inputs)


@dataclass(frozen=True, kw_only=True, repr=False)
class still(Method):
    """Returns the image, whatever the model."""

    taxonomy: ClassVar[Taxonomy] = Taxonomy(family="gradient", question="?", cost="0", reference="none")

    def attribute(self, call):
        return Attribution(call.inputs)


@pytest.mark.parametrize("name", ROBUSTNESS)
def test_a_linear_models_gradient_does_not_move(name, kit):
    net, x = kit.linear((2, 6, 6)), torch.rand(3, 2, 6, 6)
    scores = evaluate(net, x, explain(net, x, gradient()), name)
    assert scores.table["value"].to_pylist() == pytest.approx([0.0] * 3, abs=1e-6)


def test_input_times_gradient_of_a_linear_model_moves_by_the_weighteddraw(kit):
    net, x = kit.linear((2, 6, 6)), 3 * torch.rand(3, 2, 6, 6)
    explained = explain(net, x, input_x_gradient(), ids=["a", "b", "c"])
    names = ["max_sensitivity", "avg_sensitivity", "local_lipschitz"]
    scores = evaluate(net, x, explained, [f"{name}(radius=0.1, samples=5)" for name in names])
    with Passes(Model.of(net)) as passes:
        noise = draw(Bench(passes, (x,), [explained], ids=["a", "b", "c"]), 0.1, 5, torch.arange(15))[0]
    noise = noise.reshape(3, 5, -1)
    spread = (x.flatten(1).amax(1) - x.flatten(1).amin(1))[:, None]
    assert (noise.abs().amax(2) <= 0.1 * spread).all()
    assert (noise.abs().amax(2) > 0.09 * spread).all()
    weight = kit.weights(net, x).flatten(1)
    moved = (noise * weight[:, None]).norm(dim=2) / (x.flatten(1) * weight).norm(dim=1)[:, None]
    expected = (moved.amax(1), moved.mean(1), (moved / noise.norm(dim=2)).amax(1))
    for name, value in zip(names, expected, strict=True):
        assert kit.column(scores, name, "input_x_gradient") == pytest.approx(value.tolist(), rel=1e-4)


@pytest.mark.parametrize("name", ROBUSTNESS)
def test_the_scale_of_a_map_does_not_matter(name, kit):
    net, x = kit.linear((1, 6, 6)), torch.rand(2, 1, 6, 6)
    louder = kit.linear((1, 6, 6))
    louder[1].weight.mul_(100)
    louder[1].bias.mul_(100)
    quiet, loud = (evaluate(one, x, explain(one, x, input_x_gradient()), name).table["value"] for one in (net, louder))
    assert quiet.to_pylist() == pytest.approx(loud.to_pylist(), rel=1e-3)  # small moves of a float32 score


RELATIVE = ["relative_input_stability", "relative_output_stability"]


def _noisy(net, x, explained, radius, samples):
    with Passes(Model.of(net)) as passes:
        bench = Bench(passes, (x,), [explained], ids=explained.ids)
        noise = draw(bench, radius, samples, torch.arange(len(x) * samples))[0]
    return noise.reshape(len(x), samples, *x.shape[1:])


def test_relative_stability_equals_a_loop_over_the_noisy_copies(kit):
    net, x = kit.linear((2, 5, 5)), torch.rand(3, 2, 5, 5)
    explained = explain(net, x, input_x_gradient(), ids=["a", "b", "c"])
    noise = _noisy(net, x, explained, 0.1, 4)
    scores = evaluate(net, x, explained, [f"{name}(radius=0.1, samples=4)" for name in RELATIVE])
    target = net(x).argmax(1)
    for row in range(3):
        weight, start = kit.weights(net, x)[row], net(x)[row, target[row]]
        maps = [float((n * weight).norm() / (x[row] * weight).norm()) for n in noise[row]]
        images = [float(n.norm() / x[row].norm()) for n in noise[row]]
        outputs = [float(abs((net((x[row] + n)[None])[0, target[row]] - start) / start)) for n in noise[row]]
        least = 0.1 * (sum(move**2 for move in outputs) / 4) ** 0.5
        of_input = max(one / other for one, other in zip(maps, images, strict=True))
        of_output = max(one / max(other, least) for one, other in zip(maps, outputs, strict=True))
        assert kit.column(scores, RELATIVE[0], "input_x_gradient")[row] == pytest.approx(of_input, rel=1e-4)
        assert kit.column(scores, RELATIVE[1], "input_x_gradient")[row] == pytest.approx(of_output, rel=1e-3)


def test_black_pixels_and_zeros_of_the_map_do_not_decide_relative_stability(kit):
    net, x = kit.linear((1, 6, 6)), torch.rand(2, 1, 6, 6)
    x[:, :, :3] = 0
    x[:, :, 3] = 1e-8
    scores = evaluate(net, x, explain(net, x, input_x_gradient()), RELATIVE)
    assert scores.table["value"].null_count == 0
    assert max(kit.column(scores, RELATIVE[0], "input_x_gradient")) < 10


def test_a_score_that_does_not_move_gives_no_output_stability_and_says_so(kit):
    def deaf(images):
        return 5 + 0 * images.flatten(1).sum(1, keepdim=True)

    x = torch.rand(2, 1, 4, 4)
    scores = evaluate(deaf, x, explain(deaf, x, still()), RELATIVE)
    assert kit.column(scores, RELATIVE[1], "still") == [None, None]
    assert "does not move" in kit.column(scores, RELATIVE[1], "still", "reason")[0]
    assert kit.column(scores, RELATIVE[0], "still") == pytest.approx([1.0, 1.0], rel=1e-5)


@pytest.mark.parametrize("name", ROBUSTNESS)
def test_given_maps_and_controls_have_no_robustness_and_say_why(name, kit):
    net, x = kit.linear((1, 6, 6)), torch.rand(2, 1, 6, 6)
    scores = evaluate(net, x, [kit.given(x, net, x, "mine"), explain(net, x, random_map())], name)
    assert "cannot be made again" in kit.column(scores, name, "mine", "reason")[0]
    assert "control" in kit.column(scores, name, "random_map", "reason")[0]


@pytest.mark.parametrize("name", ROBUSTNESS)
def test_a_zero_map_and_a_constant_image_have_no_score(name, kit):
    net, x = kit.linear((1, 6, 6)), torch.rand(2, 1, 6, 6)
    x[0] = 0.5
    net[1].weight.zero_()
    scores = evaluate(net, x, explain(net, x, gradient()), name)
    assert scores.table["value"].null_count == 2
    assert all(scores.table["reason"].to_pylist())


def test_a_method_that_refuses_a_noisy_copy_is_a_reason_and_no_crash(kit):
    net, x = kit.linear((1, 6, 6)), torch.rand(2, 1, 6, 6)
    x[0, 0, 0, 0] = 9.999
    scores = evaluate(net, x, explain(net, x, fussy()), "max_sensitivity(radius=0.9)", batch_size=8)
    assert kit.column(scores, "max_sensitivity", "fussy")[0] is None
    assert "too bright" in kit.column(scores, "max_sensitivity", "fussy", "reason")[0]
    assert kit.column(scores, "max_sensitivity", "fussy")[1] > 0
