"""AttnLRP against a walk through a two-layer ViT by explicit loops, and where it must equal other methods."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pellucid import explain


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, relevance: Tensor) -> Tensor:
    """R_i = Σ_j x_i w_ji / z_j R_j, token by token."""
    found = torch.zeros_like(x)
    for t in range(len(x)):
        z = weight @ x[t] + (0 if bias is None else bias)
        for j in range(len(weight)):
            found[t] += x[t] * weight[j] / z[j] * relevance[t, j]
    return found


def product(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Each term a_ij b_jp of the sum O_ip gets its share of R_ip, and hands each factor half of it."""
    whole, ra, rb = a @ b, torch.zeros_like(a), torch.zeros_like(b)
    for i in range(len(a)):
        for p in range(b.shape[1]):
            for j in range(a.shape[1]):
                share = a[i, j] * b[j, p] / whole[i, p] * relevance[i, p] / 2
                ra[i, j] += share
                rb[j, p] += share
    return ra, rb


def softmax(x: Tensor, relevance: Tensor) -> Tensor:
    """R_i = x_i (R_i − s_i Σ_j R_j)."""
    s = x.softmax(-1)
    return x * (relevance - s * relevance.sum(-1, keepdim=True))


def layer_norm(x: Tensor, norm: nn.LayerNorm, relevance: Tensor) -> Tensor:
    """The mean is subtracted linearly, the spread is a constant, the shift absorbs; y = w s (x − m) + b."""
    found = torch.zeros_like(x)
    for t in range(len(x)):
        spread = (x[t].var(unbiased=False) + norm.eps).sqrt()
        y = norm(x[t])
        for j in range(x.shape[1]):
            for i in range(x.shape[1]):
                slope = norm.weight[j] / spread * ((i == j) - 1 / x.shape[1])
                found[t, i] += x[t, i] * slope / y[j] * relevance[t, j]
    return found


def attention(part: nn.Module, x: Tensor, relevance: Tensor) -> Tensor:
    tokens, width = x.shape
    size = width // part.heads
    q, k, v = functional.linear(x, part.qkv.weight, part.qkv.bias).reshape(tokens, 3, part.heads, size).unbind(1)
    scores = [q[:, h] @ k[:, h].T / math.sqrt(size) for h in range(part.heads)]
    joined = torch.cat([scores[h].softmax(-1) @ v[:, h] for h in range(part.heads)], 1)
    given = linear(joined, part.out.weight, part.out.bias, relevance)
    back = torch.zeros(tokens, 3, part.heads, size, dtype=x.dtype)
    for h in range(part.heads):
        to_weights, back[:, 2, h] = product(scores[h].softmax(-1), v[:, h], given[:, h * size : (h + 1) * size])
        to_scores = softmax(scores[h], to_weights)
        back[:, 0, h], keys = product(q[:, h] / math.sqrt(size), k[:, h].T, to_scores)
        back[:, 1, h] = keys.T
    return linear(x, part.qkv.weight, part.qkv.bias, back.reshape(tokens, -1))


def reference(net: nn.Module, x: Tensor, target: int) -> Tensor:
    """Walk one image ``(3, 8, 8)`` down and up again."""
    patches = x.unfold(1, 4, 4).unfold(2, 4, 4).permute(1, 2, 0, 3, 4).reshape(4, -1)
    weight = net.patches.weight.reshape(len(net.patches.weight), -1)
    h = torch.cat([net.token[0], patches @ weight.T + net.patches.bias]) + net.places[0]
    kept = []
    for block in net.blocks:
        mid = h + block.attention(block.first(h)[None])[0]
        kept.append((h, mid))
        h = mid + block.mlp(block.second(mid))
    last = net.norm(h)[0]
    out = net.head(last)
    relevance = torch.zeros_like(h)
    relevance[0] = layer_norm(h[:1], net.norm, (last * net.head.weight[target] / out[target] * out[target])[None])[0]
    for block, (entering, mid) in reversed(list(zip(net.blocks, kept, strict=True))):
        normed = block.second(mid)
        up = block.mlp[0](normed)
        bent, leaving = functional.gelu(up), mid + block.mlp(normed)
        given = linear(bent, block.mlp[2].weight, block.mlp[2].bias, relevance * block.mlp(normed) / leaving)
        given = linear(normed, block.mlp[0].weight, block.mlp[0].bias, given)
        relevance = relevance * mid / leaving + layer_norm(mid, block.second, given)
        normed = block.first(entering)
        given = attention(block.attention, normed, relevance * (mid - entering) / mid)
        relevance = relevance * entering / mid + layer_norm(entering, block.first, given)
    embedded = patches @ weight.T + net.patches.bias
    to_patches = relevance[1:] * embedded / (embedded + net.places[0, 1:])
    found = linear(patches, weight, net.patches.bias, to_patches)
    return found.reshape(2, 2, 3, 4, 4).permute(2, 0, 3, 1, 4).reshape(3, 8, 8)


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_vit_of_two_layers_equals_a_walk_by_loops(nets, pixels, by_hand):
    net = nets.lived_in(nets.ViT(lambda: nets.Attention(8, 2, by_hand=by_hand)), seed=5).double()
    x = pixels(2, 3, 8, 8).double()
    found = explain(net, x, "attn_lrp(epsilon=1e-12)", target=[0, 2])
    for row, target in enumerate((0, 2)):
        with torch.no_grad():
            wanted = reference(net, x[row], target)
        assert (found.values[row] - wanted).abs().amax() < 1e-4 * wanted.abs().amax()


def test_halved_gates_are_attn_lrp_and_constant_gates_are_not(nets, pixels):
    net, x = nets.lived_in(nets.ViT(lambda: nets.Attention(8, 2, by_hand=False)), seed=5), pixels(2, 3, 8, 8)
    halves, constant, ours = (
        explain(net, x, method, target=0).values for method in ('lrp(gates="half")', "lrp", "attn_lrp")
    )
    torch.testing.assert_close(ours, halves)
    assert (constant - ours).abs().amax() > 0.01 * ours.abs().amax()


def test_without_attention_it_is_lrp_and_without_biases_input_x_gradient(nets, pixels):
    net, x = nets.lived_in(nets.ResNet(1)), pixels(3, 3, 8, 8)
    torch.testing.assert_close(explain(net, x, "attn_lrp", target=0).values, explain(net, x, "lrp", target=0).values)
    bare = nets.lived_in(nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                                       nn.Linear(54, 3, bias=False))).double()  # fmt: skip
    methods = "attn_lrp(epsilon=1e-12)", "input_x_gradient"
    found, wanted = (explain(bare, x.double(), method, target=1).values for method in methods)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-9)


def test_on_a_linear_net_it_is_weights_times_pixels(nets, pixels):
    net, x = nets.lived_in(nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Linear(4, 2))), pixels(3, 3, 2, 2)
    weight = (net[2].weight @ net[1].weight)[1].detach().view(3, 2, 2)
    found = explain(net, x, "attn_lrp", target=1)
    torch.testing.assert_close(found.values, x * weight, rtol=1e-3, atol=1e-5)


def test_constant_attention_hands_everything_to_the_values(nets, pixels):
    """Queries of zero look everywhere alike: relevance is then that of an average, and the scores get none."""
    net = nets.lived_in(nets.Call(
        lambda x, v, h: h(functional.scaled_dot_product_attention(torch.zeros(len(x), 6, 3), x, v(x)).mean(1)),
        nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False)))  # fmt: skip
    x = pixels(2, 6, 3)
    found = explain(net, x, "lrp", target=0)
    weight = (net.parts[1].weight @ net.parts[0].weight)[0].detach()
    torch.testing.assert_close(found.values, x * weight / 6, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found.values.flatten(1).sum(1), found.output, rtol=1e-4, atol=1e-6)


def test_a_hidden_key_gets_nothing(nets, pixels):
    def masked(x: Tensor, q: nn.Module, v: nn.Module, h: nn.Module) -> Tensor:
        scores = q(x) @ x.transpose(1, 2)
        scores = scores.masked_fill(torch.tensor([False, False, True, False]), float("-inf"))
        return h((torch.softmax(scores, -1) @ v(x))[:, 0])

    net = nets.lived_in(nets.Call(masked, nn.Linear(3, 3), nn.Linear(3, 4), nn.Linear(4, 2)))
    for method in ("attn_lrp", "lrp"):
        found = explain(net, pixels(2, 4, 3), method, target=0)
        assert (found.values[:, 2] == 0).all()
        assert (found.values[:, [0, 1, 3]].abs().amax((0, 2)) > 0).all()
        assert (found.gap < 1e-5).all()


def test_two_factors_share_alike_and_a_gate_takes_none(nets):
    x = torch.tensor([[3.0, 0.5]])
    product_net = nets.Call(lambda x: x[:, :1] * x[:, 1:])
    torch.testing.assert_close(explain(product_net, x, "lrp").values, torch.tensor([[0.75, 0.75]]))
    gated = nets.Call(lambda x: x[:, :1] * torch.sigmoid(x[:, 1:]))
    passed = 3 * torch.sigmoid(torch.tensor(0.5))
    torch.testing.assert_close(explain(gated, x, "lrp").values, torch.tensor([[passed, 0.0]]))
    half = explain(gated, x, "attn_lrp")  # of the gate's half, 0.5 / σ(0.5) is what a sigmoid of zero gives anyway
    lit = passed / 2 * (1 - 0.5 / torch.sigmoid(torch.tensor(0.5)))
    torch.testing.assert_close(half.values, torch.tensor([[passed / 2, lit]]), rtol=1e-4, atol=1e-6)
    assert half.gap.item() < 1e-6


def test_silu_is_the_same_written_as_a_gate(nets, pixels):
    first, second = nn.Linear(12, 8), nn.Linear(8, 2)
    made = [nets.lived_in(nets.Call(lambda x, a, b, bend=bend: b(bend(a(x.flatten(1)))), first, second))
            for bend in (functional.silu, lambda h: h * torch.sigmoid(h))]  # fmt: skip
    x = pixels(3, 3, 2, 2)
    one, two = (explain(net, x, "lrp", target=0).values for net in made)
    torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)
