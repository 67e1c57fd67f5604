"""The tap sees the same attention however a network computes it, and changes nothing."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import pellucid
from pellucid.attribution.attention.products import headed
from pellucid.attribution.attention.tap import Tap
from pellucid.attribution.attention.tokens import Sightings, found_tokens
from pellucid.attribution.tokens import Tokens
from pellucid.errors import CannotExplain, GuardError
from pellucid.testing import small_images, small_net, untouched

METHODS = ["attention_maps", "attention_rollout", "attention_flow", "chefer", "legrad"]


def fused(q, k, v):
    return functional.scaled_dot_product_attention(q, k, v)


def scores(q, k):
    return q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5


def by_operator(q, k, v):
    return functional.softmax(scores(q, k), -1) @ v


def by_method(q, k, v):
    return functional.dropout(scores(q, k).softmax(dim=-1), 0.1, training=False).matmul(v)


def by_bmm(q, k, v):
    weights = torch.softmax(scores(q, k), 3).flatten(0, 1)
    return torch.bmm(weights, v.flatten(0, 1)).unflatten(0, q.shape[:2])


def by_einsum(q, k, v):
    weights = torch.einsum("bhid,bhjd->bhij", q, k).div(q.shape[-1] ** 0.5).softmax(-1)
    return torch.einsum("b h i j, b h j d -> b h i d", weights, v)


def by_einsum_with_dots(q, k, v):
    return torch.einsum("...ij,...jd->...id", functional.softmax(scores(q, k), -1), v)


def by_einsum_heads_last(q, k, v):
    weights = torch.einsum("bhid,bhjd->bijh", q, k).div(q.shape[-1] ** 0.5).softmax(2)
    return torch.einsum("bijh,bhjd->bhid", weights, v)


def from_the_right(q, k, v):
    weights = functional.softmax(scores(q, k), -1)
    return (v.transpose(-1, -2) @ weights.mT).mT


def keys_first(q, k, v):
    weights = functional.softmax(scores(k, q), -2)  # (K, Q), adding up to one over the keys
    return weights.transpose(-2, -1) @ v


def masked_in_place(q, k, v):
    weights = functional.softmax(scores(q, k), -1)
    weights = weights.clone()
    weights *= torch.ones(())
    return torch.matmul(weights.contiguous(), v)


WAYS = [by_operator, by_method, by_bmm, by_einsum, by_einsum_with_dots, by_einsum_heads_last, from_the_right, keys_first,
        masked_in_place]  # fmt: skip


class Block(nn.Module):
    def __init__(self, width, attend):
        super().__init__()
        self.attend, self.qkv, self.out = attend, nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens):
        q, k, v = self.qkv(self.norm(tokens)).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        return tokens + self.out(self.attend(q, k, v).transpose(1, 2).flatten(2))


class Net(nn.Module):
    """A vision transformer that attends as it is told."""

    def __init__(self, attend=fused, patch=(4, 4), size=(16, 16), blocks=2, read="class", width=8):
        super().__init__()
        torch.manual_seed(0)
        dims = len(size)
        self.patches = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1](3, width, patch, stride=patch)
        self.grid = tuple(length // cut for length, cut in zip(size, patch, strict=True))
        self.read = read
        self.first = nn.Parameter(torch.randn(1, 1, width))
        self.blocks = nn.ModuleList(Block(width, attend) for _ in range(blocks))
        self.head = nn.Linear(width, 3)
        self.eval()

    def tokens(self, x):
        patches = self.patches(x).flatten(2).transpose(1, 2)
        if self.read == "mean":
            return patches
        first = self.first.expand(len(x), -1, -1)
        return torch.cat((patches, first) if self.read == "last" else (first, patches), 1)

    def forward(self, x):
        tokens = self.tokens(x)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head({"class": tokens[:, 0], "last": tokens[:, -1], "mean": tokens.mean(1)}[self.read])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("attend", WAYS)
def test_every_way_to_write_attention_gives_the_same_map(method, attend):
    x = small_images()
    plain, other = Net(fused), Net(attend)
    torch.testing.assert_close(plain(x), other(x))
    one, two = pellucid.explain(plain, x, method), pellucid.explain(other, x, method)
    assert one.values.shape == (3, 1, 4, 4)
    assert one.values.std() > 0
    torch.testing.assert_close(one.values, two.values, rtol=1e-4, atol=1e-6)


def maps_under_the_tap(net, x):
    kept = []

    def see(_number, weights, arrange):
        kept.append(arrange(weights))
        return weights

    with Tap(len(x), see) as tap:
        output = net(x)
    return output, kept, tap.finish()


@pytest.mark.parametrize("attend", [fused, *WAYS])
def test_the_forward_under_the_tap_is_the_plain_one_and_rows_of_attention_add_up_to_one(attend):
    net, x = Net(attend), small_images()
    output, maps, sheet = maps_under_the_tap(net, x)
    torch.testing.assert_close(output, net(x))
    assert sheet.shapes == [(2, 17, 17)] * 2
    for attention in maps:
        assert attention.shape == (3, 2, 17, 17)
        torch.testing.assert_close(attention.sum(-1), torch.ones(3, 2, 17))


def test_attention_under_the_tap_is_the_softmax_of_query_times_key():
    net, x = Net(fused, blocks=1), small_images()
    block = net.blocks[0]
    q, k, _ = block.qkv(block.norm(net.tokens(x))).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
    torch.testing.assert_close(maps_under_the_tap(net, x)[1][0], functional.softmax(scores(q, k), -1))


class Encoder(nn.Module):
    """torch's own layers."""

    def __init__(self, layer):
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.head = nn.Conv2d(3, 8, 4, stride=4), nn.Linear(8, 3)
        self.layer = layer
        self.eval()

    def forward(self, x):
        return self.head(self.layer(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


def torch_encoder(**settings):
    torch.manual_seed(1)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, **settings)
    return Encoder(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_torchs_own_encoder_is_seen_in_spite_of_its_fast_path(method, norm_first):
    net, x = torch_encoder(norm_first=norm_first), small_images()
    found = untouched(net, lambda: pellucid.explain(net, x, method))
    assert found.values.shape == (3, 1, 4, 4)
    assert found.values.std() > 0
    output, maps, _ = maps_under_the_tap(net, x)
    torch.testing.assert_close(output, net(x))
    with torch.no_grad():
        tokens = net.patches(x).flatten(2).transpose(1, 2)
        first = net.layer.layers[0]
        given = first.norm1(tokens) if norm_first else tokens
        own = first.self_attn(given, given, given, need_weights=True, average_attn_weights=False)[1]
    torch.testing.assert_close(maps[0], own)


class Headed(nn.Module):
    """nn.MultiheadAttention as people call it, weights and all, tokens first or rows first."""

    def __init__(self, *, batch_first, need_weights):
        super().__init__()
        self.attend = nn.MultiheadAttention(8, 2, batch_first=batch_first)
        self.turned, self.need_weights = not batch_first, need_weights

    def forward(self, tokens):
        tokens = tokens.transpose(0, 1) if self.turned else tokens
        tokens = tokens + self.attend(tokens, tokens, tokens, need_weights=self.need_weights)[0]
        return tokens.transpose(0, 1) if self.turned else tokens


@pytest.mark.parametrize("method", METHODS)
def test_multihead_attention_is_seen_whatever_its_options(method):
    x, values = small_images(), []
    for batch_first in (True, False):
        for need_weights in (True, False):
            torch.manual_seed(2)
            net = Encoder(
                nn.Sequential(*[Headed(batch_first=batch_first, need_weights=need_weights) for _ in range(2)])
            )
            values.append(pellucid.explain(net, x, method).values)
    for other in values[1:]:
        torch.testing.assert_close(values[0], other, rtol=1e-4, atol=1e-6)


class Wrapped(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x).logits


def published(implementation):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=4,
        num_channels=3, num_labels=3, attn_implementation=implementation, initializer_range=0.5,
    )  # fmt: skip
    return Wrapped(transformers.ViTForImageClassification(config)).eval()


@pytest.mark.parametrize("method", METHODS)
def test_the_published_vit_gives_the_same_maps_eager_and_fused(method):
    x = small_images()
    eager, fast = (untouched(net, lambda net=net: pellucid.explain(net, x, method))
                   for net in (published("eager"), published("sdpa")))  # fmt: skip
    assert eager.values.shape == (3, 1, 4, 4)
    assert eager.values.std() > 0
    torch.testing.assert_close(eager.values, fast.values, rtol=1e-4, atol=1e-6)


def test_the_published_vits_own_attentions_are_what_the_tap_sees():
    net, x = published("eager"), small_images()
    told = net.net(x, output_attentions=True).attentions
    for number in range(2):
        own = told[number][:, :, 0, 1:].mean(1, keepdim=True).unflatten(-1, (4, 4))
        torch.testing.assert_close(pellucid.explain(net, x, f"attention_maps(layer={number})").values, own)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("size", "patch", "grid"),
    [((24,), (4,), (6,)), ((16, 8), (4, 4), (4, 2)), ((12, 16), (2, 8), (6, 2)), ((8, 4, 12), (4, 2, 4), (2, 2, 3))],
)
def test_maps_have_the_grid_of_patches_in_one_two_and_three_dimensions(method, size, patch, grid):
    net = Net(patch=patch, size=size)
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    assert pellucid.explain(net, x, method).values.shape == (2, 1, *grid)


@pytest.mark.parametrize("method", METHODS)
def test_a_class_token_at_the_end_is_found_there(method):
    net, x = Net(read="last"), small_images()
    first = Net(read="class")
    torch.testing.assert_close(first(x), net(x), rtol=1e-4, atol=1e-5)
    one, two = pellucid.explain(net, x, method), pellucid.explain(first, x, method)
    torch.testing.assert_close(one.values, two.values, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["attention_maps", "attention_rollout", "attention_flow", "chefer"])
def test_without_a_class_token_the_patches_rows_are_averaged_and_the_reader_is_told(method):
    net, x = Net(read="mean"), small_images()
    found = pellucid.explain(net, x, method)
    assert found.values.shape == (3, 1, 4, 4)
    assert any("no class token" in said for said in found.warnings)
    asked = pellucid.explain(net, x, f'{method}(query="mean")')
    assert asked.warnings == ()
    assert torch.equal(found.values, asked.values)
    with pytest.raises(CannotExplain, match="all 16 tokens are patches; say query='mean'"):
        pellucid.explain(net, x, f'{method}(query="class")')


class Registers(Net):
    """A class token and two registers behind it, put in by a second concatenation; and a squeezed feature map."""

    def tokens(self, x):
        patches = self.patches(x * torch.sigmoid(functional.adaptive_avg_pool2d(x, 1))).flatten(2).transpose(1, 2)
        first = self.first.expand(len(x), -1, -1)
        tokens = torch.cat((first, patches), 1)
        return torch.cat((tokens[:, :1], 2 * first, 3 * first, tokens[:, 1:]), 1)


def test_registers_are_dropped():
    net, x = Registers(), small_images()
    _, maps, sheet = maps_under_the_tap(net, x)
    assert sheet.shapes[0][-1] == 19
    found = pellucid.explain(net, x, "attention_maps").values
    torch.testing.assert_close(found.flatten(1), maps[-1].mean(1)[:, 0, 3:])


class Reshaped(Net):
    """Patches cut by reshaping, as with einops."""

    def __init__(self):
        super().__init__()
        self.flat = nn.Linear(3 * 16, 8)

    def tokens(self, x):
        cut = x.unflatten(3, (4, 4)).unflatten(2, (4, 4)).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        return torch.cat((self.first.expand(len(x), -1, -1), self.flat(cut)), 1)


def test_patches_cut_by_reshaping_are_supposed_square_and_the_reader_is_told():
    found = pellucid.explain(Reshaped(), small_images(), "attention_rollout")
    assert found.values.shape == (3, 1, 4, 4)
    assert any("16 patches were taken for a grid of (4, 4)" in said for said in found.warnings)


class Unfolded(Net):
    def __init__(self):
        super().__init__()
        self.flat = nn.Linear(3 * 24, 8)

    def tokens(self, x):
        cut = functional.unfold(x, (3, 8), stride=(4, 8), padding=(1, 0)).transpose(1, 2)
        return torch.cat((self.first.expand(len(x), -1, -1), self.flat(cut)), 1)


def test_patches_cut_by_unfold_have_its_grid():
    found = pellucid.explain(Unfolded(), small_images(), "attention_rollout(query='class')")
    assert found.values.shape == (3, 1, 4, 2)
    assert found.warnings == ()


@pytest.mark.parametrize("method", METHODS)
def test_rows_of_windows_are_refused_by_name(method):
    class Windows(Net):
        def forward(self, x):
            tokens = self.patches(x).flatten(2).transpose(1, 2).reshape(-1, 4, 8)
            for block in self.blocks:
                tokens = block(tokens)
            return self.head(tokens.reshape(len(x), 16, 8).mean(1))

    with pytest.raises(CannotExplain, match=r"inside windows .*\(4, 2, 4, 4\) for 1 rows.*use integrated_gradients"):
        pellucid.explain(Windows(), small_images(), method)


@pytest.mark.parametrize("method", METHODS)
def test_a_network_without_attention_is_refused_with_methods_that_would_do(method):
    with pytest.raises(CannotExplain, match=r"no product of a softmax with values was seen.*without: .*occlusion"):
        pellucid.explain(small_net(), small_images(), method)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_what_is_scripted_is_refused_before_anything_runs():
    net = torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(768, 3)))
    with pytest.raises(CannotExplain, match="needs attention, which"):
        pellucid.explain(net, small_images(), "attention_rollout")
    half = Net()
    half.head = torch.jit.script(half.head)
    with pytest.raises(CannotExplain, match="needs attention, which"):
        pellucid.explain(half, small_images(), "attention_rollout")


def test_capabilities_say_what_can_be_told_without_a_run():
    assert pellucid.Model(torch_encoder()).capabilities.attention is True
    assert pellucid.Model(Net()).capabilities.attention is None
    assert pellucid.Model(lambda x: x).capabilities.attention is None


@pytest.mark.parametrize("method", ["attention_rollout", "attention_flow", "chefer", "attention_maps"])
def test_merged_tokens_are_refused(method):
    class Merged(Net):
        def forward(self, x):
            tokens = self.blocks[0](self.patches(x).flatten(2).transpose(1, 2))
            return self.head(self.blocks[1](tokens.unflatten(1, (4, 4)).mean(2)).mean(1))

    with pytest.raises(CannotExplain, match=r"attend over \[4, 16\] tokens"):
        pellucid.explain(Merged(), small_images(), method)


def test_a_class_token_written_without_a_concatenation_is_refused_with_what_was_seen():
    class Written(Net):
        def tokens(self, x):
            tokens = x.new_zeros(len(x), 17, 8)
            tokens[:, 1:] = self.patches(x).flatten(2).transpose(1, 2)
            return tokens

    with pytest.raises(
        CannotExplain, match=r"over 17 tokens.*feature maps of \[\(4, 4\)\].*images of \(16, 16\).*grid="
    ):
        pellucid.explain(Written(), small_images(), "attention_rollout")


@pytest.mark.parametrize("method", METHODS)
def test_a_grid_that_the_user_gives_is_taken(method):
    class Written(Net):
        def tokens(self, x):
            tokens = self.first.expand(len(x), 17, 8).clone()
            tokens[:, 1:] = self.patches(x).flatten(2).transpose(1, 2)
            return tokens

    found = pellucid.explain(Written(), small_images(), f"{method}(grid=(4, 4))")
    assert any("1 tokens beside the grid=(4, 4) were taken to come before it" in said for said in found.warnings)
    torch.testing.assert_close(found.values, pellucid.explain(Net(), small_images(), method).values)
    flat = pellucid.explain(Net(read="last"), small_images(), f"{method}(grid=(2, 8))")
    assert flat.values.shape == (3, 1, 2, 8)
    own = pellucid.explain(Net(read="last"), small_images(), method)
    assert torch.equal(flat.values.flatten(), own.values.flatten())
    with pytest.raises(CannotExplain, match=r"grid=\(5, 5\) has 25 patches, and the attention is over 17 tokens"):
        pellucid.explain(Net(), small_images(), f"{method}(grid=(5, 5))")


def test_attention_that_cannot_be_followed_is_refused_where_some_can():
    def elementwise(q, k, v):
        return (functional.softmax(scores(q, k), -1).unsqueeze(-1) * v.unsqueeze(2)).sum(3)

    net = Net()
    net.blocks[1].attend = elementwise
    with pytest.raises(CannotExplain, match=r"softmax of shape \(1, 2, 17, 17\) over 17 tokens is used otherwise"):
        pellucid.explain(net, small_images(), "attention_rollout")


def test_talking_heads_are_refused():
    mixing = nn.Linear(2, 2)

    def talking(q, k, v):
        weights = functional.softmax(scores(q, k), -1).permute(0, 2, 3, 1)
        return mixing(weights).permute(0, 3, 1, 2) @ v

    net = Net()
    net.blocks[1].attend = talking
    with pytest.raises(CannotExplain, match="is used otherwise than to multiply values"):
        pellucid.explain(net, small_images(), "chefer")


def test_a_softmax_gate_before_a_product_is_no_attention():
    class Gated(nn.Module):
        def forward(self, x):
            channels = x.flatten(2)
            gated = channels * functional.softmax(channels.mean(2, keepdim=True), 1)
            return torch.matmul(gated, channels.transpose(1, 2)).mean(2)

    with pytest.raises(CannotExplain, match="no product of a softmax with values was seen"):
        pellucid.explain(Gated(), small_images(), "attention_maps")


def test_linear_attention_is_refused():
    def linear(q, k, v):
        return q.softmax(-1) @ (k.softmax(-2).transpose(-1, -2) @ v)

    for method in METHODS:
        with pytest.raises(CannotExplain, match=r"over \[4, 17\] tokens"):
            pellucid.explain(Net(linear), small_images(), method)


def test_a_softmax_that_multiplies_twice_is_refused():
    def twice(q, k, v):
        weights = functional.softmax(scores(q, k), -1)
        return torch.cat((weights @ v[..., :2], weights @ v[..., 2:]), -1)

    with pytest.raises(CannotExplain, match="multiplies values twice"):
        pellucid.explain(Net(twice), small_images(), "attention_rollout")


def test_fewer_queries_than_keys_are_shown_and_not_followed():
    class Pooled(Net):
        def __init__(self):
            super().__init__(read="mean")
            self.ask = nn.Parameter(torch.randn(1, 1, 1, 4))

        def forward(self, x):
            tokens = self.blocks[0](self.tokens(x)).unflatten(-1, (2, 4)).transpose(1, 2)
            pooled = functional.scaled_dot_product_attention(self.ask.expand(len(x), 2, -1, -1), tokens, tokens)
            return self.head(pooled.flatten(1))

    found = pellucid.explain(Pooled(), small_images(), "attention_maps")
    assert found.values.shape == (3, 1, 4, 4)
    torch.testing.assert_close(found.values.flatten(1).sum(1), torch.ones(3))
    assert any("one query" in said for said in found.warnings)
    for method in ("attention_rollout", "attention_flow", "chefer", "legrad"):
        with pytest.raises(CannotExplain, match="layer 1 has 1 queries for 16 keys"):
            pellucid.explain(Pooled(), small_images(), method)


def test_a_forward_that_changes_under_the_tap_is_stopped():
    def unsteady(q, k, v):
        return by_operator(q, k, v) * (1 + len(torch.overrides._get_current_function_mode_stack()))

    with pytest.raises(GuardError, match="forward under the attention tap gives"):
        pellucid.explain(Net(unsteady), small_images(), "attention_rollout")


def test_rows_and_heads_are_told_apart():
    weights = torch.rand(6, 5, 5)
    assert headed(weights, 3).shape == (3, 2, 5, 5)
    assert torch.equal(headed(weights, 3)[1, 1], weights[3])
    assert headed(torch.rand(3, 2, 5, 5), 3).shape == (3, 2, 5, 5)
    for shape in ((12, 2, 5, 5), (5, 5), (3, 2, 2, 5, 5), (7, 5, 5)):
        with pytest.raises(CannotExplain, match="windows or along axes"):
            headed(torch.rand(shape), 3)


def test_layouts_of_tokens():
    assert found_tokens(6, Sightings(grids=[(8, 8), (2, 3)]), [(8, 8)]) == Tokens(6, (2, 3))
    assert found_tokens(7, Sightings([(3, 2), (2, 3)], [(1, 6)]), [(8, 8)]) == Tokens(7, (2, 3), 1)
    assert found_tokens(9, Sightings([(2, 3)], [(1, 6), (1, 6, 2)]), [(8, 8)]).extra == (0, 7, 8)
    assert found_tokens(17, Sightings([(1, 1), (4, 4), (1, 1)], [(1, 16)]), [(16, 16)]).grid == (4, 4)
    assert found_tokens(8, Sightings(), [(4, 4, 4)]).grid == (2, 2, 2)
    for count, seen in ((12, Sightings([(2, 3)], [(6, 6)])), (7, Sightings([(2, 3)])), (7, Sightings())):
        with pytest.raises(CannotExplain, match=f"over {count} tokens"):
            found_tokens(count, seen, [(8, 8)])


def test_tokens_are_laid_out_row_by_row():
    layout = Tokens(8, (2, 3), 1)
    values = torch.arange(8.0).expand(2, 1, 8)
    assert torch.equal(layout.image(values)[0, 0], torch.tensor([[1.0, 2, 3], [4, 5, 6]]))


def test_a_patch_that_alone_is_bright_lies_where_the_map_says():
    net = Net(blocks=1)
    with torch.no_grad():
        block = net.blocks[0]
        block.norm = nn.Identity()
        net.patches.bias.zero_()
        block.qkv.weight.zero_()
        block.qkv.bias[:8] = 1.0  # every query is alike
        block.qkv.weight[8:16] = torch.eye(8)  # a key is its token
        net.patches.weight.fill_(1.0)
        net.first.zero_()
    x = torch.zeros(1, 3, 16, 16)
    x[:, :, 4:8, 8:12] = 1.0
    found = pellucid.explain(net, x, "attention_maps").values[0, 0]
    assert found[1, 2] > 0.9
    assert found.argmax() == 6
