"""LRP beside zennit and Captum: equal where they are right, and closed forms where they are not."""

import importlib.util
import sys
import types

import pytest
import torch
from torch import Tensor, nn

from pellucid import explain

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

COMPOSITES = {
    "plus": 'lrp(composite="epsilon_plus_flat")',
    "gamma": 'lrp(composite="epsilon_gamma_box", low=-4.0, high=4.0)',
    "alpha": 'lrp(composite="epsilon_alpha2_beta1_flat")',
}


@pytest.fixture
def zennit(monkeypatch):
    """Import zennit, which asks for torchvision's classes only to know them by name."""
    if importlib.util.find_spec("torchvision") is None:
        for name in ("torchvision", "torchvision.models", "torchvision.models.vgg", "torchvision.models.resnet"):
            stand_in = types.ModuleType(name)
            stand_in.BasicBlock = stand_in.Bottleneck = type("Block", (nn.Module,), {})
            monkeypatch.setitem(sys.modules, name, stand_in)
            if "." in name:
                setattr(sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2], stand_in)
    for part in ("canonizers", "composites", "layer", "rules"):
        importlib.import_module(f"zennit.{part}")
    return importlib.import_module("zennit")


def handed_back(composite, net: nn.Module, x: Tensor, target: int = 0) -> Tensor:
    leaf = x.clone().requires_grad_()
    with composite.context(net) as changed:
        output = changed(leaf)
        start = torch.zeros_like(output)
        start[:, target] = output[:, target].detach()
        (found,) = torch.autograd.grad(output, leaf, start)
    return found


def composite_of(zennit, name: str, x: Tensor):
    low, high = torch.full((1, 3, 1, 1), -4.0).to(x), torch.full((1, 3, 1, 1), 4.0).to(x)
    folding = [zennit.canonizers.SequentialMergeBatchNorm()]
    known = zennit.composites
    return {"plus": lambda: known.EpsilonPlusFlat(canonizers=folding),
            "alpha": lambda: known.EpsilonAlpha2Beta1Flat(canonizers=folding),
            "gamma": lambda: known.EpsilonGammaBox(low=low, high=high, canonizers=folding)}[name]()  # fmt: skip


def plain_vgg() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 16), nn.ReLU(), nn.Linear(16, 4),
    )  # fmt: skip


def vgg_with_batch_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(6, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip


def signed() -> nn.Module:
    """Nothing rectifies: convolutions and linear layers meet negative inputs."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, groups=2), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3, dilation=2), nn.Flatten(),
        nn.Linear(64, 8), nn.Linear(8, 4),
    )  # fmt: skip


class Residual(nn.Module):
    """BatchNorm and sums, spelt so that zennit can follow: a module adds, no module is used twice."""

    def __init__(self, add: nn.Module, width: int = 5) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, width, 3, bias=False), nn.BatchNorm2d(width)
        self.a, self.n = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.b, self.m = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.r, self.s, self.t = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.add, self.pool, self.head = add, nn.AdaptiveAvgPool2d(1), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.r(self.norm(self.stem(x)))
        h = self.t(self.add(torch.stack([self.m(self.b(self.s(self.n(self.a(h))))), h], -1)))
        return self.head(self.pool(h).flatten(1))


@pytest.mark.parametrize("name", COMPOSITES)
@pytest.mark.parametrize("build", [plain_vgg, vgg_with_batch_norm, signed, Residual])
def test_equal_to_zennit_where_zennit_is_right(zennit, nets, pixels, name, build):
    net = nets.lived_in(build(zennit.layer.Sum()) if build is Residual else build()).double()
    x = pixels(3, 3, 12, 12).double()
    if build is Residual:  # zennit's stabilisers are absolute, ours relative: large activations make both nothing
        with torch.no_grad():
            net.norm.weight.mul_(64), net.norm.bias.mul_(64)
    found = explain(net, x, COMPOSITES[name], target=2).values
    wanted = handed_back(composite_of(zennit, name, x), net, x, 2)
    assert ((found - wanted).abs().amax() / wanted.abs().amax()) < 1e-5


def contributions(net: nn.Module, x: Tensor) -> Tensor:
    """What every pixel of a linear net adds to its output, less constants: x times the gradient."""
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(leaf).sum(), leaf)
    return x * gradient


def far(found: Tensor, right: Tensor) -> float:
    return float((found - right).abs().amax() / right.abs().amax())


def epsilon_of(zennit):
    rules = [(kind, zennit.rules.Epsilon(epsilon=1e-12)) for kind in (nn.Linear, nn.Conv2d)]
    return zennit.composites.LayerMapComposite(layer_map=rules)


EXACT = "lrp(epsilon=1e-12)"


def test_batch_norm_hands_on_contributions_and_captum_explodes_at_zero_crossings(nets, pixels):
    from captum.attr import LRP

    net = nets.lived_in(nets.Call(lambda x, a, n, b: b(n(a(x)).mean((2, 3))), nn.Conv2d(3, 8, 1, bias=False),
                                  nn.BatchNorm2d(8), nn.Linear(8, 1, bias=False))).double()  # fmt: skip
    x = pixels(2, 3, 6, 6).double()
    right = contributions(net, x)
    assert far(explain(net, x, EXACT).values, right) < 1e-6
    assert far(LRP(net).attribute(x.clone(), target=0).detach(), right) > 5


def residual(x: Tensor, a: nn.Module, b: nn.Module, c: nn.Module) -> Tensor:
    h = a(x)
    return c((h + b(h)).mean((2, 3)))


def test_a_functional_sum_shares_and_zennit_hands_all_to_both(zennit, nets, pixels):
    parts = nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1, bias=False), nn.Linear(3, 1, bias=False)
    net, x = nets.lived_in(nets.Call(residual, *parts)).double(), pixels(2, 3, 6, 6).double()
    found, output = explain(net, x, EXACT), net(x)[:, 0].detach()
    assert far(found.values, contributions(net, x)) < 1e-6
    doubled = handed_back(epsilon_of(zennit), net, x).flatten(1).sum(1)
    torch.testing.assert_close(doubled, 2 * output, rtol=1e-4, atol=0)


def test_captum_cannot_see_a_functional_sum_either(nets, pixels):
    from captum.attr import LRP

    parts = nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1, bias=False), nn.Linear(3, 1, bias=False)
    net, x = nets.lived_in(nets.Call(residual, *parts)).double(), pixels(2, 3, 6, 6).double()
    found = LRP(net).attribute(x.clone(), target=0).detach()
    assert far(found, contributions(net, x)) > 0.01
    assert far(explain(net, x, EXACT).values, contributions(net, x)) < 1e-6


def test_a_convolution_used_twice_keeps_both_inputs_and_zennit_only_the_last(zennit, nets, pixels):
    from captum.attr import LRP

    net = nets.lived_in(nets.Call(lambda x, a, b: b(a(a(x)).mean((2, 3))), nn.Conv2d(3, 3, 1, bias=False),
                                  nn.Linear(3, 1, bias=False))).double()  # fmt: skip
    x = pixels(2, 3, 6, 6).double()
    right = contributions(net, x)
    assert far(explain(net, x, EXACT).values, right) < 1e-6
    assert far(handed_back(epsilon_of(zennit), net, x), right) > 1
    with pytest.raises(RuntimeError, match="being used"):
        LRP(net).attribute(x.clone(), target=0)
