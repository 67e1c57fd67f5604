"""Deconvnet and guided backpropagation: closed forms, Captum where it is right, functional calls where it is not."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pellucid.attribution import METHODS, explain


@pytest.mark.parametrize("kind", ["deconvnet", "guided_backprop"])
def test_one_relu_by_hand(nets, kind):
    net = nets.Call(lambda x, a: a(functional.relu(x)), nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        net.parts[0].weight.copy_(torch.tensor([[2.0, 3.0, -5.0, -7.0]]))
    found = explain(net, torch.tensor([[1.0, -1.0, 1.0, -1.0]]), kind)
    wanted = {"deconvnet": [2.0, 3.0, 0.0, 0.0], "guided_backprop": [2.0, 0.0, 0.0, 0.0]}[kind]
    assert found.values.tolist() == [wanted]


def captum_map(kind: str, net: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    from captum import attr

    method = {"deconvnet": attr.Deconvolution, "guided_backprop": attr.GuidedBackprop}[kind]
    with pytest.warns(UserWarning, match="backward hooks"):
        return method(net).attribute(x.clone().requires_grad_(), target=target).detach()


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["deconvnet", "guided_backprop"])
def test_equal_to_captum_on_a_resnet_with_one_shared_in_place_relu(nets, pixels, kind):
    net, x = nets.lived_in(nets.ResNet(3)), pixels(4, 3, 12, 12)
    target = net(x).argmax(1)
    torch.testing.assert_close(explain(net, x, kind).values, captum_map(kind, net, x, target))


@pytest.mark.parametrize("kind", ["deconvnet", "guided_backprop"])
@pytest.mark.parametrize("spelling", [torch.relu, Tensor.relu, functional.relu, lambda h: h.clone().relu_(),
                                      lambda h: torch.relu_(h * 1), lambda h: functional.relu(h, True),
                                      lambda h: functional.relu(input=h, inplace=True)])  # fmt: skip
def test_every_spelling_of_relu_is_the_same(nets, pixels, kind, spelling):
    parts = nn.Conv2d(3, 4, 3), nn.Linear(64, 2)
    net = nets.lived_in(nets.Call(lambda x, a, b: b(spelling(a(x)).flatten(1)), *parts))
    module = nn.Sequential(parts[0], nn.ReLU(), nn.Flatten(), parts[1])
    x = pixels(2, 3, 6, 6)
    found = explain(net, x, kind, target=0).values
    torch.testing.assert_close(found, explain(module, x, kind, target=0).values)
    assert not torch.allclose(found, explain(net, x, "gradient", target=0).values, rtol=0.01)


def test_other_activations_pass_their_plain_gradient(nets, pixels):
    net = nets.lived_in(nets.Call(
        lambda x, a, b: b(torch.sigmoid(a(x)) * functional.gelu(functional.relu(x) @ a.weight.T)), nn.Linear(5, 4), nn.Linear(4, 1)))  # fmt: skip
    x = pixels(3, 5).abs()  # every ReLU is on, so that guided differs from the gradient only by the sign of the signal
    slopes = explain(net, x, "gradient").values
    leaf = functional.relu(x)
    rectified = leaf.clone().requires_grad_()
    a, b = net.parts
    out = b(torch.sigmoid(a(x)) * functional.gelu(rectified @ a.weight.T))
    (through,) = torch.autograd.grad(out.sum(), rectified)
    torch.testing.assert_close(explain(net, x, "guided_backprop").values, slopes - through + through.clamp(min=0))


def test_relu6_lets_nothing_back_above_six(nets):
    net = nets.Call(lambda x: functional.relu6(x).sum(1, keepdim=True))
    found = explain(net, torch.tensor([[-1.0, 3.0, 7.0]]), "guided_backprop")
    assert found.values.tolist() == [[0.0, 1.0, 0.0]]


@pytest.mark.parametrize("kind", ["deconvnet", "guided_backprop"])
def test_the_taxonomy_says_that_the_map_is_nearly_class_independent(nets, pixels, kind):
    assert "class-independent" in METHODS[kind].taxonomy.warning
    assert "parameter_randomisation" in METHODS[kind].taxonomy.warning
    net, x = nets.lived_in(nets.ResNet(3, 12)), pixels(3, 3, 12, 12)
    a, b = (explain(copy.deepcopy(net), x, kind, target=target).values.flatten(1) for target in (0, 1))
    guided = functional.cosine_similarity(a, b).mean()
    c, d = (explain(net, x, "gradient", target=target).values.flatten(1) for target in (0, 1))
    assert guided > functional.cosine_similarity(c, d).mean() + 0.2
