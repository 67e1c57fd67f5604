"""Each attention method equals what its paper says, written out with loops on a transformer whose forward is explicit."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import pellucid
from pellucid.attribution import METHODS
from pellucid.attribution.attention import flow
from pellucid.attribution.attention.flow import largest_flows
from pellucid.attribution.attention.rollout import with_residual
from pellucid.attribution.attention.tap import Tap
from pellucid.errors import BadRecipe, CannotExplain
from pellucid.models.targets import Class, Contrast, Latent, LogOdds, Output, Region
from pellucid.testing import check_method, small_images, small_vit, untouched

NAMES = ["attention_maps", "attention_rollout", "attention_flow", "chefer", "legrad"]


def forward(net, x, layers=None):
    """Return small_vit's output and attentions, every step written out; `layers` stops early and goes to the head."""
    patches = net.patches(x)
    tokens = torch.stack([patches[row].reshape(patches.shape[1], -1).T for row in range(len(x))])
    tokens = torch.cat([torch.stack([net.first[0]] * len(x)), tokens], 1) + net.places
    maps = []
    for block in net.blocks[:layers]:
        h = block.norms[0](tokens)
        q, k, v = block.mixed(h).chunk(3, -1)
        out, own = [], []
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            a = torch.exp(torch.einsum("bqd,bkd->bqk", q[..., part], k[..., part]) / math.sqrt(4))
            a = a / a.sum(-1, keepdim=True)
            if not a.requires_grad:
                a.requires_grad_()
            own.append(a)
            out.append(torch.einsum("bqk,bkd->bqd", a, v[..., part]))
        maps.append(own)
        tokens = tokens + block.joined(torch.cat(out, -1))
        tokens = tokens + block.mlp(block.norms[1](tokens))
    return net.head(net.norm(tokens)[:, 0]), maps


def grid(row):
    return row[1:].reshape(4, 4)


def naive_rollout(net, x, fuse):
    rows = []
    for one in x:
        _, maps = forward(net, one[None])
        joint = torch.eye(17)
        for heads in maps:
            a = fuse(torch.stack([head[0] for head in heads]))
            mixed = 0.5 * a + 0.5 * torch.eye(17)
            mixed = torch.stack([row / row.sum() for row in mixed])
            joint = mixed @ joint
        rows.append(grid(joint[0]))
    return torch.stack(rows)[:, None].detach()


def naive_chefer(net, x, score):
    rows = []
    for number, one in enumerate(x):
        output, maps = forward(net, one[None])
        slopes = torch.autograd.grad(score(output[0], number), [head for heads in maps for head in heads])
        relevance = torch.eye(17)
        for layer, heads in enumerate(maps):
            rising = sum((slope[0] * head[0]).clamp(min=0)
                         for slope, head in zip(slopes[2 * layer : 2 * layer + 2], heads, strict=True)) / 2  # fmt: skip
            relevance = relevance + rising @ relevance
        rows.append(grid(relevance[0]))
    return torch.stack(rows)[:, None].detach()


def naive_legrad(net, x, score, blocks=2):
    rows = []
    for number, one in enumerate(x):
        total = torch.zeros(17)
        for layer in range(1, blocks + 1):
            output, maps = forward(net, one[None], layer)
            slopes = torch.autograd.grad(score(output[0], number), maps[-1])
            for slope in slopes:
                for query in range(17):
                    total = total + slope[0, query].clamp(min=0) / (2 * 17 * blocks)
        rows.append(grid(total))
    return torch.stack(rows)[:, None].detach()


TARGETS = {
    "a class": (2, lambda output, _row: output[2]),
    "one class a row": ([0, 2, 1], lambda output, row: output[[0, 2, 1][row]]),
    "a contrast": (Contrast(positive=0, negative=1), lambda output, _row: output[0] - output[1]),
    "log-odds": (LogOdds(index=1), lambda output, _row: output[1] - torch.logsumexp(output[[0, 2]], 0)),
    "an output": (Output(index=0), lambda output, _row: output[0]),
}


def test_the_explicit_forward_is_the_networks_own():
    net, x = small_vit(), small_images()
    torch.testing.assert_close(forward(net, x)[0], net(x))


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize(("method", "naive"), [("chefer", naive_chefer), ("legrad", naive_legrad)])
def test_gradient_methods_equal_their_papers_for_targets_of_every_kind(method, naive, kind):
    net, x = small_vit(), small_images()
    target, score = TARGETS[kind]
    found = pellucid.explain(net, x, method, target=target)
    expected = naive(net, x, score)
    assert expected.std() > 0
    torch.testing.assert_close(found.values, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("depth", [1, 3])
def test_gradient_methods_equal_their_papers_at_other_depths(depth):
    net, x = small_vit(depth=depth), small_images()
    _, score = TARGETS["a class"]
    chefer = pellucid.explain(net, x, "chefer", target=2).values
    torch.testing.assert_close(chefer, naive_chefer(net, x, score), rtol=1e-4, atol=1e-7)
    legrad = pellucid.explain(net, x, "legrad", target=2).values
    torch.testing.assert_close(legrad, naive_legrad(net, x, score, depth), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("heads", "fuse"),
    [("mean", lambda maps: maps.mean(0)), ("max", lambda maps: maps.amax(0)), ("min", lambda maps: maps.amin(0))],
)
def test_rollout_equals_the_naive_loop_over_matrices(heads, fuse):
    net, x = small_vit(depth=3), small_images()
    found = pellucid.explain(net, x, f'attention_rollout(heads="{heads}")').values
    torch.testing.assert_close(found, naive_rollout(net, x, fuse))


def test_maps_of_every_layer_and_head_are_the_class_tokens_rows():
    net, x = small_vit(), small_images()
    _, maps = forward(net, x)
    for layer, head in itertools.product(range(2), range(2)):
        own = maps[layer][head].detach()[:, 0, 1:].reshape(3, 1, 4, 4)
        torch.testing.assert_close(pellucid.explain(net, x, f"attention_maps(layer={layer}, head={head})").values, own)
        each = pellucid.explain(net, x, f'attention_maps(layer={layer - 2}, head="all")')
        assert each.details["layer"] == layer
        torch.testing.assert_close(each.values[:, head, None], own)
    mean = torch.stack(maps[1]).mean(0).detach()[:, 0, 1:].reshape(3, 1, 4, 4)
    torch.testing.assert_close(pellucid.explain(net, x, "attention_maps").values, mean)


def test_the_mean_of_the_patches_rows_leaves_the_class_tokens_out():
    net, x = small_vit(), small_images()
    own = torch.stack(forward(net, x)[1][1]).mean(0).detach()[:, 1:, 1:].mean(1).reshape(3, 1, 4, 4)
    torch.testing.assert_close(pellucid.explain(net, x, 'attention_maps(query="mean")').values, own)


def test_maps_that_are_not_there_are_refused():
    net, x = small_vit(), small_images()
    for method, said in (("attention_maps(layer=2)", "2 layers of attention, from 0 to 1"),
                         ("attention_maps(layer=-3)", "2 layers of attention"),
                         ("attention_maps(head=2)", "2 heads, from 0 to 1")):  # fmt: skip
        with pytest.raises(CannotExplain, match=said):
            pellucid.explain(net, x, method)
    with pytest.raises(BadRecipe):
        METHODS.parse("attention_maps(head=-1)")


class Routed(nn.Module):
    """One head whose attention is given: token q takes from token k what the matrices say, whatever the image."""

    def __init__(self, *matrices, classed=True):
        super().__init__()
        self.patches = nn.Conv1d(1, 1, 1)
        nn.init.ones_(self.patches.weight)
        nn.init.zeros_(self.patches.bias)
        self.matrices, self.classed = matrices, classed

    def forward(self, x):
        tokens = self.patches(x).transpose(1, 2)
        if self.classed:
            tokens = torch.cat((tokens.new_zeros(len(x), 1, 1), tokens), 1)
        for matrix in self.matrices:
            scores = torch.log(torch.as_tensor(matrix)).expand(len(x), -1, -1)
            tokens = tokens + functional.softmax(scores, -1) @ tokens
        return tokens[:, 0]


def routed(*matrices, classed=True):
    places = len(matrices[0]) - classed
    x = torch.rand(2, 1, places, generator=torch.Generator().manual_seed(0)) + 0.1
    return Routed(*matrices, classed=classed).eval(), x


def test_identity_attention_rolls_out_to_the_identity():
    torch.testing.assert_close(with_residual(torch.eye(4)), torch.eye(4))
    eye = torch.eye(4)
    for method in ("attention_rollout", "attention_flow", "attention_maps", "chefer"):
        net, x = routed(eye, eye, eye)
        assert pellucid.explain(net, x, method).values.abs().max() == 0  # the class token takes from itself alone


def test_known_routing_is_found():
    """Token 0 takes from 2 in the last layer, and 2 from 3 in the first: only 2 and 3 reach the output."""
    first, last = torch.eye(4), torch.eye(4)
    first[2] = torch.tensor([0.0, 0, 0, 1])
    last[0] = torch.tensor([0.0, 0, 1, 0])
    net, x = routed(first, last)
    rollout = pellucid.explain(net, x, "attention_rollout").values[0, 0]
    torch.testing.assert_close(rollout, torch.tensor([0.0, 0.25, 0.25]))
    flows = pellucid.explain(net, x, "attention_flow").values[0, 0]
    torch.testing.assert_close(flows, torch.tensor([0.0, 0.5, 0.5]))
    chefer = pellucid.explain(net, x, "chefer").values[0, 0]
    assert chefer[0] == 0
    assert chefer[1] > 0
    assert chefer[2] > 0
    shown = pellucid.explain(net, x, "attention_maps").values[0, 0]
    torch.testing.assert_close(shown, torch.tensor([0.0, 1.0, 0.0]))


def test_chefers_relevance_of_one_linear_layer_is_attention_times_value():
    """The output is x₀ + Σ_k A₀ₖ xₖ: ∂/∂A₀ₖ = xₖ, and relevance A₀ₖ xₖ, the very contribution, for xₖ > 0."""
    row = torch.tensor([0.1, 0.2, 0.3, 0.4])
    net, x = routed(torch.stack([row] * 4))
    torch.testing.assert_close(pellucid.explain(net, x, "chefer").values, x * row[1:])


def attention(layers, tokens, seed):
    random = np.random.default_rng(seed)
    maps = random.random((layers, tokens, tokens)) ** 4
    return maps / maps.sum(-1, keepdims=True)


def smallest_cut(layers, readers, source):
    """Return the least capacity that parts the source from the output, over every way to part the nodes."""
    depth, tokens = len(layers), len(readers)
    nodes = [(level, token) for level in range(1, depth + 1) for token in range(tokens)]
    least = math.inf
    for sides in itertools.product((False, True), repeat=len(nodes)):  # True: with the source
        with_source = dict(zip(nodes, sides, strict=True))
        cut = sum(layers[0][token, source] for token in range(tokens) if not with_source[1, token])
        for level in range(1, depth):
            for below, above in itertools.product(range(tokens), repeat=2):
                if with_source[level, below] and not with_source[level + 1, above]:
                    cut += layers[level][above, below]
        cut += sum(readers[token] for token in range(tokens) if with_source[depth, token])
        least = min(least, cut)
    return least


@pytest.mark.parametrize(("depth", "tokens"), [(1, 4), (2, 3), (3, 3), (2, 4)])
@pytest.mark.parametrize("reader", ["class", "mean"])
def test_the_flow_is_the_smallest_cut_found_by_brute_force(depth, tokens, reader):
    layers = attention(depth, tokens, seed=depth + tokens)
    readers = np.eye(tokens)[0] if reader == "class" else np.full(tokens, 1 / tokens)
    found = largest_flows(list(layers), readers, range(tokens))
    expected = [smallest_cut(layers, readers, source) for source in range(tokens)]
    assert np.abs(found - expected).max() <= (depth * tokens**2 + tokens) / 2**30
    assert (found <= np.array(expected) + 1e-12).all()  # rounded down, never up


@settings(max_examples=20, deadline=None)
@given(depth=st.integers(1, 4), tokens=st.integers(2, 6), seed=st.integers(0, 1000))
def test_no_flow_exceeds_what_leaves_its_token_or_reaches_the_output(depth, tokens, seed):
    layers = attention(depth, tokens, seed)
    readers = np.eye(tokens)[0]
    flows = largest_flows(list(layers), readers, range(tokens))
    assert (flows <= layers[0].sum(0) + 1e-6).all()
    assert (flows <= 1 + 1e-6).all()
    reach = readers @ np.linalg.multi_dot([*layers[::-1], np.eye(tokens)]) if depth else readers
    assert (flows >= reach - 1e-6).all()  # the rollout is a flow, and so no larger than the largest


def test_flow_of_one_layer_is_the_class_tokens_row():
    layers = attention(1, 5, 0)
    torch.testing.assert_close(
        torch.from_numpy(largest_flows(list(layers), np.eye(5)[0], range(5))),
        torch.from_numpy(layers[0][0]),
        atol=1e-8,
        rtol=0,
    )


def test_flow_is_that_of_the_networks_own_attention():
    net, x = small_vit(), small_images()
    _, maps = forward(net, x)
    found = pellucid.explain(net, x, "attention_flow").values
    for row in range(3):
        own = [with_residual((heads[0] + heads[1])[row] / 2).double().detach().numpy() for heads in maps]
        expected = largest_flows(own, np.eye(17)[0], range(1, 17)).reshape(4, 4)
        np.testing.assert_allclose(found[row, 0].numpy(), expected, atol=1e-6)


def test_flow_refuses_a_large_graph_with_an_estimate(monkeypatch):
    monkeypatch.setattr(flow, "_LONGEST", 1e-6)
    with pytest.raises(
        CannotExplain, match=r"17 maximum flows over 2 layers of 17 × 17 edges, about .* use attention_rollout"
    ):
        pellucid.explain(small_vit(), small_images(), "attention_flow")


@pytest.mark.parametrize("method", [*NAMES, "attention_maps(layer=0, head='all')", "attention_flow(query='mean')"])
def test_attention_methods_hold_the_promises_of_every_method(method):
    check_method(method)


@pytest.mark.parametrize("method", NAMES)
def test_rows_do_not_depend_on_each_other_however_different_they_are(method):
    net, x = small_vit(), small_images()
    mixed = torch.cat([x[:1], 1000 * x[1:2], torch.zeros_like(x[2:])])
    alone = pellucid.explain(net, x[:1], method, target=1)
    torch.testing.assert_close(pellucid.explain(net, mixed, method, target=1).values[:1], alone.values)


@pytest.mark.parametrize("method", ["attention_maps", "attention_rollout", "attention_flow"])
def test_what_only_reads_attention_is_the_same_for_every_target_and_says_so(method):
    net, x = small_vit(), small_images()
    one, other = (pellucid.explain(net, x, method, target=target).values for target in (0, 1))
    assert torch.equal(one, other)
    about = pellucid.methods()[method]
    assert "Attention, not attribution" in about.warning
    assert about.kind == "visualisation"
    assert about.family == "attention"


@pytest.mark.parametrize("method", ["chefer", "legrad"])
def test_gradient_methods_differ_between_targets(method):
    net, x = small_vit(), small_images()
    one, other = (pellucid.explain(net, x, method, target=Class(index=target)).values for target in (0, 1))
    assert not torch.allclose(one, other, rtol=0.1)


class Reading(nn.Module):
    """small_vit with a register before its class token, whose tokens are read in another way."""

    def __init__(self, read):
        super().__init__()
        self.net, self.read = small_vit(), read

    def forward(self, x):
        net, patches = self.net, self.net.patches(x).flatten(2).transpose(1, 2)
        first = net.first.expand(len(x), -1, -1)
        tokens = torch.cat((2 * first, first + net.places[:, :1], patches + net.places[:, 1:]), 1)
        return net.head(net.norm(self.read(net.blocks(tokens))))


@pytest.mark.parametrize(
    ("read", "rows", "said"),
    [
        (lambda tokens: tokens[:, 0], [0], "reads token 0, whose rows"),
        (lambda tokens: tokens[:, 1], [1], "reads token 1, whose rows"),
        (lambda tokens: tokens[:, :2].mean(1), [0, 1], "reads token 0 and 1, whose rows"),
        (lambda tokens: tokens[:, 2:].mean(1), range(2, 18), "reads no class token, and the patches"),
        (lambda tokens: tokens[:, 1:].mean(1), [1], "it reads the patches too, whose own rows are left out"),
    ],
)
def test_the_tokens_that_the_output_reads_are_found(read, rows, said):
    net, x = Reading(read).eval(), small_images()
    found = pellucid.explain(net, x, "attention_rollout")
    assert any(said in warning for warning in found.warnings)
    expected = torch.eye(18).expand(3, 18, 18)
    for layer in range(2):
        maps = [attention_row(net, x, layer, row) for row in range(18)]
        expected = with_residual(torch.stack(maps, 1)) @ expected
    torch.testing.assert_close(found.values.flatten(1), expected[:, list(rows), 2:].mean(1))


def attention_row(net, x, layer, row):
    kept = []

    def see(_number, weights, arrange):
        kept.append(arrange(weights).mean(1)[:, row])
        return weights

    with torch.no_grad(), Tap(len(x), see):
        net(x)
    return kept[layer]


def test_rows_on_which_the_output_does_not_depend_are_refused_by_chefer_when_they_are_asked_for():
    net, x = Reading(lambda tokens: tokens[:, 2:].mean(1)).eval(), small_images()
    assert pellucid.explain(net, x, "chefer").values.std() > 0
    with pytest.raises(CannotExplain, match=r"does not read the class token.*say query='mean'"):
        pellucid.explain(net, x, "chefer(query='class')")
    with pytest.raises(CannotExplain, match=r"does not read the patches.*say query='class'"):
        pellucid.explain(small_vit(), x, "chefer(query='mean')")


def test_without_gradients_the_first_extra_token_is_taken_for_the_class_token():
    net, x = small_vit(), small_images()

    def blind(x):
        with torch.no_grad():
            return net(x)

    found = pellucid.explain(blind, x, "attention_rollout")
    assert found.warnings == ("token 0 was taken for the class token",)
    torch.testing.assert_close(found.values, pellucid.explain(net, x, "attention_rollout").values)


@pytest.mark.parametrize("method", NAMES)
def test_targets_read_from_a_layer_give_what_the_same_number_gives_at_the_output(method):
    net, x = small_vit(), small_images()
    one = pellucid.explain(net, x, method, target=Latent(index=1, layer="head"))
    torch.testing.assert_close(one.values, pellucid.explain(net, x, method, target=1).values)


@pytest.mark.parametrize("method", NAMES)
def test_an_object_of_a_segmentation_is_explained(method):
    class Segmenting(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small_vit()

        def forward(self, x):
            net = self.net
            tokens = net.norm(net.blocks(net.patches(x).flatten(2).transpose(1, 2) + net.places[:, 1:]))
            return functional.interpolate(net.head(tokens).transpose(1, 2).unflatten(2, (4, 4)), scale_factor=4.0)

    net, x = Segmenting().eval(), small_images()
    point = torch.zeros(3, 16, 16, dtype=torch.bool)
    point[:, 4:8, 8:12] = True  # patch (1, 2)
    found = pellucid.explain(net, x, method, target=Region(index=1, mask=point))
    assert found.values.shape == (3, 1, 4, 4)
    assert found.values.std() > 0


def test_legrad_takes_blocks_that_return_more_than_their_tokens():
    class Telling(nn.Module):
        def __init__(self, block):
            super().__init__()
            self.block = block

        def forward(self, tokens):
            return self.block(tokens), None

    class Unpacking(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small_vit()
            self.blocks = nn.ModuleList(Telling(block) for block in self.net.blocks)

        def forward(self, x):
            net = self.net
            tokens = (
                torch.cat((net.first.expand(len(x), -1, -1), net.patches(x).flatten(2).transpose(1, 2)), 1) + net.places
            )
            for block in self.blocks:
                tokens = block(tokens)[0]
            return net.head(net.norm(tokens)[:, 0])

    x = small_images()
    found = pellucid.explain(Unpacking(), x, "legrad", target=1).values
    torch.testing.assert_close(found, pellucid.explain(small_vit(), x, "legrad", target=1).values)


def test_legrad_counts_its_passes():
    found = pellucid.explain(small_vit(depth=3), small_images(), "legrad")
    assert found.backwards == 9
    assert found.forwards == 3 + 2 + 2 * 9  # the output; attention and blocks of the first row; two a block


def test_legrad_refuses_networks_whose_skip_connections_lie_outside_the_modules():
    class Split(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small_vit()
            self.attends = nn.ModuleList(Attend(block) for block in self.net.blocks)

        def forward(self, x):
            net = self.net
            tokens = torch.cat((net.first.expand(len(x), -1, -1), net.patches(x).flatten(2).transpose(1, 2)), 1)
            for attend, block in zip(self.attends, net.blocks, strict=True):
                tokens = tokens + attend(tokens)
                tokens = tokens + block.mlp(block.norms[1](tokens))
            return net.head(tokens[:, 0])

    class Attend(nn.Module):
        def __init__(self, block):
            super().__init__()
            self.block = [block]

        def forward(self, tokens):
            (block,) = self.block
            parts = block.mixed(block.norms[0](tokens)).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
            return block.joined(functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))

    with pytest.raises(CannotExplain, match=r"'attends\.1' is given something else.*use chefer"):
        pellucid.explain(Split(), small_images(), "legrad")
    assert pellucid.explain(Split(), small_images(), "chefer").values.std() > 0


def test_legrad_refuses_blocks_that_are_used_twice_and_plain_callables():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small_vit(depth=1)

        def forward(self, x):
            net = self.net
            tokens = torch.cat((net.first.expand(len(x), -1, -1), net.patches(x).flatten(2).transpose(1, 2)), 1)
            return net.head(net.blocks(net.blocks(tokens))[:, 0])

    with pytest.raises(CannotExplain, match="blocks called once each"):
        pellucid.explain(Twice(), small_images(), "legrad")
    net = small_vit()
    with pytest.raises(CannotExplain, match=r"legrad needs layers, which Model\(method"):
        pellucid.explain(net.forward, small_images(), "legrad")


@pytest.mark.parametrize("method", ["attention_rollout", "chefer"])
def test_plain_callables_have_attention_too(method):
    net, x = small_vit(), small_images()
    for parameter in net.parameters():
        parameter.requires_grad_(requires_grad=False)
    wrapped = pellucid.explain(net.forward, x, method)
    torch.testing.assert_close(wrapped.values, pellucid.explain(net, x, method).values)


@pytest.mark.parametrize("method", NAMES)
def test_the_model_is_untouched(method):
    net = small_vit()
    untouched(net, lambda: pellucid.explain(net, small_images(), method))


def test_maps_come_back_to_the_image_by_combine():
    net, x = small_vit(), small_images()
    e = pellucid.explain(net, x, "chefer")
    assert pellucid.combine(e, ["upsample"], x=x).values.shape == (3, 1, 16, 16)


@pytest.mark.parametrize("method", ["attention_rollout", "chefer", "legrad"])
def test_a_lack_of_memory_halves_the_batch_and_changes_nothing(method):
    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.most = small_vit(), 100

        def forward(self, x):
            made = self.net(x)
            if len(x) > self.most:
                raise torch.OutOfMemoryError("out of memory")
            return made

    net, x = Small(), small_images(rows=5)
    plenty = pellucid.explain(net, x, method, target=0)
    net.most = 2
    scarce = pellucid.explain(net, x, method, target=0)
    assert any("halved" in said for said in scarce.warnings)
    torch.testing.assert_close(scarce.values, plenty.values)


def scenes(rows, seed):
    """Return noise with one patch that is bright in one channel, the class; which channel, and which patch."""
    stream = torch.Generator().manual_seed(seed)
    x = 0.3 * torch.rand(rows, 3, 16, 16, generator=stream)
    patch = torch.randint(0, 16, (rows,), generator=stream)
    label = torch.randint(0, 3, (rows,), generator=stream)
    for row, (place, channel) in enumerate(zip(patch.tolist(), label.tolist(), strict=True)):
        top, left = 4 * (place // 4), 4 * (place % 4)
        x[row, channel, top : top + 4, left : left + 4] += 0.7
    return x, label, patch


@pytest.fixture(scope="module")
def trained():
    net, (x, label, _) = small_vit(), scenes(512, 0)
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(150):
        rows = torch.randint(0, 512, (64,), generator=torch.Generator().manual_seed(step))
        loss = functional.cross_entropy(net(x[rows]), label[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net


@pytest.mark.parametrize(
    ("method", "times"),
    [("attention_maps", 2), ("attention_rollout", 1.5), ("attention_flow", 1.2), ("chefer", 2.5), ("legrad", 2)],
)
def test_a_trained_transformers_map_lies_on_the_patch_that_holds_the_evidence(trained, method, times):
    x, label, patch = scenes(64, 1)
    assert (trained(x).argmax(1) == label).float().mean() > 0.95
    values = pellucid.explain(trained, x, method, target=label).values.flatten(1)
    mass = values.gather(1, patch[:, None])[:, 0] / values.sum(1)
    assert float(mass.mean()) * 16 > times
