"""DeepLIFT on whole networks of every habit, its slopes in closed form, and its cut at a layer."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from pellucid.attribution import explain
from pellucid.errors import CannotExplain
from pellucid.models.targets import LogOdds


class VisionTransformer(nn.Module):
    def __init__(self, depth: int, *, rows_first: bool = True, norm_first: bool = True) -> None:
        super().__init__()
        self.rows_first = rows_first
        self.patches, self.head = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 3)
        self.token, self.places = nn.Parameter(torch.randn(1, 1, 16)), nn.Parameter(torch.randn(1, 10, 16) / 2)
        layer = nn.TransformerEncoderLayer(16, 4, 32, activation="gelu", batch_first=rows_first, norm_first=norm_first)
        self.blocks = nn.TransformerEncoder(layer, depth, nn.LayerNorm(16), enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1) + self.places
        if self.rows_first:
            return self.head(self.blocks(tokens)[:, 0])
        return self.head(self.blocks(tokens.transpose(0, 1))[0])


class ConvNeXt(nn.Module):
    def __init__(self, depth: int, norm: str) -> None:
        super().__init__()
        self.norm, self.stem, self.head = norm, nn.Conv2d(3, 8, 2, 2), nn.Linear(8, 3)
        kinds = {
            "layer": lambda: nn.LayerNorm(8),
            "group": lambda: nn.GroupNorm(2, 8),
            "instance": lambda: nn.InstanceNorm2d(8, affine=True),
        }
        self.blocks = nn.ModuleList([
            nn.ModuleList([nn.Conv2d(8, 8, 3, padding=1, groups=8), kinds[norm](), nn.Linear(8, 24), nn.Linear(24, 8)])
            for _ in range(depth)])  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        for mix, norm, wide, narrow in self.blocks:
            y = mix(h).permute(0, 2, 3, 1)
            y = norm(y) if self.norm == "layer" else norm(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            h = h + narrow(functional.gelu(wide(y))).permute(0, 3, 1, 2)
        return self.head(h.mean((2, 3)))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.cells, self.run, self.head = nn.Conv2d(3, 6, 4, 5), kind(6, 5, 2, bidirectional=True), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.run(self.cells(x).flatten(2).permute(2, 0, 1))[0][-1])


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.n, self.down, self.up = (
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 3, 1),
            nn.Conv2d(3, 8, 1),
        )
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.silu(self.n(self.a(x)), inplace=True)
        h = h * torch.sigmoid(self.up(functional.silu(self.down(functional.adaptive_avg_pool2d(h, 1)))))
        return self.head(functional.hardswish(h).amax((2, 3)))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.up = (
            nn.Conv2d(3, 6, 3, padding=1),
            nn.Conv2d(6, 6, 3, padding=1),
            nn.ConvTranspose2d(6, 6, 2, 2),
        )
        self.c, self.norm = nn.Conv2d(12, 3, 3, padding=1), nn.InstanceNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        a = functional.leaky_relu(self.norm(self.a(x)), 0.1, inplace=True)
        b = functional.elu(self.b(functional.max_pool2d(a, 2)))
        return self.c(torch.cat([self.up(b).relu_(), a], 1)).mean((2, 3))


NETS = {
    "ViT of six blocks": lambda: VisionTransformer(6),
    "ViT, rows second": lambda: VisionTransformer(2, rows_first=False),
    "ViT, norm last": lambda: VisionTransformer(2, norm_first=False),
    "ConvNeXt of twelve": lambda: ConvNeXt(12, "layer"),
    "GroupNorm": lambda: ConvNeXt(3, "group"),
    "InstanceNorm": lambda: ConvNeXt(3, "instance"),
    "LSTM": lambda: Recurrent(nn.LSTM),
    "GRU": lambda: Recurrent(nn.GRU),
    "RNN": lambda: Recurrent(nn.RNN),
    "squeeze-excite": SqueezeExcite,
    "U-Net": UNet,
}


@pytest.mark.parametrize("method", ["deeplift", "deeplift_reveal_cancel"])
@pytest.mark.parametrize("kind", NETS)
def test_differences_add_up_on_whole_networks(nets, pixels, kind, method):
    torch.manual_seed(0)
    net, x = nets.lived_in(NETS[kind]()), 3 * pixels(3, 3, 12, 12)
    for baseline in ('"zero"', '"blur"', "0.4"):
        found = explain(net, x, f"{method}(baseline={baseline})", target=(0, 1, 2))
        assert (found.gap < 1e-5 * found.values.abs().flatten(1).sum(1)).all()
        assert (found.gap < 1e-4 * (found.output - found.reference_output).abs().clamp(min=0.05)).all()
        alone = explain(net, x[1:2], f"{method}(baseline={baseline})", target=1)
        torch.testing.assert_close(
            alone.values[0], found.values[1], rtol=1e-3, atol=1e-4 * float(found.values[1].abs().max())
        )


def test_deep_products_of_slopes_stay_as_small_as_the_gradient(nets, pixels):
    """Near its baseline the multiplier is the gradient: a slope that blew up on the way would show."""
    torch.manual_seed(0)
    for kind in ("ViT of six blocks", "ConvNeXt of twelve", "RNN", "squeeze-excite", "U-Net", "GroupNorm"):
        net, x = nets.lived_in(NETS[kind]()).double(), pixels(2, 3, 12, 12).double()
        step = 1e-5 * pixels(2, 3, 12, 12, seed=3).double()
        found = explain(net, x[:1] + step[:1], Fixed(x[:1]).method, target=1)
        slope = explain(net, x[:1], "gradient", target=1)
        torch.testing.assert_close(
            found.values / step[:1], slope.values, rtol=1e-3, atol=1e-4 * float(slope.values.abs().max())
        )


class Fixed:
    """Deep SHAP on one background image is DeepLIFT with that image for a baseline."""

    def __init__(self, image: Tensor) -> None:
        from pellucid.attribution.deep_shap import deep_shap

        self.method = deep_shap(background=image)


def test_two_inputs_share_the_difference(nets, pixels):
    net = nets.lived_in(nets.Call(
        lambda a, b, f, g: functional.layer_norm(f(a.flatten(1)).tanh() * g(b.flatten(1)), (5,)) ** 2, nn.Linear(12, 5), nn.Linear(8, 5)))  # fmt: skip
    x = pixels(3, 3, 2, 2), pixels(3, 2, 4, seed=5)
    found = explain(net, x, "deeplift(baseline=0.2)", target=1)
    total = sum(part.flatten(1).sum(1) for part in found.values)
    torch.testing.assert_close(total, found.output - found.reference_output, rtol=1e-4, atol=1e-5)
    assert all(part.abs().max() > 1e-3 for part in found.values)


def test_a_linear_net_of_many_layers_has_its_weights_for_multipliers(nets, pixels):
    torch.manual_seed(1)
    net = nets.lived_in(nn.Sequential(
        nn.ConvTranspose2d(3, 4, 2, 2), nn.BatchNorm2d(4), nn.PixelShuffle(2), nn.Upsample(scale_factor=0.5, mode="bilinear"),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 2)))  # fmt: skip
    x = pixels(3, 3, 4, 4)
    slope = explain(net, x, "gradient", target=1).values
    for method in ("deeplift", "deeplift_reveal_cancel"):
        found = explain(net, x, f"{method}(baseline=0.5)", target=1)
        torch.testing.assert_close(found.values, slope * (x - 0.5), rtol=1e-4, atol=1e-6)


def test_softmax_of_two_is_a_sigmoid(nets):
    x = torch.tensor([[3.0, -1.0], [0.2, 0.1], [200.0, -200.0], [-200.0, 200.0]])
    soft = nets.Call(lambda x: x.softmax(1))
    sigmoid = nets.Call(lambda x: torch.sigmoid(x[:, :1] - x[:, 1:]))
    found, wanted = explain(soft, x, "deeplift(baseline=0.3)", target=0), explain(sigmoid, x, "deeplift(baseline=0.3)")
    torch.testing.assert_close(found.values.sum(1), wanted.values.sum(1))
    assert torch.isfinite(found.values).all()


@given(st.lists(st.floats(-300, 300), min_size=8, max_size=8), st.floats(-300, 300))
@settings(max_examples=60, deadline=None)
def test_softmax_is_exact_and_the_same_under_a_shift(numbers, shift):
    x = torch.tensor(numbers, dtype=torch.float64).view(2, 4)
    weights = torch.tensor([[1.0, -2.0, 0.5, 3.0]], dtype=torch.float64)

    def told(image: Tensor, way) -> Tensor:
        net = nn.Module()
        net.forward = lambda y: (way(y) * weights).sum(1, keepdim=True)
        found = explain(net, image, "deeplift(baseline=(1.0, -1.0, 0.0, 2.0))")
        assert float(found.gap.max()) < 1e-7 * (1 + float(found.values.abs().sum()))
        return found.values

    plain = told(x, lambda y: y.softmax(1))
    torch.testing.assert_close(told(x, lambda y: (y + shift).softmax(1)), plain, rtol=1e-6, atol=1e-8)
    told(x, lambda y: functional.log_softmax(y, 1))
    told(x, lambda y: y.logsumexp(1, keepdim=True))


def test_a_quotient_shares_by_means(nets):
    net = nets.Call(lambda x: x[:, :1] / x[:, 1:])
    found = explain(net, torch.tensor([[6.0, 3.0]]), "deeplift(baseline=1.0)")  # q 2 and 1, Δq = (Δa − q̄ Δb) / b̄
    torch.testing.assert_close(found.values, torch.tensor([[5.0 / 2, -1.5 * 2 / 2]]))


def test_a_flat_baseline_does_not_blow_up_an_instance_norm(nets, pixels):
    """Its spread there is √ε: the inverse is 316, and a rule on it would multiply every rounding by that."""
    net = nets.Call(lambda x: (functional.instance_norm(x) ** 3).flatten(1).sum(1, keepdim=True))
    found = explain(net, pixels(2, 3, 6, 6), "deeplift(baseline=0.0)")
    assert (
        found.values.abs().flatten(1).sum(1) < 10 * functional.instance_norm(pixels(2, 3, 6, 6)).abs().pow(3).sum()
    ).all()
    assert (found.gap < 1e-4).all()


def test_a_step_is_sloped_where_it_is_crossed_and_nowhere_else(nets):
    net = nets.Call(lambda x: torch.where(x > 0, x, 0.1 * x))
    leaky = nets.Call(lambda x: functional.leaky_relu(x, 0.1))
    x = torch.linspace(-2, 2, 9)[:, None]
    for baseline in (-1.0, 0.0, 0.7):
        found, wanted = (explain(way, x, f"deeplift(baseline={baseline})").values for way in (net, leaky))
        torch.testing.assert_close(found, wanted)


OPERATIONS = [
    lambda h: functional.layer_norm(h, (6,)), lambda h: h.softmax(1), functional.gelu, functional.relu, torch.tanh,
    lambda h: h * h.mean(1, keepdim=True), lambda h: torch.maximum(h, h.flip(1)), lambda h: h / (1 + h.abs()),
    functional.normalize, lambda h: h.where(h > 0.1, -h), lambda h: h.clamp(-1, 1), lambda h: h + h.flip(1).exp().clamp(max=9),
    lambda h: torch.cat([h[:, :2].sigmoid(), h[:, 2:]], 1), lambda h: functional.glu(torch.cat([h, h.flip(1)], 1), 1),
    lambda h: h - h.amax(1, keepdim=True), lambda h: functional.silu(h, inplace=False), lambda h: (h * 1).mul_(h.sin()),
]  # fmt: skip


@given(
    st.lists(st.integers(0, len(OPERATIONS) - 1), min_size=1, max_size=5),
    st.integers(0, 99),
    st.sampled_from(["deeplift", "deeplift_reveal_cancel"]),
)
@settings(max_examples=60, deadline=None)
def test_differences_add_up_on_random_networks(chosen, seed, method):
    stream = torch.Generator().manual_seed(seed)
    weights = [torch.randn(6, 6, generator=stream, dtype=torch.float64) / 2 for _ in chosen]
    x = torch.randn(3, 6, generator=stream, dtype=torch.float64)

    def forward(h: Tensor) -> Tensor:
        for place, weight in zip(chosen, weights, strict=True):
            h = OPERATIONS[place](functional.linear(h, weight) + 0.1)
        return h[:, :2] + h[:, 2:4]

    net = nn.Module()
    net.forward = forward
    found = explain(net, x, f"{method}(baseline=0.25)", target=1)
    assert float((found.gap / (1e-12 + found.values.abs().sum(1))).max()) < 1e-5
    alone = explain(net, x[2:], f"{method}(baseline=0.25)", target=1)
    torch.testing.assert_close(alone.values[0], found.values[2], rtol=1e-6, atol=1e-9)


def test_at_a_layer_the_same_difference_is_shared_out(nets, pixels):
    net, x = nets.lived_in(nets.ResNet(2)), pixels(3, 3, 12, 12)
    whole = explain(net, x, "deeplift(baseline=0.3)", target=1)
    for layer in ("stem", "pool", "blocks.0", "blocks"):
        found = explain(net, x, f'deeplift(baseline=0.3, at="{layer}")', target=1)
        assert len(found.values) == 3
        assert found.values.shape[1] == 6
        torch.testing.assert_close(found.reference_output, whole.reference_output)
        assert (found.gap < 1e-5 * (1 + found.values.abs().flatten(1).sum(1))).all()
    head = explain(net, x, 'deeplift(baseline=0.3, at="head")', target=1)
    torch.testing.assert_close(head.values[:, 1], head.output - head.reference_output)
    assert float(head.values[:, [0, 2]].abs().max()) == 0


def test_a_layer_that_is_gone_around_is_refused(nets, pixels):
    net = nets.lived_in(nets.ResNet(2))
    with pytest.raises(CannotExplain, match=r"goes around layer 'blocks.0.b'.*integrated_gradients\(at="):
        explain(net, pixels(3, 3, 12, 12), 'deeplift(baseline=0.3, at="blocks.0.b")', target=1)


def test_a_curved_target_closes_through_attention(nets, pixels):
    torch.manual_seed(0)
    net = nets.lived_in(VisionTransformer(2))
    found = explain(net, pixels(3, 3, 12, 12), "deeplift", target=LogOdds(1))
    assert (found.gap < 1e-5 * (1 + found.values.abs().flatten(1).sum(1))).all()


def test_where_torch_has_a_wrong_gradient_for_one_image_the_slopes_are_right():
    """Torch 2.13 on the CPU: an InstanceNorm whose gradient arrives channels-last, in a batch of one."""
    stream = torch.Generator().manual_seed(0)
    x, weights, step = (torch.randn(1, 4, 5, 5, generator=stream, dtype=torch.float64) for _ in range(3))
    net, last = nn.Module(), weights.to(memory_format=torch.channels_last)
    net.forward = lambda y: (functional.instance_norm(y) * last).flatten(1).sum(1, keepdim=True)
    with torch.no_grad():
        wanted = net.forward(x + 1e-5 * step) - net.forward(x)
    found = explain(net, x + 1e-5 * step, Fixed(x).method)
    torch.testing.assert_close(found.values.sum().view(1, 1), wanted, rtol=1e-5, atol=0)
    toward = torch.autograd.functional.jacobian(net.forward, torch.cat([x, x]))[0, 0, 0]  # two rows: the right gradient
    torch.testing.assert_close(found.values[0] / (1e-5 * step[0]), toward, rtol=1e-3, atol=1e-3)
