"""Functions taken apart: the same values and the same gradients as torch's own, and no way back into themselves."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pellucid.attribution.backward.functions import functions
from pellucid.attribution.backward.intercept import Entry, RuleSet, entries, intercepted
from pellucid.attribution.backward.parts import PARTS
from pellucid.errors import GuardError
from pellucid.models import Model


class Everything(frozenset):
    def __contains__(self, name: object) -> bool:
        return True


def apart(function, *inputs: Tensor) -> Tensor:
    """Run a function with every part-wise entry in force, and no rule."""
    table = {key: value for name, parts in PARTS.items() for key, value in entries((name,), Entry(parts=parts)).items()}
    rules = RuleSet("parts", table, Everything(), products=True)
    return intercepted(
        rules, None, Model.of(nn.Identity()), lambda *given: (function(*given),), tuple(x.clone() for x in inputs)
    )[0]


def agree(function, *inputs: Tensor, called: str) -> None:
    met: list[object] = []

    class Spy(TorchFunctionMode):
        def __torch_function__(self, called, types, args=(), kwargs=None):
            met.append(called)
            return called(*args, **(kwargs or {}))

    with Spy():
        function(*inputs)
    assert set(met) & set(functions((called,))), "the case does not call what it is meant to test"
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    again = [tensor.clone().requires_grad_() for tensor in inputs]
    wanted, found = function(*leaves), apart(function, *again)
    torch.testing.assert_close(found, wanted)
    weight = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(3), dtype=wanted.dtype)
    for one, two in zip(
        torch.autograd.grad((found * weight).sum(), again), torch.autograd.grad((wanted * weight).sum(), leaves),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(one, two)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


W = drawn(6, seed=9)

ONE = {
    "layer_norm": lambda x: functional.layer_norm(x, (4,), W[:4], W[1:5]),
    "layer_norm two axes": lambda x: torch.layer_norm(x, (6, 4)),
    "group_norm": lambda x: functional.group_norm(x, 3, W, W + 1),
    "group_norm torch": lambda x: torch.group_norm(x, 2),
    "instance_norm": lambda x: functional.instance_norm(x, weight=W, bias=W),
    "instance_norm running": lambda x: functional.instance_norm(x, W, W.abs(), W, W, use_input_stats=False),
    "rms_norm": lambda x: functional.rms_norm(x, (4,), W[:4]),
    "rms_norm eps": lambda x: functional.rms_norm(x, (6, 4), eps=0.1),
    "normalize": functional.normalize,
    "normalize one": lambda x: functional.normalize(x, 1.0, -1),
    "normalize three": lambda x: functional.normalize(x, p=3.0, dim=2),
    "norm": lambda x: x.norm(dim=1, keepdim=True),
    "norm torch": lambda x: torch.norm(x, p=1, dim=(1, 2)),
    "norm infinite": lambda x: x.norm(torch.inf, 2),
    "vector_norm": lambda x: torch.linalg.vector_norm(x, dim=(1, 2)),
    "std": lambda x: x.std(2),
    "std biased": lambda x: x.std((1, 2), unbiased=False, keepdim=True),
    "var": lambda x: torch.var(x, dim=1, correction=0),
    "amax": lambda x: x.amax((0, 2)),
    "amax kept": lambda x: torch.amax(x, (1, 2), keepdim=True),
    "amax whole": lambda x: x.amax(),
    "amin": lambda x: x.amin(-1),
    "min": lambda x: x.min(1)[0] + x.min(dim=1, keepdim=True).values.squeeze(1),
    "min two": lambda x: torch.min(x, x.flip(1)),
    "maximum": lambda x: torch.maximum(x, x.flip(2)),
    "minimum": lambda x: torch.minimum(x, x.flip(2)),
    "logsumexp": lambda x: 1000 + x.mul(500).logsumexp((1, 2)),
    "logsumexp kept": lambda x: torch.logsumexp(x, 1, keepdim=True),
    "log_softmax": lambda x: functional.log_softmax(500 * x, 1),
    "softmax": lambda x: (500 * x).softmax(-1),
    "glu": lambda x: functional.glu(x, 1),
}


@pytest.mark.parametrize("case", ONE)
def test_a_function_of_one_tensor_taken_apart_is_the_same_with_the_same_gradient(case):
    agree(ONE[case], drawn(3, 6, 4), called=case.split()[0])


TWO = {
    "bilinear": lambda x, y: functional.bilinear(x, y, drawn(5, 4, 4, seed=2), drawn(5)),
    "bilinear bare": lambda x, y: functional.bilinear(x[:, 0], y[:, 0], drawn(5, 4, 4, seed=2)),
}


@pytest.mark.parametrize("case", TWO)
def test_a_function_of_two_tensors_taken_apart_is_the_same_with_the_same_gradient(case):
    agree(TWO[case], drawn(3, 6, 4), drawn(3, 6, 4, seed=1), called=case.split()[0])


ATTENTIONS = {
    "plain": {}, "causal": {"is_causal": True}, "scaled": {"scale": 0.3}, "mask": {"attn_mask": drawn(6, 6) > -0.5},
    "float mask": {"attn_mask": drawn(2, 1, 6, 6)},
    "infinite mask": {"attn_mask": torch.zeros(6, 6, dtype=torch.float64).masked_fill(drawn(6, 6) < -0.5, -torch.inf)},
}  # fmt: skip


@pytest.mark.parametrize("settings", ATTENTIONS.values(), ids=ATTENTIONS)
def test_scaled_dot_product_attention_taken_apart_is_the_same(settings):
    def attend(q, k, v):
        return functional.scaled_dot_product_attention(q, k, v, **settings)

    agree(attend, *(drawn(2, 3, 6, 4, seed=seed) for seed in range(3)), called="scaled_dot_product_attention")


def test_grouped_queries_taken_apart_are_the_same():
    def attend(q, k, v):
        return functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    agree(attend, drawn(2, 6, 5, 4), drawn(2, 2, 5, 4, seed=1), drawn(2, 2, 5, 4, seed=2),
          called="scaled_dot_product_attention")  # fmt: skip


@pytest.mark.parametrize("options", [
    {}, {"batch_first": True}, {"bias": False}, {"add_bias_kv": True}, {"add_zero_attn": True, "add_bias_kv": True},
    {"kdim": 5, "vdim": 7}, {"kdim": 5, "vdim": 7, "bias": False}])  # fmt: skip
@pytest.mark.parametrize("call", [
    {}, {"need_weights": False}, {"average_attn_weights": False}, {"attn_mask": torch.ones(4, 4).triu(1).bool()},
    {"key_padding_mask": torch.tensor([[False, False, False, True]]).expand(4, 4)},
    {"key_padding_mask": torch.tensor([[False, True, False, True]]).expand(4, 4),
     "attn_mask": drawn(8, 4, 4).float().double()}])  # fmt: skip
@pytest.mark.filterwarnings("ignore:Support for mismatched")
def test_multi_head_attention_taken_apart_is_the_same(options, call):
    torch.manual_seed(1)
    module = nn.MultiheadAttention(6, 2, **options).double()
    if "attn_mask" in call and call["attn_mask"].ndim == 3:
        call = {**call, "attn_mask": drawn(8, 4, 4)}

    def attend(q, k, v):
        out, weights = module(q, k, v, **call)
        return out if weights is None else out.sum() + (weights * drawn(*weights.shape, seed=5)).sum()

    agree(attend, drawn(4, 4, 6), drawn(4, 4, options.get("kdim", 6), seed=1), drawn(4, 4, options.get("vdim", 6), seed=2),
          called="multi_head_attention_forward")  # fmt: skip


def test_attention_on_one_sequence_without_rows_is_the_same():
    module = nn.MultiheadAttention(6, 2).double()
    agree(lambda x: module(x, x, x)[0] + module(x, x, x)[1].sum(), drawn(4, 6), called="multi_head_attention_forward")


@pytest.mark.parametrize("first", [True, False])
def test_transformer_layers_are_the_same_and_take_no_fast_path(first):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=first, norm_first=first, activation="gelu").double().eval()
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).requires_grad_(False)
    decoder = nn.TransformerDecoderLayer(6, 2, 8, batch_first=first).double().eval().requires_grad_(False)
    agree(lambda x: decoder(x, encoder(x)), drawn(2, 4, 6), called="multi_head_attention_forward")


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("settings", [
    {}, {"batch_first": True, "bidirectional": True}, {"num_layers": 2, "bias": False}, {"num_layers": 2, "bidirectional": True}])  # fmt: skip
def test_recurrent_nets_taken_apart_are_the_same(kind, settings):
    torch.manual_seed(0)
    net = kind(4, 3, **settings).double()

    def run(x):
        outputs, finals = net(x)
        finals = finals if isinstance(finals, tuple) else (finals,)
        return outputs.sum(1) * sum(
            (part.sum() * drawn(1, seed=place) for place, part in enumerate(finals)), torch.ones(())
        )

    agree(run, drawn(3, 5, 4), called={nn.LSTM: "lstm", nn.GRU: "gru", nn.RNN: "rnn_tanh"}[kind])


def test_further_recurrent_forms_taken_apart_are_the_same():
    torch.manual_seed(0)
    relu, projected = (
        nn.RNN(4, 3, nonlinearity="relu").double(),
        nn.LSTM(4, 5, 2, proj_size=3, bidirectional=True).double(),
    )
    agree(lambda x: relu(x)[0], drawn(3, 5, 4), called="rnn_relu")
    agree(lambda x: projected(x)[0] * projected(x)[1][1].sum(), drawn(3, 5, 4), called="lstm")
    agree(lambda x: projected(x[0])[0], drawn(3, 5, 4), called="lstm")


@pytest.mark.parametrize(("cell", "name"), [
    (nn.LSTMCell, "lstm_cell"), (nn.GRUCell, "gru_cell"), (nn.RNNCell, "rnn_tanh_cell")])  # fmt: skip
def test_cells_taken_apart_are_the_same(cell, name):
    torch.manual_seed(0)
    part = cell(4, 3).double()

    def run(x):
        state = None
        for step in x.unbind(1):
            state = part(step, state)
        return torch.cat(state, 1) if isinstance(state, tuple) else state

    agree(run, drawn(3, 5, 4), called=name)


def refused(function, *inputs: Tensor) -> str:
    with pytest.raises(GuardError) as error:
        apart(function, *(tensor.requires_grad_() for tensor in inputs))
    return str(error.value)


def test_what_cannot_be_taken_apart_is_refused_by_name():
    net = nn.LSTM(4, 3).double()
    packed = refused(
        lambda x: net(nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 4, 2])))[0].data, drawn(5, 3, 4)
    )
    assert "lstm runs on a packed sequence" in packed
    deep = nn.GRU(4, 3, 2, dropout=0.5).double()
    assert "gru drops states at random" in refused(lambda x: deep(x)[0], drawn(5, 3, 4))
    parts = [drawn(2, 5, 4, seed=seed) for seed in range(3)]
    dropped = refused(lambda *qkv: functional.scaled_dot_product_attention(*qkv, dropout_p=0.2), *parts)
    assert "dropout_p=0.2" in dropped
    assert "mixes the rows" in refused(lambda x: x / x.std(), drawn(3, 4))
    assert "order 0" in refused(lambda x: torch.linalg.vector_norm(x, 0, dim=1), drawn(3, 4))
