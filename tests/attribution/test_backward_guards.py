"""Without each guard the map would be silently wrong: every test first shows what the wrong map would have been."""

import warnings
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import pellucid.attribution.backward.intercept as interception
from pellucid.attribution import explain
from pellucid.attribution import lrp as _lrp  # noqa: F401  # registers the method
from pellucid.errors import CannotExplain, GuardError
from pellucid.models import Model, Passes, derivative

METHODS = ["deconvnet", "guided_backprop", "deeplift", "deeplift_reveal_cancel", "lrp"]


class CustomReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * (x > 0)


def rectify(x: Tensor) -> Tensor:
    return torch.relu(x)


with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    scripted_relu = torch.jit.script(rectify)


HIDDEN = {
    "scripted function": scripted_relu,
    "custom Function": CustomReLU.apply,
    "reentrant checkpoint": lambda x: checkpoint(functional.relu, x, use_reentrant=True),
    "checkpoint": lambda x: checkpoint(functional.relu, x, use_reentrant=False),
    "hand-made ReLU": lambda x: x * (x > 0),
    "where": lambda x: torch.where(x.detach() + 0 > 0, x, torch.zeros(())),
}


def two_layers(nets, activation, *, hidden_first: bool = True):
    """ReLU that all can see, then the hidden one."""
    net = nets.Call(
        lambda x, a, b, c: c(activation(b(functional.relu(a(x.flatten(1)))))),
        nn.Linear(12, 8), nn.Linear(8, 8), nn.Linear(8, 2),
    )  # fmt: skip
    return nets.lived_in(net)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["scripted function", "custom Function", "reentrant checkpoint", "checkpoint"])
def test_a_hidden_relu_is_refused_by_name(nets, pixels, method, kind):
    net = two_layers(nets, HIDDEN[kind])
    with pytest.raises(GuardError, match=r"Relu|CustomReLU|heckpoint|Script|Clamp|DifferentiableGraph"):
        explain(net, pixels(3, 3, 2, 2), method, target=0)


@pytest.mark.parametrize("kind", ["scripted function", "custom Function"])
def test_without_the_graph_guard_a_hidden_relu_gives_a_wrong_map(nets, pixels, monkeypatch, kind):
    x = pixels(3, 3, 2, 2)
    right = explain(two_layers(nets, functional.relu), x, "guided_backprop", target=0).values
    monkeypatch.setattr(interception, "check_graph", lambda *_args, **_settings: None)
    wrong = explain(two_layers(nets, HIDDEN[kind]), x, "guided_backprop", target=0).values
    assert not torch.allclose(right, wrong, rtol=0.01)


def bent_after_relu(h: Tensor) -> Tensor:
    return functional.gelu(functional.relu(h) + 1)


def test_without_the_checkpoint_guard_the_wrong_tensors_are_recomputed(nets, pixels, monkeypatch):
    """The recomputation runs without rules and saves the ReLU's result where the GELU's input is asked for."""
    x = pixels(3, 3, 2, 2)
    right = explain(two_layers(nets, bent_after_relu), x, "guided_backprop", target=0).values
    net = two_layers(nets, lambda h: checkpoint(bent_after_relu, h, use_reentrant=False))
    with pytest.raises(GuardError, match="checkpointing"):
        explain(net, x, "guided_backprop", target=0)
    monkeypatch.setattr(interception, "_without_saved_tensor_hooks", lambda _name: nullcontext())
    wrong = explain(net, x, "guided_backprop", target=0).values
    assert not torch.allclose(right, wrong, rtol=0.01)


def test_saved_tensor_hooks_that_are_open_already_are_refused(nets, pixels):
    net = nets.lived_in(nets.ResNet(1))
    with (
        torch.autograd.graph.saved_tensors_hooks(lambda kept: kept, lambda kept: kept),
        pytest.raises(GuardError, match="saved-tensor hooks"),
    ):
        explain(net, pixels(1, 3, 8, 8), "guided_backprop", target=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("method", METHODS)
def test_a_scripted_layer_anywhere_is_refused_up_front_by_its_name(nets, pixels, method):
    net = nets.lived_in(nets.ResNet(1))
    net.relu = torch.jit.script(nn.ReLU())
    with pytest.raises(GuardError, match="relu"):
        explain(net, pixels(1, 3, 8, 8), method, target=0)


@pytest.mark.parametrize("method", ["deconvnet", "guided_backprop"])
def test_a_mask_made_by_comparison_is_refused(nets, pixels, method):
    with pytest.raises(GuardError, match="gt"):
        explain(two_layers(nets, HIDDEN["hand-made ReLU"]), pixels(2, 3, 2, 2), method, target=0)


def aliased(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    """An in-place ReLU on a tensor that another name sees: the sum holds the rectified values twice."""
    h = a(x.flatten(1))
    seen = h.view(-1, 2, 4)
    functional.relu(h, inplace=True)
    return b(h + seen.flatten(1))


@pytest.mark.parametrize("method", METHODS)
def test_an_aliased_in_place_relu_acts_on_every_alias(nets, pixels, method):
    parts = nn.Linear(12, 8), nn.Linear(8, 2)
    net = nets.lived_in(nets.Call(aliased, *parts))

    def plain(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
        h = functional.relu(a(x.flatten(1)))
        return b(h + h)

    same = nets.Call(plain, *parts).eval()
    x = pixels(4, 3, 2, 2)
    found, wanted = explain(net, x, method, target=1), explain(same, x, method, target=1)
    torch.testing.assert_close(found.values, wanted.values)
    torch.testing.assert_close(found.output, net(x)[:, 1].detach())


@pytest.mark.parametrize("method", METHODS)
def test_a_forward_that_differs_under_the_rules_is_refused(nets, pixels, monkeypatch, method):
    """The in-place call made out of place, without copying back: what the second guard is for."""

    def forgets(self, entry, function, args, kwargs):
        return self._make(entry, function, (args[0].clone(), *args[1:]), kwargs)

    monkeypatch.setattr(interception._Intercept, "_write", forgets)
    net = nets.lived_in(nets.Call(aliased, nn.Linear(12, 8), nn.Linear(8, 2)))
    with pytest.raises(GuardError, match="plain forward"):
        explain(net, pixels(4, 3, 2, 2), method, target=1)


def test_without_the_forward_guard_the_aliased_relu_gives_a_wrong_map(nets, pixels, monkeypatch):
    net = nets.lived_in(nets.Call(aliased, nn.Linear(12, 8), nn.Linear(8, 2)))
    x = pixels(4, 3, 2, 2)
    right = explain(net, x, "lrp", target=1).values
    monkeypatch.setattr(derivative, "check_agreement", lambda *_args, **_named: None)
    monkeypatch.setattr(
        interception._Intercept, "_write",
        lambda self, entry, function, args, kwargs: self._make(entry, function, (args[0].clone(), *args[1:]), kwargs),
    )  # fmt: skip
    assert not torch.allclose(explain(net, x, "lrp", target=1).values, right, rtol=0.01)


def test_the_forward_is_checked_where_the_target_is_not_known_too(nets, pixels, monkeypatch):
    from pellucid.attribution.backward import relu_rules
    from pellucid.models.targets import Class

    net = nets.lived_in(nets.Call(aliased, nn.Linear(12, 8), nn.Linear(8, 2)))
    model, x = Model.of(net), pixels(4, 3, 2, 2)
    monkeypatch.setattr(
        interception._Intercept, "_write",
        lambda self, entry, function, args, kwargs: self._make(entry, function, (args[0].clone(), *args[1:]), kwargs),
    )  # fmt: skip
    with Passes(model) as way:
        read = Class(0).freeze(model, way.outputs((x,)))
        with pytest.raises(GuardError, match="plain forward"):
            way.gradient((x,), read, rules=relu_rules("guided"))


@pytest.mark.parametrize("method", METHODS)
def test_normalising_by_the_batch_is_refused(nets, pixels, method):
    net = nets.lived_in(nets.Call(
        lambda x, a, b: b(functional.relu(functional.batch_norm(a(x.flatten(1)), None, None, training=True))),
        nn.Linear(12, 8), nn.Linear(8, 2)))  # fmt: skip
    with pytest.raises(GuardError, match="statistics of the batch"):
        explain(net, pixels(3, 3, 2, 2), method, target=0)


@pytest.mark.parametrize(("method", "activation", "named"), [
    ("deeplift", lambda h: h.sort(1)[0], r"SortBackward0 \(sort at test_backward_guards.py:\d+ in <lambda>\)"),
    ("lrp", lambda h: h.cumprod(1), "Cumprod"),
    ("deeplift", lambda h: h.tanh().cumprod(1), "Cumprod"),
    ("guided_backprop", lambda h: torch.maximum(h, torch.zeros(())), "Maximum"),
    ("guided_backprop", lambda h: h.clamp(min=0), "Clamp"),
    ("deconvnet", lambda h: h.masked_fill(h.detach() + 0 < 0, 0.0), "MaskedFill"),
])  # fmt: skip
def test_an_operation_without_a_rule_is_refused_by_name_with_methods_that_would_do(
    nets, pixels, method, activation, named
):
    with pytest.raises(GuardError, match=f"{named}.*integrated_gradients.*occlusion"):
        explain(two_layers(nets, activation), pixels(2, 3, 2, 2), method, target=0)


def test_a_nonlinear_call_in_place_on_a_slice_cannot_hide_in_the_graph(nets, pixels):
    def bends(h: Tensor) -> Tensor:
        h = h * 1
        h[:, 1:3].erfinv_()
        return h

    with pytest.raises(GuardError, match="Erfinv"):
        explain(two_layers(nets, lambda h: bends(h.tanh())), pixels(2, 3, 2, 2), "deeplift", target=0)


@pytest.mark.parametrize("method", ["deconvnet", "guided_backprop"])
def test_relu_rules_refuse_a_network_without_a_relu(nets, pixels, method):
    net = nets.lived_in(nets.Call(lambda x, a: a(x.flatten(1).tanh()), nn.Linear(12, 2)))
    with pytest.raises(CannotExplain, match="calls none"):
        explain(net, pixels(2, 3, 2, 2), method, target=0)


@pytest.mark.parametrize("method", METHODS)
def test_unfrozen_tensors_outside_the_module_are_constants(nets, pixels, method):
    x, head, weight = pixels(3, 3, 2, 2), nn.Linear(8, 2), pixels(12, 8, seed=4)
    tensors = (weight, nn.Parameter(weight.clone()), weight.clone().requires_grad_())
    maps = [explain(nets.Call(lambda y, a, w=w: a(functional.relu(y.flatten(1) @ w)), head), x, method, target=0).values
            for w in tensors]  # fmt: skip
    torch.testing.assert_close(maps[1], maps[0])
    torch.testing.assert_close(maps[2], maps[0])


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_computed_outside_that_requires_gradients_is_refused(nets, pixels, method):
    scale = nn.Parameter(pixels(8)).exp()
    net = nets.Call(lambda y, a, b: b(functional.relu(a(y.flatten(1))) + scale), nn.Linear(12, 8), nn.Linear(8, 2))
    with pytest.raises(GuardError, match=r"Exp|requires gradients"):
        explain(net, pixels(3, 3, 2, 2), method, target=0)


class Attending(nn.Module):
    def __init__(self, act) -> None:
        super().__init__()
        self.enter, self.act = nn.Linear(12, 8), act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(functional.relu(self.enter(x.flatten(1))))


def test_what_no_call_was_seen_to_make_is_told_by_what_took_it_in(nets, pixels):
    net = nets.lived_in(nets.Call(lambda x, a, b: b(a(x)), Attending(CustomReLU.apply), nn.Linear(8, 2)))
    with pytest.raises(GuardError, match=r"CustomReLUBackward \(in or before linear at test_backward_guards"):
        explain(net, pixels(2, 3, 2, 2), "deeplift", target=0)


@pytest.mark.parametrize("method", ["deconvnet", "guided_backprop", "deeplift"])
def test_a_refusal_says_which_operation_at_which_line_and_what_would_do(nets, pixels, method):
    net = nets.lived_in(Attending(Sorted()))
    line = Sorted.forward.__code__.co_firstlineno + 1
    with pytest.raises(GuardError, match=rf"sort at test_backward_guards.py:{line} in Sorted.forward.*occlusion"):
        explain(nn.Sequential(net), pixels(2, 3, 2, 2), method, target=0)


class Sorted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sort(1)[0]


def test_a_layer_of_torch_itself_is_told_where_the_model_is_made_of_such(pixels):
    net = nn.Sequential(nn.Flatten(2), nn.LPPool1d(2, 2), nn.Flatten(), nn.Linear(6, 2))
    with pytest.raises(GuardError, match=r"lp_pool1d at pooling.py:\d+ in LPPool1d.forward"):
        explain(net, pixels(2, 3, 2, 2), "deeplift", target=0)


RULED = [
    *METHODS, "deep_shap(background=('zero', 'noise'))", "guided_gradcam(at='parts.1')", "deep_taylor", "excitation_backprop",
    "attn_lrp",
]  # fmt: skip


@pytest.mark.parametrize("method", RULED)
def test_a_refusal_names_the_method_that_was_asked_for(nets, pixels, method):
    net = nets.lived_in(nets.Call(
        lambda x, a, b, c: c(CustomReLU.apply(b(functional.relu(a(x)))).mean((2, 3))),
        nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Linear(4, 2)))  # fmt: skip
    with pytest.raises(GuardError, match=rf"^{method.partition('(')[0]} has no rule for .*CustomReLU"):
        explain(net, pixels(2, 3, 4, 4), method, target=0)


@pytest.mark.parametrize("kind", ["net", "attribution"])
def test_patterns_are_refused_in_the_name_of_their_method(nets, pixels, kind):
    from pellucid.attribution.backward.patterned import pattern_rules
    from pellucid.models.targets import Class

    net = two_layers(nets, lambda h: h.tanh())
    model, rules = Model.of(net), pattern_rules((), kind, [].append)
    read = Class(0).freeze(model, torch.zeros(2, 2))
    with Passes(model) as way, pytest.raises(GuardError, match=rf"^pattern_{kind} has no rule for .*Tanh"):
        way.gradient((pixels(2, 3, 2, 2),), read, rules=rules)


@pytest.mark.parametrize("method", ["deep_taylor", 'lrp(composite="epsilon_plus_flat")'])
def test_a_refused_first_layer_names_the_call_and_the_method_once(nets, pixels, method):
    name, x = method.partition("(")[0], pixels(2, 3, 4, 4)
    net = nets.lived_in(
        nets.Call(lambda y, a, b: b(a(y * 2 + 1).relu().mean((2, 3))), nn.Conv2d(3, 4, 1), nn.Linear(4, 2))
    )
    said = rf"^conv2d at [\w.]+:\d+ in [\w.<>]+: the network rescales its input .* the rule of {name} for that layer"
    with pytest.raises(CannotExplain, match=said):
        explain(net, x, method, target=0)
    blind = nets.Call(lambda y, a: a(y.square().flatten(1)), nn.Linear(48, 2))
    with pytest.raises(CannotExplain, match=rf"^{name}: no convolution or linear layer"):
        explain(blind, x, method, target=0)
