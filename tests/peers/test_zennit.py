"""zennit: its composites on plain nets are pellucid's; sums, reused layers and its occlusion are not what they should be."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from pellucid import explain

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def relevance(peer):
    """Return zennit's relevance of one output under a composite."""
    attribution = peer("zennit.attribution")

    def of(net: nn.Module, composite: object, x: Tensor, target: int) -> Tensor:
        with attribution.Gradient(model=net, composite=composite) as attribute:
            output = net(x)
            start = torch.zeros_like(output)
            start[:, target] = output[:, target].detach()
            return attribute(x.clone(), start)[1].detach()

    return of


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("EpsilonPlusFlat", 'lrp(composite="epsilon_plus_flat")'),
        ("EpsilonAlpha2Beta1Flat", 'lrp(composite="epsilon_alpha2_beta1_flat")'),
        ("EpsilonGammaBox", 'lrp(composite="epsilon_gamma_box", low=-4.0, high=4.0)'),
    ],
)
def test_composites_agree_on_a_plain_net_with_batch_norm(peer, relevance, settled, pixels, theirs, ours):
    """zennit folds BatchNorm into the layer before it, as pellucid does while it runs."""
    net = settled(nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(96, 8), nn.ReLU(), nn.Linear(8, 3),
    )).double()  # fmt: skip
    x = pixels(3, 3, 8, 8).double()
    ends = {"low": torch.full_like(x, -4), "high": torch.full_like(x, 4)} if "Box" in theirs else {}
    merge = [peer("zennit.canonizers").SequentialMergeBatchNorm()]
    wanted = relevance(net, getattr(peer("zennit.composites"), theirs)(canonizers=merge, **ends), x, 1)
    found = explain(net, x, ours, target=1).values
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-5


class Twice(nn.Module):
    """x ↦ v·(x + x) as a functional sum, `depth` times over."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.depth, self.inner, self.head = depth, nn.Linear(5, 5, bias=False), nn.Linear(5, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(x)
        for _ in range(self.depth):
            h = h + h
        return self.head(h)


@pytest.mark.parametrize("depth", [1, 4])
def test_zennit_doubles_relevance_at_every_functional_sum(peer, relevance, settled, pixels, depth):
    """The net is linear and without a bias, so the relevance of all inputs is the output."""
    net, x = settled(Twice(depth)), pixels(1, 5)
    output = net(x)[0, 1].detach()
    theirs = relevance(net, peer("zennit.composites").EpsilonPlus(), x, 1)
    torch.testing.assert_close(theirs.sum() / output, torch.tensor(2.0**depth), rtol=1e-3, atol=0)
    torch.testing.assert_close(explain(net, x, "lrp", target=1).values.sum(), output, rtol=1e-4, atol=1e-6)


def test_zennit_gives_a_layer_that_is_used_twice_the_relevance_of_its_last_call(peer, relevance, settled, pixels):
    """The twin has two layers of the same weights and computes the same: its relevance is the right one."""
    layer = settled(nn.Conv2d(4, 4, 3, padding=1))
    copy = nn.Conv2d(4, 4, 3, padding=1)
    copy.load_state_dict(layer.state_dict())
    head = settled(nn.Linear(144, 2))
    reused, twin = (
        nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), head).eval()
        for first, second in ((layer, layer), (layer, copy))
    )
    x, plus = pixels(1, 4, 6, 6), peer("zennit.composites").EpsilonPlus
    torch.testing.assert_close(reused(x), twin(x))
    right = relevance(twin, plus(), x, 1)
    wrong = relevance(reused, plus(), x, 1)
    assert float((wrong - right).abs().max()) > 0.1 * float(right.abs().max())
    ours = [explain(net, x, "lrp", target=1).values for net in (reused, twin)]
    torch.testing.assert_close(*ours)


def test_occlusion_of_zennit_wraps_round(peer):
    """With each 3 × 3 window the mean of an image of ones falls by as much: the map is even, and theirs is 4 at the rim."""

    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((1, 2, 3))[:, None]

    x, attribution = torch.ones(1, 1, 6, 6), peer("zennit.attribution")
    hide = partial(attribution.occlude_independent, fill_fn=torch.zeros_like, invert=True)
    with attribution.Occlusion(model=Mean(), window=3, stride=2, occlusion_fn=hide) as attribute:
        theirs = attribute(x, torch.ones_like)[1][0, 0]
    assert (float(theirs[0, 0]), float(theirs[1, 1])) == (4, 1)
    ours = explain(Mean(), x, "occlusion(window=3, stride=2)", target=0).values[0, 0]
    torch.testing.assert_close(ours, torch.full((6, 6), 1 / 36))
