"""Class activation maps of transformers: tokens laid out at the grid of their patches, channels-last maps."""

import pytest
import torch
from torch import nn

import pellucid
from pellucid.errors import CannotExplain
from pellucid.testing.zoo import ZOO

CAMS = (
    "gradcam", "gradcam_plus_plus", "hirescam", "layercam", "xgradcam", "eigencam", "scorecam", "ablationcam",
)  # fmt: skip


class Tokens(nn.Module):
    """Patches of 2 × 2, extra tokens before them, one layer, a linear head on the mean of the patches' ReLUs."""

    def __init__(self, extra=3, *, convolved=True):
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(2, 5, 2, stride=2)
        self.convolved, self.extra = convolved, extra
        self.register = nn.Parameter(torch.randn(1, extra, 5))
        self.body = nn.Sequential(nn.Linear(5, 5), nn.ReLU())
        self.norm = nn.LayerNorm(5)
        self.head = nn.Linear(5, 3)

    def tokens(self, x):
        if self.convolved:
            patches = self.patches(x).flatten(2).mT
        else:
            cut = nn.functional.unfold(x, 2, stride=2).mT
            patches = nn.functional.linear(cut, self.patches.weight.flatten(1), self.patches.bias)
        return torch.cat([self.register.expand(len(x), -1, -1), patches], 1)

    def forward(self, x):
        return self.head(self.body(self.tokens(x))[:, self.extra :].mean(1))


def images(rows=3):
    return torch.randn(rows, 2, 6, 10, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("extra", [0, 1, 5])
def test_hirescam_at_tokens_equals_the_hand_computed_shares_and_adds_up_to_the_logit(extra):
    net, x = Tokens(extra), images()
    e = pellucid.explain(net, x, "hirescam(at='body')", target=[0, 1, 2])
    tokens = net.body(net.tokens(x))[:, extra:]
    by_hand = torch.einsum("ntc,nc->nt", tokens, net.head.weight) / 15
    torch.testing.assert_close(e.values, by_hand.reshape(3, 1, 3, 5).detach())
    torch.testing.assert_close(e.values.flatten(1).sum(1) + net.head.bias.detach(), e.output)
    assert e.details == {"at": "body", "grid": (3, 5)}


@pytest.mark.parametrize("method", CAMS)
def test_the_map_peaks_at_the_one_patch_that_carries_the_signal(method):
    net, x = Tokens(), torch.zeros(2, 2, 6, 10)
    with torch.no_grad():
        net.patches.weight.fill_(0.5)
        net.patches.bias.zero_()
        net.register.fill_(9.0)  # louder than any patch
        net.body[0].weight.copy_(torch.eye(5))
        net.body[0].bias.zero_()
        net.head.weight.fill_(0.1)
        net.head.weight[1] = 1.0
    x[0, :, 2:4, 6:8] = 1.0
    x[1, :, 4:6, 0:2] = 1.0
    e = pellucid.explain(net, x, f"{method}(at='body')", target=1)
    assert e.values.shape == (2, 1, 3, 5)
    assert e.values.flatten(1).argmax(1).tolist() == [1 * 5 + 3, 2 * 5 + 0]


@pytest.mark.parametrize("method", [*CAMS, "guided_gradcam"])
def test_patches_that_no_convolution_makes_need_a_grid(method):
    shown, hidden, x = Tokens(), Tokens(convolved=False), images()
    torch.testing.assert_close(shown(x), hidden(x))
    with pytest.raises(CannotExplain, match=r"18 tokens .* no patch convolution .* grid=\(rows, columns\)"):
        pellucid.explain(hidden, x, f"{method}(at='body')", target=1)
    for wrong in ((6, 10), (2, 4)):
        with pytest.raises(CannotExplain, match="18 tokens"):
            pellucid.explain(hidden, x, f"{method}(at='body', grid={wrong})", target=1)
    told = pellucid.explain(hidden, x, f"{method}(at='body', grid=(3, 5))", target=1)
    seen = pellucid.explain(shown, x, f"{method}(at='body')", target=1)
    torch.testing.assert_close(told.values, seen.values, rtol=1e-4, atol=1e-5)


def test_ablationcam_silences_a_channel_in_every_token():
    net, x = Tokens(), images()
    e = pellucid.explain(net, x, "ablationcam(at='body')", target=1)
    tokens, whole = net.body(net.tokens(x)), net(x)[:, 1]
    by_hand = torch.zeros(3, 15)
    for channel in range(5):
        kept = tokens.clone()
        kept[:, :, channel] = 0
        drop = (whole - net.head(kept[:, 3:].mean(1))[:, 1]) / whole.abs()
        by_hand += drop[:, None] * tokens[:, 3:, channel]
    torch.testing.assert_close(e.values, by_hand.reshape(3, 1, 3, 5).detach(), rtol=1e-4, atol=1e-5)


def test_eigencam_leaves_loud_registers_out():
    net, x = Tokens(), images()
    quiet = pellucid.explain(net, x, "eigencam(at='body')", target=0).values
    with torch.no_grad():
        net.register.mul_(100)
    torch.testing.assert_close(pellucid.explain(net, x, "eigencam(at='body')", target=0).values, quiet)


@pytest.mark.parametrize(
    ("name", "at", "grid"),
    [
        ("vit", "blocks.1.norm1", (4, 6)),
        ("vit_encoder", "encoder", (4, 6)),
        ("vit_transformers", "vit.layers.1.layernorm_before", (4, 4)),
        ("swin", "norm", (4, 6)),
    ],
)
def test_the_default_layer_of_a_transformer_is_the_last_whose_patches_the_output_looks_at(name, at, grid):
    net = ZOO[name]
    e = pellucid.explain(net.model(), net.inputs(), "gradcam")
    assert e.details == {"at": at, "grid": grid}
    assert e.values.any()
    assert e.warnings == (f"at={at!r} was chosen: the last layer with a feature map",)


def test_behind_the_last_attention_a_class_token_no_longer_looks_at_the_patches():
    net = ZOO["vit"]
    e = pellucid.explain(net.model(), net.inputs(), "gradcam(at='norm')")
    assert e.values.shape == (2, 1, 4, 6)
    assert not e.values.any()


def test_where_the_target_reads_a_layer_the_default_lies_no_later():
    net, target = ZOO["resnet18"], pellucid.targets.Latent(index=3, layer="layers.2")
    e = pellucid.explain(net.model(), net.inputs(), "gradcam", target)
    assert e.details["at"] == "layers.2"
    assert e.values.any()


class ChannelsLast(nn.Module):
    """A feature map, and the same with its channels moved last."""

    def __init__(self, width=4):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(2, width, 3, padding=1, stride=2)
        self.turned = nn.Identity()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        turned = self.turned(self.body(x).permute(0, 2, 3, 1))
        return self.head(self.norm(turned).relu().mean((1, 2)))


@pytest.mark.parametrize("method", [method for method in CAMS if method != "xgradcam"])
def test_a_channels_last_map_gives_what_the_same_map_gives_with_its_channels_first(method):
    net, x = ChannelsLast(), torch.randn(2, 2, 8, 14, generator=torch.Generator().manual_seed(1))
    if method == "gradcam_plus_plus":
        net.body.weight.data.abs_()
        x = x.abs()
    first, last = (pellucid.explain(net, x, f"{method}(at='{at}')", target=1).values for at in ("body", "turned"))
    assert last.shape == (2, 1, 4, 7)
    torch.testing.assert_close(first, last, rtol=1e-4, atol=1e-6)


def test_a_map_whose_axes_cannot_be_told_apart_is_refused():
    net, x = ChannelsLast(4), torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    with pytest.raises(CannotExplain, match="whether its channels come first or last cannot be told"):
        pellucid.explain(net, x, "gradcam(at='turned')", target=1)
    with pytest.raises(CannotExplain, match=r"cannot be told from grid=\(3, 3\)"):
        pellucid.explain(net, x, "gradcam(at='turned', grid=(3, 3))", target=1)
    wide = ChannelsLast(6)
    told = pellucid.explain(wide, x, "gradcam(at='turned', grid=(4, 4))", target=1)
    torch.testing.assert_close(told.values, pellucid.explain(wide, x, "gradcam(at='turned')", target=1).values)


class SequenceTokens(nn.Module):
    """Tokens along a sequence, a class token before them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.first = nn.Conv1d(4, 5, 4, stride=4), nn.Parameter(torch.randn(1, 1, 5))
        self.body, self.norm, self.head = nn.ReLU(), nn.LayerNorm(5), nn.Linear(5, 2)

    def forward(self, x):
        tokens = torch.cat([self.first.expand(len(x), -1, -1), self.patches(x).mT], 1)
        return self.head(self.body(tokens)[:, 1:].mean(1))


def test_tokens_along_a_sequence_need_a_grid():
    net, x = SequenceTokens(), torch.randn(3, 4, 24, generator=torch.Generator().manual_seed(1))
    with pytest.raises(CannotExplain, match="cannot be told"):
        pellucid.explain(net, x, "hirescam(at='body')", target=1)
    e = pellucid.explain(net, x, "hirescam(at='body', grid=(6,))", target=1)
    by_hand = torch.einsum("nct,c->nt", net.patches(x).relu(), net.head.weight[1]) / 6
    torch.testing.assert_close(e.values[:, 0], by_hand.detach())


@pytest.mark.parametrize("method", CAMS)
def test_row_i_alone_equals_row_i_in_a_batch_of_tokens(method):
    net, x = Tokens(), images()
    together = pellucid.explain(net, x, f"{method}(at='body')", target=[0, 1, 2], batch_size=2)
    for row in range(3):
        alone = pellucid.explain(net, x[row : row + 1], f"{method}(at='body')", target=row)
        torch.testing.assert_close(together.values[row], alone.values[0], rtol=1e-5, atol=1e-7)


def test_tokens_along_a_sequence_have_no_grid_of_two_axes():
    net, x = SequenceTokens(), torch.randn(3, 4, 24, generator=torch.Generator().manual_seed(1))
    with pytest.raises(CannotExplain, match=r"cannot be told from grid=\(2, 3\)"):
        pellucid.explain(net, x, "hirescam(at='body', grid=(2, 3))", target=1)
