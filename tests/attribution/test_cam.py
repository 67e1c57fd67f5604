import pytest
import torch
from torch import nn
from torch.nn import functional

import pellucid
from pellucid.errors import CannotExplain

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
POOLS = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)


class Net(nn.Module):
    """Two convolutions, global average pooling and a linear head, for any number of axes, with in-place ReLUs."""

    def __init__(self, rank=2):
        super().__init__()
        torch.manual_seed(0)
        self.first = CONVOLUTIONS[rank - 1](2, 4, 3, padding=1)
        self.halve = MAX_POOLS[rank - 1](2)
        self.last = CONVOLUTIONS[rank - 1](4, 5, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.pool = POOLS[rank - 1](1)
        self.head = nn.Linear(5, 3)

    def features(self, x):
        return self.relu(self.last(self.halve(self.relu(self.first(x)))))

    def forward(self, x):
        return self.head(self.pool(self.features(x)).flatten(1))


class Features(nn.Module):
    """The same with the feature map as one named layer, so that it may be looked at after its ReLU."""

    def __init__(self, rank=2):
        super().__init__()
        net = Net(rank)
        self.body = nn.Sequential(net.first, nn.ReLU(), net.halve, net.last, nn.ReLU(inplace=True))
        self.pool, self.head = net.pool, net.head

    def forward(self, x):
        return self.head(self.pool(self.body(x)).flatten(1))


def images(rank=2, rows=3):
    return torch.randn((rows, 2, *[6] * rank), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_gradcam_is_the_classic_cam_over_the_number_of_places_on_a_pooled_linear_head(rank):
    net, x = Features(rank), images(rank)
    e = pellucid.explain(net, x, "gradcam", target=[0, 1, 2])
    features = net.body(x)
    classic = torch.einsum("nk...,nk->n...", features, net.head.weight)[:, None]
    torch.testing.assert_close(e.values, (classic / features[0, 0].numel()).detach())
    torch.testing.assert_close(e.values.flatten(1).sum(1) + net.head.bias.detach(), e.output)
    assert bool((e.values < 0).any())


def test_the_default_layer_is_the_last_one_with_a_feature_map_and_is_named():
    e = pellucid.explain(Features(), images(), "gradcam")
    assert e.details["at"] == "body"
    assert e.warnings == ("at='body' was chosen: the last layer with a feature map",)
    explicit = pellucid.explain(Features(), images(), "gradcam(at='body')")
    assert explicit.warnings == ()
    assert torch.equal(explicit.values, e.values)


def test_a_layer_that_is_called_twice_is_passed_over():
    e = pellucid.explain(Net(), images(), "gradcam")
    assert e.details["at"] == "last"
    before_relu = pellucid.explain(Net(), images(), "gradcam(at='last')")
    assert torch.equal(before_relu.values, e.values)


def test_a_dense_output_is_not_its_own_explanation():
    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.body = nn.Conv2d(2, 4, 3, padding=1)
            self.logits = nn.Conv2d(4, 2, 1)

        def forward(self, x):
            return self.logits(torch.tanh(self.body(x)))

    e = pellucid.explain(Dense(), images(), "gradcam", target=pellucid.targets.Region(1, box=((0, 0), (3, 3))))
    assert e.details["at"] == "body"
    assert e.values.shape == (3, 1, 6, 6)


def test_the_target_may_be_the_embedding_that_the_map_is_taken_at():
    target = pellucid.targets.Latent(2, layer="body")
    e = pellucid.explain(Features(), images(), "gradcam(at='body')", target=target)
    features = Features().body(images())
    torch.testing.assert_close(e.values, (features[:, 2:3] / 9).detach())


@pytest.mark.parametrize("method", ["gradcam", "gradcam(at='first')", "guided_gradcam"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_row_i_alone_equals_row_i_in_a_batch(method, rank):
    net, x = Net(rank), images(rank)
    together = pellucid.explain(net, x, method, target=[0, 1, 2], batch_size=2)
    for row in range(3):
        alone = pellucid.explain(net, x[row : row + 1], method, target=row)
        torch.testing.assert_close(together.values[row], alone.values[0], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("rank", "mode"), [(1, "linear"), (2, "bilinear"), (3, "trilinear")])
def test_guided_gradcam_is_guided_backprop_times_the_positive_part_of_the_upsampled_cam(rank, mode):
    net, x = Net(rank), images(rank)
    coarse = pellucid.explain(net, x, "gradcam", target=1).values.clamp(min=0)
    wide = functional.interpolate(coarse, size=x.shape[2:], mode=mode, align_corners=False)
    leaf = x.clone().requires_grad_()
    hidden = net.first(leaf)
    halved = net.halve(hidden.clamp(min=0))
    deep = net.last(halved)
    slope = (deep > 0) * net.head.weight[1].clamp(min=0).view(1, -1, *[1] * rank) / deep[0, 0].numel()
    back = torch.autograd.grad(deep, halved, slope, retain_graph=True)[0]
    back = torch.autograd.grad(halved, hidden, back.clamp(min=0), retain_graph=True)[0]
    guided = torch.autograd.grad(hidden, leaf, back.clamp(min=0) * (hidden > 0))[0]
    e = pellucid.explain(net, x, "guided_gradcam", target=1)
    torch.testing.assert_close(e.values, guided * wide, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("model", "method", "said"),
    [
        (lambda x: x.flatten(1).sum(1), "gradcam", "needs layers"),
        (nn.Sequential(nn.Flatten(), nn.Linear(72, 2)), "gradcam", "no layer of the model gives a feature map"),
        (Net(), "gradcam(at='head')", "needs feature maps"),
        (Net(), "gradcam(at='neck')", "no layer 'neck'; it has first, halve"),
        (Net(), "gradcam(at='relu')", "called more than once"),
    ],
)
def test_what_has_no_feature_map_is_refused_in_a_sentence(model, method, said):
    with pytest.raises(CannotExplain, match=said):
        pellucid.explain(model, images(), method)


@pytest.mark.peers
def test_parity_with_captum_before_its_relu():
    attr = pytest.importorskip("captum.attr")
    net, x = Features(), images()
    theirs = attr.LayerGradCam(net, net.body).attribute(x, target=2, relu_attributions=False)
    torch.testing.assert_close(pellucid.explain(net, x, "gradcam(at='body')", target=2).values, theirs.detach())
