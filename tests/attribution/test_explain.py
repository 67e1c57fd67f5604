import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid.attribution import METHODS, Attribution, Explanation, Method
from pellucid.attribution.method import row_seeds
from pellucid.attribution.request import _gap, _sound
from pellucid.errors import BadRecipe, BadTarget, CannotExplain, ShapeError
from pellucid.models import Model

SMALL = {
    "blur_ig": "blur_ig(steps=16)",
    "deep_taylor": "deep_taylor(low=-8.0, high=8.0)",
    "expected_gradients": "expected_gradients(samples=4)",
    "extremal_perturbation": "extremal_perturbation(areas=(0.2,), steps=4)",
    "guided_ig": "guided_ig(steps=16)",
    "kernel_shap": "kernel_shap(segments=4, samples=12)",
    "lime": "lime(segments=4, samples=12)",
    "occlusion": "occlusion(window=3, stride=2)",
    "rise": "rise(samples=12)",
    "smoothgrad": "smoothgrad(samples=3)",
    "vargrad": "vargrad(samples=3)",
}
FITTED = {"pattern_net", "pattern_attribution"}
PANEL = [
    *(
        SMALL.get(name, name)
        for name in sorted(set(METHODS) - FITTED)
        if "attention" not in METHODS[name].taxonomy.needs
    ),
    "input_x_gradient(at='0')",
    "integrated_gradients(steps=5, at='0', baseline='noise')",
]


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 3)
    )


def images(rows=3):
    return torch.randn((rows, 2, 6, 6), generator=torch.Generator().manual_seed(1))


def test_no_target_is_the_predicted_class_of_every_row():
    model, x = net().eval(), images(8)
    e = pellucid.explain(model, x, "gradient")
    outputs = model(x)
    assert e.target == pellucid.targets.Class(tuple(outputs.argmax(1).tolist()))
    torch.testing.assert_close(e.output, outputs.amax(1).detach())


@pytest.mark.parametrize(
    "target",
    [2, "c", (2, 2, 2), ["c", 2, "c"], torch.tensor(2), torch.tensor([2, 2, 2]), np.int64(2), np.array([2] * 3), -1],
)
def test_one_class_can_be_said_in_many_ways(target):
    model = Model(net(), classes=["a", "b", "c"])
    expected = pellucid.explain(model, images(), "gradient", target=pellucid.targets.Class(2))
    assert torch.equal(pellucid.explain(model, images(), "gradient", target=target).values, expected.values)


def test_a_one_logit_net_has_one_thing_to_explain():
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 1))
    e = pellucid.explain(model, images(), "gradient")
    assert e.target == pellucid.targets.Output(0)
    torch.testing.assert_close(e.values, model[1].weight.detach().view(1, 2, 6, 6).expand(3, -1, -1, -1))
    flat = pellucid.explain(lambda x: model(x)[:, 0], images(), "gradient")
    assert torch.equal(flat.values, e.values)


@pytest.mark.parametrize(
    ("model", "target", "said"),
    [
        (Model(net(), task="regression"), None, r"3 regression outputs: give pellucid.targets.Output\(index\)"),
        (nn.Conv2d(2, 4, 1), None, r"dense output \(3, 4, 6, 6\): give pellucid.targets.Region"),
        (nn.Conv2d(2, 4, 1), 1, "use Region"),
        (net(), 3, "output 3 does not exist; the model returns 3"),
        (net(), (0, 1), "names 2 classes for 3 rows"),
        (net(), "burr", "there is no class 'burr'; the model has no class names"),
        (Model(net(), classes=["a", "b", "c"]), "burr", "the model has a, b, c"),
        (net(), 1.5, "is no class, sequence of classes or pellucid.targets value"),
        (net(), [0.5, 1, 2], "is no class, sequence of classes or pellucid.targets value"),
    ],
)
def test_a_target_that_does_not_fit_is_refused_in_a_sentence(model, target, said):
    with pytest.raises(BadTarget, match=said):
        pellucid.explain(model, images(), "gradient", target=target)


def numpy_model(x):
    return torch.from_numpy(x.numpy().reshape(len(x), -1)[:, :2])


@pytest.mark.parametrize(
    "model", [numpy_model, lambda x: x.detach().flatten(1), torch.no_grad()(lambda x: 2 * x.flatten(1))]
)
@pytest.mark.parametrize("method", ["gradient", "smoothgrad", "integrated_gradients"])
def test_a_callable_without_gradients_is_refused_with_the_methods_that_would_do(method, model):
    with pytest.raises(CannotExplain, match="occlusion, ablation, rise, lime or kernel_shap"):
        pellucid.explain(model, images(), method)
    assert pellucid.explain(model, images(), "edge_map").values.shape == images().shape


def test_a_view_made_without_gradients_is_refused_and_not_read_as_zero():
    with pytest.raises(CannotExplain, match="does not depend on its input through differentiable steps"):
        pellucid.explain(torch.no_grad()(lambda x: x.flatten(1)), images(), "gradient")


def test_a_layer_that_the_target_never_uses_is_refused():
    class Side(nn.Module):
        def __init__(self):
            super().__init__()
            self.side = nn.Tanh()

        def forward(self, x):
            self.side(x)
            return x.flatten(1)

    with pytest.raises(CannotExplain, match="does not depend on layer 'side'"):
        pellucid.explain(Side(), images(), "gradient(at='side')")


def test_a_need_that_the_model_lacks_names_methods_that_can():
    with pytest.raises(CannotExplain, match=r"gradcam needs layers, .*; these methods do not: .*saliency"):
        pellucid.explain(lambda x: x.flatten(1), images(), "gradcam")
    with pytest.raises(CannotExplain, match="needs layers"):
        pellucid.explain(lambda x: x.flatten(1), images(), "smoothgrad(method='gradcam')")


class Explodes(nn.Module):
    """Fails on its n-th call, after it wrote into a buffer of its own."""

    def __init__(self, after):
        super().__init__()
        self.body = net()
        self.register_buffer("calls", torch.zeros(()))
        self.after, self.count = after, 0

    def forward(self, x):
        self.count += 1
        self.calls += 1
        hidden = self.body[:4](x)
        if self.count > self.after:
            raise RuntimeError("boom")
        return self.body[4:](hidden)


def state(model):
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return (
        {name: (tensor.detach().clone(), id(tensor), tensor.requires_grad) for name, tensor in tensors},
        {name: part.training for name, part in model.named_modules()},
        {
            name: (len(part._forward_hooks), len(part._forward_pre_hooks), len(part._backward_hooks))
            for name, part in model.named_modules()
        },
        {
            name: None if tensor.grad is None else (tensor.grad.clone(), id(tensor.grad))
            for name, tensor in model.named_parameters()
        },
    )


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def prepared(model):
    """A model in the middle of training: mixed modes, gradients, a frozen layer and a user's hook."""
    body = model.body if isinstance(model, Explodes) else model
    model.train()
    body[1].eval()
    body[0].bias.requires_grad_(False)
    body[0].weight.grad = torch.ones_like(body[0].weight)
    body[2].register_forward_hook(lambda *args: None)
    return model


@pytest.mark.parametrize("method", PANEL)
def test_the_model_comes_back_exactly_as_it_went_in(method):
    model, x = prepared(net()), images()
    before, kept = state(model), x.clone()
    pellucid.explain(model, x, method, batch_size=2)
    assert same(state(model), before)
    assert torch.equal(x, kept)


@pytest.mark.parametrize("method", [name for name in PANEL if not name.endswith("_map")])
def test_the_model_comes_back_after_an_exception_too(method):
    for after in (0, 1, 2):
        model = prepared(Explodes(after))
        before = state(model)
        text = method.replace("'0'", "'body.0'")
        with pytest.raises((CannotExplain, ShapeError), match="boom"):
            pellucid.explain(model, images(), text, target=1, batch_size=2)
        assert same(state(model), before)


def test_torchs_own_random_stream_is_neither_read_nor_moved():
    first = pellucid.explain(net(), images(), "smoothgrad(samples=3)").values
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    second = pellucid.explain(net_again := net(), images(), "smoothgrad(samples=3)").values
    assert torch.equal(first, second)
    torch.manual_seed(123)
    pellucid.explain(net_again, images(), "smoothgrad(samples=3)")
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("method", PANEL)
def test_row_i_alone_equals_row_i_in_a_batch_wherever_it_stands(method):
    model, x, ids = net(), images(), ("a", "b", "c")
    together = pellucid.explain(model, x, method, ids=ids, seed=3, batch_size=2)
    turned = pellucid.explain(model, x.flip(0), method, ids=ids[::-1], seed=3)
    torch.testing.assert_close(turned.values.flip(0), together.values, rtol=1e-4, atol=1e-6)
    for row in range(3):
        alone = pellucid.explain(model, x[row : row + 1], method, ids=ids[row : row + 1], seed=3)
        torch.testing.assert_close(alone.values[0], together.values[row], rtol=1e-4, atol=1e-6)


def test_a_row_seed_is_made_of_the_seed_and_the_id_alone():
    assert row_seeds(0, ("a", "b"), 2) == (row_seeds(0, ("a",), 1)[0], row_seeds(0, ("b",), 1)[0])
    assert len(set(row_seeds(0, ("a", "b"), 2) + row_seeds(1, ("a", "b"), 2))) == 4
    assert row_seeds(0, None, 3) == row_seeds(0, None, 1) * 3


def test_the_gap_is_what_the_values_miss_of_the_difference_in_output():
    model, x = net(), images()
    e = pellucid.explain(model, x, "integrated_gradients(steps=3, baseline='mean')")
    missed = e.values.double().flatten(1).sum(1) - (e.output.double() - e.reference_output.double())
    torch.testing.assert_close(e.gap.double(), missed.abs(), rtol=1e-4, atol=1e-6)
    assert pellucid.explain(model, x, "saliency").gap is None
    ig, output = METHODS.parse("integrated_gradients"), torch.tensor([3.0])
    parts = (torch.tensor([[1.0]]), torch.tensor([[0.5]]))
    assert _gap(Attribution(parts, reference_output=torch.tensor([1.0])), ig, output).tolist() == [0.5]
    assert _gap(Attribution(parts, absorbed=torch.tensor([1.5])), ig, output).tolist() == [0.0]
    assert _gap(Attribution(parts), ig, output) is None


def test_nothing_that_is_not_a_number_is_explained_or_returned():
    x = images()
    x[1, 0, 0, 0] = torch.nan
    with pytest.raises(ShapeError, match=r"input 0 of shape .* holds NaN"):
        pellucid.explain(net(), x, "gradient")
    with pytest.raises(CannotExplain, match=r"the model gives nan for Class\(index=0\) of row 0: there is nothing"):
        pellucid.explain(lambda x: (x - x).flatten(1) / 0, images(), "saliency", target=0)
    with pytest.raises(CannotExplain, match="gave NaN or infinity for input 0"):
        pellucid.explain(lambda x: (x - x).flatten(1).sum(1).sqrt(), images(), "gradient")
    with pytest.raises(CannotExplain, match="returned 1 maps for 3 images"):
        _sound(Attribution((torch.zeros(1, 2),)), METHODS.parse("gradient"), (images(),))


def test_two_inputs_have_two_maps_and_a_layer_has_one():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = nn.Bilinear(9, 4, 2)

        def forward(self, a, b):
            return self.mix(a.flatten(1), b)

    a, b = torch.randn(2, 1, 3, 3), torch.randn(2, 4)
    model = Two()
    e = pellucid.explain(model, (a, b), "input_x_gradient", target=0)
    assert [tuple(values.shape) for values in e.tensors] == [(2, 1, 3, 3), (2, 4)]
    for values in e.values:
        torch.testing.assert_close(values.flatten(1).sum(1), e.output - model.mix.bias[0].detach())
    at = pellucid.explain(Two(), (a, b), "gradient(at='mix')", target=0)
    assert torch.equal(at.values, torch.tensor([[1.0, 0.0]]).expand(2, -1))
    with pytest.raises(ShapeError, match=r"\[2, 1\] rows"):
        pellucid.explain(Two(), (a, b[:1]), "gradient")


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (
            lambda: pellucid.explain(net(), images(), "gradient", ids=("a",)),
            ShapeError,
            "1 ids were given for 3 images",
        ),
        (lambda: pellucid.explain(net(), images()[:0], "gradient"), ShapeError, "the batch is empty"),
        (
            lambda: pellucid.explain(net(), images()[:, :1], "gradient"),
            ShapeError,
            r"cannot take images of shape \(1, 6, 6\)",
        ),
        (lambda: pellucid.explain(net(), images(), "gradient", batch_size=0), ShapeError, "must be at least 1"),
        (lambda: pellucid.explain(net(), images(), "salience"), BadRecipe, "did you mean saliency"),
        (lambda: pellucid.explain(net(), images(), "saliency(steps=3)"), BadRecipe, "has no setting 'steps'"),
        (lambda: pellucid.explain(net(), images().numpy(), "gradient"), ShapeError, "is ndarray"),
        (
            lambda: pellucid.explain("net.pt", images(), "gradient"),
            ShapeError,
            "takes an nn.Module or a callable, not str",
        ),
        (lambda: pellucid.explain(lambda x: {"out": x}, images(), "gradient"), ShapeError, "returned dict"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(call, error, said):
    with pytest.raises(error, match=said):
        call()


def test_a_result_stands_alone():
    x = images().requires_grad_()
    e = pellucid.explain(net(), x, "input_x_gradient")
    assert not e.values.requires_grad
    assert not e.output.is_inference()
    assert x.grad is None
    assert (e.forwards, e.backwards) == (6, 3)


def test_rows_of_an_explanation_keep_their_own_class_and_id():
    e = pellucid.explain(net(), images(), "smoothgrad(samples=2)", target=[2, 0, 1], ids=("a", "b", "c"))
    cut = e[[2, 0]]
    assert (cut.ids, cut.target) == (("c", "a"), pellucid.targets.Class((1, 2)))
    assert torch.equal(cut.values, e.values[[2, 0]])
    assert torch.equal(cut.error, e.error[[2, 0]])
    assert torch.equal(e[1:].output, e.output[1:])


def test_anybodys_map_becomes_an_explanation():
    x = images()
    e = Explanation.from_values(torch.ones(3, 1, 6, 6), net(), x, target=1, name="mine")
    torch.testing.assert_close(e.output, net().eval()(x)[:, 1].detach())
    assert e.name == "mine"
    assert Explanation.from_values(x, net(), x, name="saliency").name == "saliency (given)"
    with pytest.raises(ShapeError, match="has 2 maps"):
        Explanation.from_values(x[:2], net(), x, name="mine")


def test_every_registered_method_says_what_it_is():
    for name, method in METHODS.items():
        assert issubclass(method, Method)
        taxonomy = method.taxonomy
        assert taxonomy.question.endswith("?"), name
        assert taxonomy.cost, name
        assert taxonomy.reference, name
        assert str(method()) == name
        assert METHODS.parse(name) == method()
