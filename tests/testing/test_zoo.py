"""The zoo: nets that are what they say, and checks that catch a method that is wrong on one of them."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from pellucid.attribution import METHODS, Attribution, Method, explain
from pellucid.errors import CannotExplain
from pellucid.testing.zoo import SMALL, ZOO, ZooNet, small, verify


def run(net, x):
    with torch.no_grad():
        out = net(*x) if isinstance(x, tuple) else net(x)
    return out if isinstance(out, torch.Tensor) else out.logits


def rows(x, part):
    return tuple(tensor[part] for tensor in x) if isinstance(x, tuple) else x[part]


@pytest.mark.parametrize("net", ZOO.values(), ids=list(ZOO))
def test_every_net_is_the_same_for_the_same_seed_and_sees_every_row_by_itself(net):
    one, x = net.factory(), net.inputs()
    before = torch.random.get_rng_state()
    same, other = net.factory(), net.factory(1)
    assert torch.equal(torch.random.get_rng_state(), before)
    out = run(one, x)
    assert torch.equal(run(same, net.inputs()), out)
    assert not torch.equal(run(other, x), out)
    assert out.isfinite().all()
    assert (out[0] - out[1]).abs().max() > 1e-3, "the net does not see its inputs"
    torch.testing.assert_close(run(one, rows(x, slice(1, 2)))[0], out[1], rtol=1e-4, atol=1e-5)
    assert not one.training
    assert net.habits


def test_the_zoo_holds_the_nets_of_the_field():
    assert set(ZOO) == {
        "vgg", "vgg_bn", "resnet18", "resnet50", "resnet3d", "densenet", "inception", "efficientnet", "convnext", "vit",
        "vit_encoder", "vit_transformers", "swin", "unet_transposed", "unet_interpolated", "sequence_cnn", "cnn_lstm",
        "two_images", "image_and_vector", "group_norm", "regression", "embedding",
    }  # fmt: skip
    assert {len(net.shapes[0]) - 1 for net in ZOO.values()} == {1, 2, 3}
    assert {net.task for net in ZOO.values()} == {"classification", "segmentation", "regression", None}
    assert set(SMALL) <= set(METHODS)
    assert str(small("saliency")) == "saliency"


def test_the_habits_are_real():
    block = ZOO["resnet18"].factory().layers[0]
    assert isinstance(block.relu, nn.ReLU)
    assert block.relu.inplace
    x = torch.randn(1, 4, 6, 6)
    kept = x.clone()
    with torch.no_grad():
        block(x)
    assert torch.equal(x, kept), "the shortcut's input is not written into, only what the block made"
    swin = ZOO["swin"].factory()
    shifted = swin.stage1[1]
    mask = shifted._mask(8, 12)
    assert mask.shape == (24, 4, 4)
    assert mask.min() == -100
    assert ZOO["unet_transposed"].factory()(ZOO["unet_transposed"].inputs()).shape == (2, 3, 16, 20)
    assert ZOO["embedding"].factory()(ZOO["embedding"].inputs()).norm(dim=1).allclose(torch.ones(2))
    assert not isinstance(ZOO["vit_transformers"].factory()(ZOO["vit_transformers"].inputs()), torch.Tensor)


def test_an_output_object_is_read_by_its_logits_and_a_dictionary_too():
    net, x = ZOO["vit_transformers"].factory(), ZOO["vit_transformers"].inputs()

    class Dictionary(nn.Module):
        def forward(self, x):
            return {"logits": net(x).logits, "features": x}

    class Other(nn.Module):
        def forward(self, x):
            return {"out": net(x).logits}

    whole = explain(net, x, "gradient", target=1)
    torch.testing.assert_close(explain(lambda x: net(x).logits, x, "gradient", target=1).values, whole.values)
    torch.testing.assert_close(explain(Dictionary(), x, "gradient", target=1).values, whole.values)
    with pytest.raises(Exception, match="the model returned dict; wrap it in a function"):
        explain(Other(), x, "gradient", target=1)


ABOUT = METHODS["gradient"].taxonomy


@dataclass(frozen=True, kw_only=True, repr=False)
class faulty_method(Method):
    """Input × gradient with a fault."""

    fault: str

    taxonomy: ClassVar = ABOUT

    def attribute(self, call):
        """Explain wrongly."""
        if self.fault == "refuses without advice":
            raise CannotExplain("no")
        if self.fault == "fails":
            raise KeyError(self.fault)
        values = tuple(x * g for x, g in zip(call.inputs, call.passes.gradient(call.inputs, call.read)[2], strict=True))
        if self.fault == "reads its neighbours":
            values = tuple(part - part.mean(0) for part in values)
        if self.fault == "a little off":
            values = tuple(part + 0.01 * part.abs().max() for part in values)
        if self.fault == "turned":
            values = tuple(part.flip(-1) for part in values)
        return Attribution(values)


@pytest.fixture
def faulty(monkeypatch):
    def made(fault):
        monkeypatch.setitem(METHODS._recipes, "faulty_method", faulty_method)
        return faulty_method(fault=fault)

    return made


def input_x_gradient(case):
    return tuple(x * slope for x, slope in zip(case.inputs, case.gradient(case.inputs), strict=True))


@pytest.mark.parametrize("name", ["resnet18", "vit", "two_images", "unet_transposed"])
def test_a_method_of_ones_own_is_verified_by_ones_own_reference(faulty, name):
    verdict = verify(ZOO[name], faulty("none"), reference=input_x_gradient)
    assert (verdict.mark, verdict.refused) == ("loop", False)
    assert verdict.error < 1e-4
    assert verify(ZOO[name], faulty("none")).mark == "rows"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("reads its neighbours", "a row alone differs from itself"),
        ("a little off", "loop misses by"),
        ("turned", "loop misses by"),
        ("refuses without advice", "does not say what to do"),
    ],
)
def test_a_method_with_a_fault_is_caught(faulty, fault, said):
    with pytest.raises(AssertionError, match=said):
        verify(ZOO["resnet18"], faulty(fault), reference=input_x_gradient)


def test_an_error_that_is_no_refusal_goes_through(faulty):
    with pytest.raises(KeyError):
        verify(ZOO["vgg"], faulty("fails"))


def test_a_wrong_slope_a_wide_gap_and_an_open_balance_are_caught(monkeypatch):
    net = ZOO["vgg"]
    for name, said in [
        ("gradient", "slope misses"),
        ("deeplift", "gap misses"),
        ("lrp", "balance misses"),
    ]:
        honest = METHODS[name].attribute

        def broken(self, call, honest=honest):
            found = honest(self, call)
            return Attribution(
                tuple(1.05 * values for values in found.values),
                reference_output=found.reference_output,
                absorbed=found.absorbed,
            )

        with monkeypatch.context() as patch:
            patch.setattr(METHODS[name], "attribute", broken)
            with pytest.raises(AssertionError, match=said):
                verify(net, name)


def test_a_net_of_ones_own_can_join():
    mine = ZooNet(
        name="mine", build=lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), shapes=((3, 4),), habits="none"
    )
    assert verify(mine, "integrated_gradients(steps=4)").mark == "gap"
    assert verify(mine, "gradcam").refused
