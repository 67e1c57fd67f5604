"""Path methods on nets as people build them: the promise of the gap at default settings, and inputs of several kinds."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import pellucid
from pellucid.attribution import METHODS


def within(found):
    """Say for every row whether its gap is what the default settings promise."""
    before, after = found.reference_output, found.output
    allowed = 1e-2 * torch.maximum((after - before).abs(), 0.05 * (after.abs() + before.abs()))
    return found.gap <= allowed + 1e-6


class Attention(nn.Module):
    """One pre-norm transformer block with fused attention."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.three, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        parts = self.three(self.before(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(*parts)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.after(x))


class ViT(nn.Module):
    def __init__(self, size=12, patch=4, width=16, blocks=2):
        super().__init__()
        count = (size // patch) ** 2 + 1
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(0.2 * torch.randn(1, count, width))
        self.blocks = nn.Sequential(*[Attention(width, 2) for _ in range(blocks)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 3)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.first.expand(len(x), -1, -1), tokens], 1) + self.places
        return self.head(self.norm(self.blocks(tokens))[:, 0])


class DenseNet(nn.Module):
    """BatchNorm before convolution, concatenation, average-pooled transition."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(True), nn.Conv2d(width, 4, 3, padding=1))
            for width in (4, 8, 12)
        )
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = self.stem(x)
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return self.head(functional.avg_pool2d(x, 2).mean((2, 3)))


def gated():
    """SiLU and squeeze-excite, as in an EfficientNet."""

    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 8, 3, groups=8)
            self.down, self.up, self.head = nn.Linear(8, 2), nn.Linear(2, 8), nn.Linear(8, 3)

        def forward(self, x):
            x = functional.silu(self.two(functional.silu(self.one(x))))
            gate = self.up(functional.silu(self.down(x.mean((2, 3))))).sigmoid()
            return self.head((x * gate[:, :, None, None]).mean((2, 3)))

    return Gated()


def zoo(nets, name):
    torch.manual_seed(0)
    made = {"resnet": lambda: nets.ResNet(3), "densenet": DenseNet, "efficientnet": gated}
    return ViT().eval() if name == "vit" else nets.lived_in(made[name]())


@pytest.mark.parametrize("baseline", ["zero", "mean", "noise"])
@pytest.mark.parametrize("name", ["resnet", "densenet", "efficientnet", "vit"])
def test_integrated_gradients_keep_the_promise_of_the_gap_at_default_settings(nets, pixels, name, baseline):
    net, x = zoo(nets, name), pixels(6, 3, 12, 12)
    found = pellucid.explain(net, x, METHODS["integrated_gradients"](baseline=baseline))
    missed = ~within(found)
    assert bool(missed.any()) == bool(found.warnings), "a row that misses the promise is named, and no other is"
    assert not missed.any(), found.gap.tolist()
    assert int(found.details["steps"].max()) <= 1024


@pytest.mark.parametrize("layer", ["blocks.0", "blocks.0.mlp.1", "patches"])
def test_conductance_in_a_transformer_adds_up_too(nets, pixels, layer):
    net, x = zoo(nets, "vit"), pixels(3, 3, 12, 12)
    found = pellucid.explain(net, x, METHODS["integrated_gradients"](at=layer), target=1)
    with torch.no_grad():
        tokens = net.patches(x[:1]).flatten(2).shape[2] + 1
    assert (
        found.values.shape[1:]
        == {"blocks.0": (tokens, 16), "blocks.0.mlp.1": (tokens, 32), "patches": (16, 3, 3)}[layer]
    )
    assert bool(within(found).all())


class Mixed(nn.Module):
    """A trace, a volume and a row of numbers, brought together by a product."""

    def __init__(self):
        super().__init__()
        self.trace, self.volume = nn.Conv1d(1, 3, 3), nn.Conv3d(2, 3, 2)
        self.numbers, self.head = nn.Linear(4, 3), nn.Linear(3, 2)

    def forward(self, trace, volume, numbers):
        seen = functional.softplus(self.trace(trace)).mean(2) * torch.tanh(self.volume(volume)).mean((2, 3, 4))
        return self.head(seen + self.numbers(numbers))


@pytest.mark.parametrize("method", ["integrated_gradients", "guided_ig", "expected_gradients(samples=40)", "gradient",
                                    "smoothgrad(samples=4)"])  # fmt: skip
def test_a_sequence_a_volume_and_numbers_are_explained_together_and_rows_stand_alone(pixels, method):
    torch.manual_seed(0)
    net, ids = Mixed().eval(), ("a", "b", "c")
    x = (pixels(3, 1, 12), pixels(3, 2, 4, 5, 6, seed=2), pixels(3, 4, seed=3))
    together = pellucid.explain(net, x, method, target=1, ids=ids, batch_size=4)
    assert [values.shape for values in together.values] == [tensor.shape for tensor in x]
    if together.gap is not None:
        assert bool(within(together).all())
    for row in range(3):
        alone = pellucid.explain(
            net, tuple(part[row : row + 1] for part in x), method, target=1, ids=ids[row : row + 1]
        )
        for whole, own in zip(together.values, alone.values, strict=True):
            torch.testing.assert_close(whole[row], own[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 16), (1, 6, 7, 8)])
@pytest.mark.parametrize("method", ["blur_ig", "guided_ig"])
def test_the_bent_paths_keep_the_promise_in_one_and_three_dimensions(pixels, shape, method):
    torch.manual_seed(0)
    convolution = nn.Conv1d if len(shape) == 2 else nn.Conv3d
    net = nn.Sequential(
        convolution(1, 4, 3), nn.ReLU(), convolution(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)
    ).eval()
    x = pixels(3, *shape)
    net(x)
    found = pellucid.explain(net, x, method, target=0)
    assert bool(within(found).all()), (found.gap, found.warnings)


def test_blurring_inputs_of_one_and_three_axes_blurs_each_along_its_own(pixels):
    torch.manual_seed(0)

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.trace, self.volume, self.head = nn.Conv1d(1, 3, 3), nn.Conv3d(2, 3, 2), nn.Linear(3, 2)

        def forward(self, trace, volume):
            return self.head(
                functional.softplus(self.trace(trace)).mean(2) * self.volume(volume).tanh().mean((2, 3, 4))
            )

    x = (pixels(2, 1, 16), pixels(2, 2, 5, 6, 7, seed=2))
    found = pellucid.explain(Two().eval(), x, "blur_ig", target=1)
    assert bool(within(found).all())
