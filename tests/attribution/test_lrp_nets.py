"""LRP on the nets of the field: the books balance row by row, whatever the net is made of."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pellucid import explain
from pellucid.errors import GuardError
from pellucid.models import Model


class Net(nn.Module):
    """A network that is one function of its own parts."""

    def __init__(self, forward: Callable[..., Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.run = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *x: Tensor) -> Tensor:
        return self.run(self, *x)


def vgg() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(32, 3))  # fmt: skip


def dense_net() -> nn.Module:
    def forward(self: Net, x: Tensor) -> Tensor:
        seen = [self.stem(x)]
        for layer in self.layers:
            seen.append(layer(torch.cat(seen, 1)))
        h = functional.avg_pool2d(functional.relu(self.norm(torch.cat(seen, 1)), inplace=True), 4)
        return self.head(torch.flatten(h, 1))

    layers = [
        nn.Sequential(nn.BatchNorm2d(4 + 3 * k), nn.ReLU(inplace=True), nn.Conv2d(4 + 3 * k, 8, 1, bias=False),
                      nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Conv2d(8, 3, 3, padding=1, bias=False))
        for k in range(3)
    ]  # fmt: skip
    return Net(forward, stem=nn.Conv2d(3, 4, 3, 2, 1), layers=nn.ModuleList(layers), norm=nn.BatchNorm2d(13), head=nn.Linear(13, 3))  # fmt: skip


class MBConv(nn.Module):
    def __init__(self, width: int, gate: nn.Module) -> None:
        super().__init__()
        wide = 2 * width
        self.expand = nn.Sequential(nn.Conv2d(width, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.SiLU(inplace=True))
        self.depth = nn.Sequential(nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.SiLU(inplace=True))  # fmt: skip
        self.down, self.up, self.gate = nn.Conv2d(wide, 2, 1), nn.Conv2d(2, wide, 1), gate
        self.project = nn.Sequential(nn.Conv2d(wide, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        h = self.depth(self.expand(x))
        scale = self.gate(self.up(functional.silu(self.down(functional.adaptive_avg_pool2d(h, 1)), inplace=True)))
        return self.project(scale * h) + x


def efficient_net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.Hardswish(), MBConv(4, nn.Sigmoid()),
                         MBConv(4, nn.Hardsigmoid()), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))  # fmt: skip


class ConvNeXtBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.depth = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.scale = nn.Parameter(torch.full((width, 1, 1), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.depth(x).permute(0, 2, 3, 1))
        return x + self.scale * self.down(functional.gelu(self.up(h))).permute(0, 3, 1, 2)


def conv_next() -> nn.Module:
    def forward(self: Net, x: Tensor) -> Tensor:
        h = self.blocks(self.stem(x))
        return self.head(self.norm(h.mean((-2, -1))))

    blocks = nn.Sequential(ConvNeXtBlock(6), ConvNeXtBlock(6))
    return Net(forward, stem=nn.Conv2d(3, 6, 2, 2), blocks=blocks, norm=nn.LayerNorm(6), head=nn.Linear(6, 3))


def inception() -> nn.Module:
    def forward(self: Net, x: Tensor) -> Tensor:
        h = functional.relu(self.norm(self.stem(x)), inplace=True)
        pooled = self.d(functional.avg_pool2d(h, 3, stride=1, padding=1))
        h = torch.cat([self.a(h), self.c(functional.relu(self.b(h))), pooled, functional.max_pool2d(h, 3, 1, 1)], 1)
        return self.head(functional.relu(h).amax((2, 3)))

    return Net(forward, stem=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4, eps=1e-3), a=nn.Conv2d(4, 2, 1), b=nn.Conv2d(4, 3, 1),
               c=nn.Conv2d(3, 3, (1, 3), padding=(0, 1)), d=nn.Conv2d(4, 2, 1), head=nn.Linear(11, 3))  # fmt: skip


class ModuleAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


def encoder(*, batch_first: bool) -> nn.Module:
    def forward(self: Net, x: Tensor) -> Tensor:
        h = self.patches(x).flatten(2)
        h = self.encoder(h.transpose(1, 2)) if batch_first else self.encoder(h.permute(2, 0, 1)).transpose(0, 1)
        return self.head(h.mean(1))

    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=batch_first, activation="gelu", norm_first=True)
    return Net(forward, patches=nn.Conv2d(3, 8, 4, 4), encoder=nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), head=nn.Linear(8, 3))  # fmt: skip


def hugging_face(implementation: str) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12,
                                    image_size=8, patch_size=4, num_labels=3, attn_implementation=implementation)  # fmt: skip
    return Net(lambda self, x: self.vit(x).logits, vit=transformers.ViTForImageClassification(config))


class Windows(nn.Module):
    """Shifted windows of 2 x 2 with a relative position bias, as in Swin."""

    def __init__(self, width: int, shift: int) -> None:
        super().__init__()
        self.norm, self.qkv, self.out, self.shift = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width), shift  # fmt: skip
        self.bias = nn.Parameter(torch.zeros(2, 4, 4))

    def forward(self, x: Tensor) -> Tensor:
        n, h, w, c = x.shape
        y = torch.roll(self.norm(x), (-self.shift, -self.shift), (1, 2))
        y = y.view(n, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        q, k, v = self.qkv(y).reshape(-1, 4, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
        weights = functional.softmax(q @ k.transpose(-2, -1) * (c // 2) ** -0.5 + self.bias.unsqueeze(0), -1)
        y = self.out((weights @ v).transpose(1, 2).reshape(-1, 4, c))
        y = y.view(n, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)
        return x + torch.roll(y, (self.shift, self.shift), (1, 2))


def swin() -> nn.Module:
    def forward(self: Net, x: Tensor) -> Tensor:
        h = self.second(self.first(self.patches(x).permute(0, 2, 3, 1)))
        h = torch.cat([h[:, 0::2, 0::2], h[:, 1::2, 0::2], h[:, 0::2, 1::2], h[:, 1::2, 1::2]], -1)
        return self.head(self.merge(self.norm(h)).flatten(1, 2).mean(1))

    return Net(forward, patches=nn.Conv2d(3, 8, 2, 2), first=Windows(8, 0), second=Windows(8, 1), norm=nn.LayerNorm(32),
               merge=nn.Linear(32, 8, bias=False), head=nn.Linear(8, 3))  # fmt: skip


def u_net(*, transposed: bool) -> nn.Module:
    def forward(self: Net, x: Tensor) -> Tensor:
        one = functional.relu(self.a(x))
        two = functional.relu(self.norm(self.b(functional.max_pool2d(one, 2))))
        wide = self.up(two) if transposed else functional.interpolate(two, scale_factor=2, mode="bilinear")
        return self.head(functional.leaky_relu(self.c(torch.cat([wide, one], 1)))).mean((2, 3))

    return Net(forward, a=nn.Conv2d(3, 4, 3, padding=1), b=nn.Conv2d(4, 6, 3, padding=1), norm=nn.InstanceNorm2d(6, affine=True),
               up=nn.ConvTranspose2d(6, 6, 2, 2, groups=2), c=nn.Conv2d(10, 4, 3, padding=2, dilation=2), head=nn.Conv2d(4, 3, 1))  # fmt: skip


def volume() -> nn.Module:
    def forward(self: Net, x: Tensor) -> Tensor:
        h = self.relu(self.norm(self.stem(x)))
        h = self.relu(self.group(self.conv(h))).add_(h)
        h = functional.adaptive_avg_pool3d(self.up(functional.max_pool3d(self.relu(h), 2)), 1)
        return self.head(h.flatten(1))

    return Net(forward, stem=nn.Conv3d(1, 4, 3, padding=1, bias=False), norm=nn.BatchNorm3d(4), relu=nn.ReLU(inplace=True),
               conv=nn.Conv3d(4, 4, 3, padding=1), group=nn.GroupNorm(2, 4), up=nn.ConvTranspose3d(4, 5, 2, 2), head=nn.Linear(5, 3))  # fmt: skip


def sequence() -> nn.Module:
    return nn.Sequential(nn.Conv1d(4, 6, 5, padding=2), nn.BatchNorm1d(6), nn.ELU(), nn.MaxPool1d(2), nn.Conv1d(6, 6, 3, dilation=2),
                         nn.PReLU(6), nn.ConvTranspose1d(6, 4, 3, 2), nn.Softplus(), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(4, 3))  # fmt: skip


def recurrent(kind: type[nn.RNNBase], *, batch_first: bool) -> nn.Module:
    def forward(self: Net, x: Tensor) -> Tensor:
        h = functional.relu(self.conv(x))
        h = self.memory(h.transpose(1, 2))[0][:, -1] if batch_first else self.memory(h.permute(2, 0, 1))[0][-1]
        return self.head(h)

    memory = kind(5, 4, num_layers=2, batch_first=batch_first, bidirectional=True)
    return Net(forward, conv=nn.Conv1d(4, 5, 3), memory=memory, head=nn.Linear(8, 3))


def two_inputs() -> nn.Module:
    def forward(self: Net, x: Tensor, y: Tensor) -> Tensor:
        h = functional.relu(self.a(x)).mean((2, 3))
        return self.head(torch.cat([h, torch.tanh(self.b(y))], 1) * torch.sigmoid(self.c(y)))

    return Net(forward, a=nn.Conv2d(3, 4, 3), b=nn.Linear(5, 4), c=nn.Linear(5, 8), head=nn.Linear(8, 3))


def written_slices() -> nn.Module:
    def forward(self: Net, x: Tensor) -> Tensor:
        h = functional.relu(self.a(x)).flatten(2).transpose(1, 2)
        h[:, 0] = self.token
        wide = torch.full((len(h), h.shape[1], 6), 0.5)
        wide[:, 1:, :4] = h[:, 1:]
        wide = torch.where(self.keep, wide, self.fill).masked_fill(~self.keep, 0.25)
        return self.head(
            functional.pixel_shuffle(self.b(wide.mean(1)).view(-1, 4, 1, 1), 2).flatten(1).clamp(-0.4, 3.0)
        )

    net = Net(forward, a=nn.Conv2d(3, 4, 3), b=nn.Linear(6, 4), head=nn.Linear(4, 3))
    net.token, net.fill = nn.Parameter(torch.full((4,), 0.3)), nn.Parameter(torch.full((6,), -0.2))
    net.register_buffer("keep", torch.tensor([True, True, False, True, True, False]))
    return net


def by_hand_norms() -> nn.Module:
    def forward(self: Net, x: Tensor) -> Tensor:
        h = self.a(x.flatten(1))
        h = h * torch.rsqrt(h.square().mean(-1, keepdim=True) + 1e-6)
        h = self.b((h - h.mean(-1, keepdim=True)) / (h.std(-1, keepdim=True) + 1e-3))
        h = functional.rms_norm(functional.normalize(h, dim=1), (6,)) + torch.maximum(h, h.flip(1))
        return self.head(
            functional.glu(torch.cat([h, torch.maximum(h, torch.tensor(0.1))], 1)) + torch.logsumexp(h, 1, keepdim=True)
        )

    return Net(forward, a=nn.Linear(48, 6), b=nn.Linear(6, 6), head=nn.Linear(6, 3))


IMAGE = (3, 8, 8)
NETS: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...]]] = {
    "vgg": (vgg, (IMAGE,)), "dense_net": (dense_net, (IMAGE,)), "efficient_net": (efficient_net, (IMAGE,)),
    "conv_next": (conv_next, (IMAGE,)), "inception": (inception, (IMAGE,)),
    "encoder": (lambda: encoder(batch_first=True), (IMAGE,)),
    "encoder_tokens_first": (lambda: encoder(batch_first=False), (IMAGE,)),
    "hugging_face_eager": (lambda: hugging_face("eager"), (IMAGE,)),
    "hugging_face_sdpa": (lambda: hugging_face("sdpa"), (IMAGE,)),
    "swin": (swin, (IMAGE,)), "u_net_transposed": (lambda: u_net(transposed=True), (IMAGE,)),
    "u_net_interpolated": (lambda: u_net(transposed=False), (IMAGE,)), "volume": (volume, ((1, 6, 6, 6),)),
    "sequence": (sequence, ((4, 16),)), "lstm": (lambda: recurrent(nn.LSTM, batch_first=True), ((4, 8),)),
    "lstm_time_first": (lambda: recurrent(nn.LSTM, batch_first=False), ((4, 8),)),
    "gru": (lambda: recurrent(nn.GRU, batch_first=True), ((4, 8),)), "two_inputs": (two_inputs, (IMAGE, (5,))),
    "written_slices": (written_slices, (IMAGE,)), "by_hand_norms": (by_hand_norms, ((3, 4, 4),)),
}  # fmt: skip

VITS = {
    "vit_sdpa": lambda nets: nets.ViT(lambda: nets.Attention(8, 2, by_hand=False)),
    "vit_by_hand": lambda nets: nets.ViT(lambda: nets.Attention(8, 2, by_hand=True)),
    "vit_module": lambda nets: nets.ViT(lambda: ModuleAttention(8, 2)),
}  # fmt: skip

METHODS = [
    "lrp", 'lrp(gates="half")', "attn_lrp", 'lrp(composite="epsilon_plus_flat")',
    'lrp(composite="epsilon_alpha2_beta1_flat")', 'lrp(composite="epsilon_gamma_box", low=-4.0, high=4.0)',
]  # fmt: skip


def made(name: str, nets, pixels) -> tuple[nn.Module, tuple[Tensor, ...]]:
    factory, shapes = NETS[name] if name in NETS else (lambda: VITS[name](nets), (IMAGE,))
    net = nets.lived_in(factory(), seed=3)
    return net, tuple(pixels(4, *shape, seed=place) for place, shape in enumerate(shapes))


@pytest.mark.parametrize("name", [*NETS, *VITS])
def test_the_books_balance_on_every_net_by_every_composite(nets, pixels, name):
    net, x = made(name, nets, pixels)
    for method in METHODS:
        found = explain(Model(net), x if len(x) > 1 else x[0], method, target=[0, 1, 2, 1])
        scale = found.output.abs() + found.absorbed.abs() + sum(part.flatten(1).sum(1).abs() for part in found.tensors)
        assert (found.gap < 1e-4 * scale).all(), (method, found.gap / scale)
        assert all(part.abs().amax() > 1e-6 for part in found.tensors), method


@pytest.mark.parametrize("name", ["vgg", "efficient_net", "vit_module", "swin", "encoder_tokens_first", "lstm", "u_net_transposed", "two_inputs"])  # fmt: skip
def test_row_i_alone_equals_row_i_in_a_batch_and_so_do_its_books(nets, pixels, name):
    net, x = made(name, nets, pixels)
    for method in ("lrp(epsilon=0.01)", "attn_lrp"):
        together = explain(Model(net), x, method, target=[0, 1, 2, 1])
        for row in (0, 3):
            alone = explain(Model(net), tuple(part[row : row + 1] for part in x), method, target=[0, 1, 2, 1][row])
            for one, many in zip(alone.tensors, together.tensors, strict=True):
                torch.testing.assert_close(many[row], one[0], rtol=1e-3, atol=1e-5)
            torch.testing.assert_close(together.absorbed[row], alone.absorbed[0], rtol=1e-3, atol=1e-4)


def test_tokens_before_rows_are_explained_one_row_at_a_time_and_it_says_so(nets, pixels):
    net, x = made("encoder_tokens_first", nets, pixels)
    assert "one at a time" in explain(net, x[0], "lrp", target=0).warnings[0]
    assert not explain(net, x[0][:1], "lrp", target=0).warnings
    assert not explain(*made("vit_module", nets, pixels), "lrp", target=0).warnings


@pytest.mark.parametrize(("name", "layer"), [
    ("vgg", "4"), ("vgg", "2"), ("dense_net", "norm"), ("efficient_net", "3"), ("conv_next", "stem"), ("vit_sdpa", "patches"),
    ("vit_sdpa", "blocks.0"), ("vit_module", "blocks.1"), ("swin", "second"), ("volume", "norm"), ("lstm", "conv"), ("inception", "norm"),
])  # fmt: skip
@pytest.mark.parametrize("method", ["lrp(at={!r})", "attn_lrp(at={!r})", "lrp(composite='epsilon_plus_flat', at={!r})"])
def test_relevance_at_a_layer_and_what_was_absorbed_after_it_add_up(nets, pixels, name, layer, method):
    net, x = made(name, nets, pixels)
    seen: list[Tensor] = []
    hook = net.get_submodule(layer).register_forward_hook(lambda _module, _given, out: seen.append(out))
    found = explain(net, x[0], method.format(layer), target=1)
    hook.remove()
    assert found.values.shape == seen[0].shape
    assert (found.gap < 1e-4 * (found.output.abs() + found.absorbed.abs())).all()
    assert found.values.abs().amax() > 1e-4


def test_relevance_at_the_last_hidden_layer_is_activation_times_weight(nets, pixels):
    net = nets.lived_in(vgg())
    x = pixels(3, 3, 8, 8)
    found = explain(net, x, "lrp(at='7')", target=2)
    hidden = net[:8](x).detach()
    torch.testing.assert_close(found.values, hidden * net[9].weight[2].detach(), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found.absorbed, net[9].bias[2].detach().expand(3), rtol=1e-3, atol=1e-4)


def test_a_layer_that_a_skip_passes_by_leaves_a_gap(nets, pixels):
    found = explain(nets.lived_in(nets.ResNet(1)), pixels(2, 3, 8, 8), "lrp(at='blocks.0.a')", target=1)
    assert (found.gap > 0.01 * found.output.abs()).all()
    assert "passes the layer 'blocks.0.a' by" in found.warnings[0]


def test_the_books_say_which_operation_absorbed_what(nets, pixels):
    net = nets.lived_in(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)))
    found = explain(net, pixels(3, 3, 8, 8), "lrp", target=1, batch_size=2)
    assert set(found.details) == {"absorbed by conv2d", "absorbed by linear"}
    torch.testing.assert_close(
        found.details["absorbed by linear"], net[3].bias[1].detach().expand(3), rtol=1e-3, atol=1e-4
    )
    torch.testing.assert_close(sum(found.details.values()), found.absorbed)


def test_a_warp_moves_relevance_without_taking_any(nets, pixels):
    def warped(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
        grid = torch.tanh(a(x.mean((2, 3)))).view(-1, 2, 2, 2)
        return b(functional.grid_sample(x, grid, align_corners=False).flatten(1))

    net = nets.lived_in(nets.Call(warped, nn.Linear(3, 8), nn.Linear(12, 2, bias=False)))
    found = explain(net, pixels(2, 3, 6, 6), "lrp", target=0)
    torch.testing.assert_close(found.values.flatten(1).sum(1), found.output, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("by_hand", "torch_s_own"), [
    (lambda h: h * (h > 0), functional.relu), (lambda h: torch.where(h > 0, h, 0.1 * h), lambda h: functional.leaky_relu(h, 0.1)),
    (lambda h: h.masked_fill(h < 0, 0.0), functional.relu), (lambda h: h.sign() * h, torch.abs),
])  # fmt: skip
def test_a_mask_of_activations_hands_on_what_it_selects(nets, pixels, by_hand, torch_s_own):
    parts = nn.Linear(12, 8), nn.Linear(8, 2)
    made_by = [nets.lived_in(nets.Call(lambda x, a, b, bend=bend: b(bend(a(x.flatten(1)))), *parts))
               for bend in (by_hand, torch_s_own)]  # fmt: skip
    one, two = (explain(net, pixels(3, 3, 2, 2), "lrp", target=0).values for net in made_by)
    torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)


def test_relevance_that_no_rule_books_is_told(nets, pixels):
    def forward(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
        h = a(x.flatten(1)) * 1
        h[:, :4].fill_(2.0)
        return b(h)

    net = nets.lived_in(nets.Call(forward, nn.Linear(12, 8), nn.Linear(8, 2)))
    assert "no rule books" in explain(net, pixels(3, 3, 2, 2), "lrp", target=0).warnings[0]


@pytest.mark.parametrize("name", ["cumprod", "lgamma"])
def test_what_has_no_rule_is_refused_with_its_line(nets, pixels, name):
    def forward(x: Tensor, a: nn.Module) -> Tensor:
        return a(getattr(x.flatten(1), name)(*([1] if name == "cumprod" else [])))

    net = nets.lived_in(nets.Call(forward, nn.Linear(12, 2)))
    with pytest.raises(GuardError, match=rf"{name} at test_lrp_nets.py:\d+ in .*forward.*occlusion"):
        explain(net, pixels(3, 3, 2, 2), "lrp", target=0)


STEPS = {
    "a number over an activation": lambda h: 1 / (1 + h.abs()),
    "an activation over another": lambda h: h / (1 + h.abs()),
    "in place over another": lambda h: (h * 1).div_(h.abs() + 0.5),
    "a number in a where": lambda h: torch.where(torch.arange(8) > 3, h, 0.7),
    "numbers written in place": lambda h: (h * 1).masked_fill_(torch.arange(8) > 3, 0.7),
    "addcmul": lambda h: torch.addcmul(torch.ones(8), h, h.flip(1), value=0.5),
    "lerp": lambda h: torch.lerp(h, torch.ones(8), 0.25),
    "baddbmm": lambda h: torch.baddbmm(torch.ones(1, 1, 8), h[:, None], torch.eye(8).expand(len(h), 8, 8), beta=0.5)[
        :, 0
    ],
    "a gate in place": lambda h: (h * 1).mul_(h.sum(1, keepdim=True).sigmoid_()),
    "two gates": lambda h: torch.sigmoid(h) * torch.softmax(h, 1),
    "a gate that was moved and turned round": lambda h: h * (1 - torch.sigmoid(h.view(-1, 2, 4)).flatten(1)),
    "einsum of two": lambda h: torch.einsum("ni,ni->ni", h, h.flip(1)),
    "a power": lambda h: (h.abs() + 1) ** 0.5,
    "the log of a softmax": lambda h: torch.log_softmax(h, 1),
    "a length": lambda h: torch.linalg.vector_norm(h, dim=1, keepdim=True) * torch.ones(8),
    "the largest ones": lambda h: torch.cat([h.topk(4, 1)[0], h.sort(1)[0][:, :4]], 1),
    "the larger of two and of a number": lambda h: torch.maximum(h, h.flip(1)) + torch.max(h, torch.tensor(0.3)),
    "copied into ones": lambda h: torch.ones(len(h), 8).index_copy(1, torch.arange(4), h[:, :4]),
    "written into a part": lambda h: functional.pad(h, (2, 2), value=0.5)[:, 1:9],
    "a mean shift of a part": lambda h: torch.stack([h, torch.ones(len(h), 8)], 1).mean(1),
    "dropout and flips": lambda h: functional.dropout(h.flip(1), training=False).roll(1, 1),
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_the_books_balance_through_every_step(nets, pixels, step):
    net = nets.lived_in(nets.Call(lambda x, a, b: b(step(a(x.flatten(1)))), nn.Linear(12, 8), nn.Linear(8, 2)))
    for method in ("lrp", "attn_lrp"):
        found = explain(net, pixels(4, 3, 2, 2), method, target=1)
        scale = 1 + found.output.abs() + found.absorbed.abs()
        assert (found.gap < 1e-5 * scale).all(), (method, found.gap)
        assert not found.warnings


def length(x: Tensor) -> Tensor:
    return x.norm(dim=1, keepdim=True)


def spread(x: Tensor) -> Tensor:
    return (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()


ONE = torch.tensor([1.0, 0.0, 0.0, 0.0]).double()


@pytest.mark.parametrize(("step", "wanted"), [
    (lambda x: torch.linalg.vector_norm(x, dim=1, keepdim=True), lambda x: x * x / length(x)),
    (lambda x: (x / length(x))[:, :1], lambda x: ONE * x / length(x)),
    (lambda x: functional.layer_norm(x, (4,))[:, :1], lambda x: (ONE - 0.25) * x / spread(x)),
    (lambda x: functional.group_norm(x, 1)[:, :1], lambda x: (ONE - 0.25) * x / spread(x)),
    (lambda x: functional.rms_norm(x, (4,), eps=0.0)[:, :1], lambda x: 2 * ONE * x / length(x)),
    (lambda x: x[:, :1] * x[:, 1:2], lambda x: (ONE + ONE.roll(1)) * (x[:, :1] * x[:, 1:2] / 2)),
    (lambda x: x[:, :1] * x[:, :1], lambda x: ONE * x * x),
    (lambda x: torch.tanh(x)[:, :1], lambda x: ONE * torch.tanh(x)),
    (lambda x: torch.sigmoid(x)[:, :1], lambda x: ONE * (torch.sigmoid(x) - 0.5)),
    (lambda x: torch.softmax(x, 1)[:, :1], lambda x: x * x.softmax(1)[:, :1] * (ONE - x.softmax(1))),
    (lambda x: x.amax(1, keepdim=True), lambda x: torch.where(x == x.amax(1, keepdim=True), x, 0)),
    (lambda x: torch.maximum(x[:, :1], x[:, 1:2]), lambda x: torch.where(x == x[:, :2].amax(1, keepdim=True), x, 0)),
    (lambda x: torch.exp(x)[:, :1], lambda x: ONE * (torch.exp(x) - 1)),
])  # fmt: skip
def test_what_every_number_gets_as_a_closed_form(nets, pixels, step, wanted):
    x = pixels(3, 4).double()
    found = explain(nets.Call(step), x, "lrp")
    torch.testing.assert_close(found.values, wanted(x), rtol=1e-4, atol=1e-5)
    assert (found.gap < 1e-5).all()
