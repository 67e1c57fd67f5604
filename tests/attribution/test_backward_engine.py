"""What holds for every rule: rows alone, the model untouched, nothing kept, plain callables, slices, dimensions."""

import copy
import gc
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pellucid.attribution import explain
from pellucid.attribution import lrp as _lrp  # noqa: F401  # registers the method
from pellucid.errors import GuardError
from pellucid.models import targets

METHODS = [
    "deconvnet", "guided_backprop", "deeplift", 'deeplift(baseline="noise")', "deeplift_reveal_cancel", "lrp", 'lrp(composite="epsilon_plus_flat")',
    'lrp(composite="epsilon_gamma_box", low=-4.0, high=(4.0, 4.0, 4.0))', 'lrp(composite="epsilon_alpha2_beta1_flat")',
]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_a_row_alone_equals_the_row_in_a_batch(nets, pixels, method):
    net, x = nets.lived_in(nets.ResNet(2)), pixels(5, 3, 10, 10)
    x[3] *= 100
    together = explain(net, x, method, target=(0, 1, 2, 0, 1))
    alone = explain(net, x[2:3], method, target=2)
    torch.testing.assert_close(together.values[2:3], alone.values, rtol=1e-4, atol=1e-6)
    for size in (1, 2):
        parts = explain(net, x, method, target=(0, 1, 2, 0, 1), batch_size=size)
        torch.testing.assert_close(parts.values, together.values, rtol=1e-4, atol=1e-4)
        if together.absorbed is not None:
            torch.testing.assert_close(parts.absorbed, together.absorbed, rtol=1e-4, atol=1e-4)


def state_of(net: nn.Module):
    parts = {name: (type(part), part.training, len(part._forward_hooks), len(part._backward_hooks), set(vars(part)))
             for name, part in net.named_modules()}  # fmt: skip
    return parts, {name: (value.requires_grad, value.grad) for name, value in net.named_parameters()}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_untouched_also_after_an_exception(nets, pixels, method, fails):
    net = nets.lived_in(nets.ResNet(2)).train()
    if fails:
        net.head.forward = lambda h: h.cumprod(1)[:, :3]
    values, before = copy.deepcopy(net.state_dict()), state_of(net)
    if fails:
        with pytest.raises(GuardError):
            explain(net, pixels(2, 3, 8, 8), method, target=0)
    else:
        explain(net, pixels(2, 3, 8, 8), method, target=0)
    assert state_of(net) == before
    for name, value in net.state_dict().items():
        assert torch.equal(value, values[name]), name


@pytest.mark.parametrize("method", METHODS)
def test_no_tensor_outlives_the_call(nets, pixels, method):
    net, x = nets.lived_in(nets.ResNet(2)), pixels(2, 3, 8, 8)
    explain(net, x, method, target=0)
    gc.collect()
    gc.disable()
    try:
        seen: list[weakref.ref] = []
        hook = net.head.register_forward_hook(lambda _m, given, _o: seen.append(weakref.ref(given[0])))
        before = sum(issubclass(type(kept), Tensor) for kept in gc.get_objects())
        explain(net, x, method, target=0)
        hook.remove()
        assert sum(issubclass(type(kept), Tensor) for kept in gc.get_objects()) <= before
        assert all(kept() is None for kept in seen)
    finally:
        gc.enable()


@pytest.mark.parametrize("method", METHODS)
def test_a_plain_callable_with_unfrozen_parameters_gives_the_same_map(nets, pixels, method):
    net, x = nets.lived_in(nets.ResNet(1)), pixels(2, 3, 8, 8)
    wrapped = explain(net.forward, x, method, target=0)
    torch.testing.assert_close(wrapped.values, explain(net, x, method, target=0).values)
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize("method", METHODS[2:])
@pytest.mark.parametrize("rank", [1, 3])
def test_other_numbers_of_axes_keep_the_sum(nets, pixels, method, rank):
    kinds = {1: (nn.Conv1d, nn.BatchNorm1d, nn.MaxPool1d, nn.AdaptiveAvgPool1d, nn.ConvTranspose1d),
             3: (nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d, nn.AdaptiveAvgPool3d, nn.ConvTranspose3d)}  # fmt: skip
    conv, norm, peak, mean, up = kinds[rank]
    net = nets.lived_in(nn.Sequential(
        conv(3, 4, 3, padding=1), norm(4), nn.ReLU(inplace=True), peak(2), up(4, 6, 2, stride=2, groups=2), norm(6),
        nn.LeakyReLU(0.1, inplace=True), conv(6, 4, 3, groups=2), nn.ELU(), mean(1), nn.Flatten(), nn.Dropout(), nn.Linear(4, 2),
    ))  # fmt: skip
    x = pixels(3, 3, *[8] * rank)
    found = explain(net, x, method, target=1)
    assert found.values.shape == x.shape
    assert found.gap is not None
    assert (found.gap < 1e-4 * (1 + found.output.abs())).all()


def written_in_slices(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    """U-Net's habits: slices written in place, concatenation, padding, upsampling, chunks."""
    h = a(x)
    h[:, 1:2].relu_()
    h[:, 2:3] = functional.relu(h[:, 2:3])
    low = functional.interpolate(functional.avg_pool2d(h, 2), scale_factor=2, mode="bilinear")
    both = torch.cat([functional.pad(low, (1, 1, 1, 1))[..., 1:-1, 1:-1], h.transpose(2, 3).transpose(2, 3)], 1)
    left, right = both.chunk(2, 1)
    return b(torch.stack([left - 0.5 * right, right], 1).sum(1).relu().mean((2, 3)))


@pytest.mark.parametrize("method", METHODS[2:])
def test_slices_sums_and_upsampling_keep_the_sum(nets, pixels, method):
    net = nets.lived_in(nets.Call(written_in_slices, nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 2)))
    found = explain(net, pixels(3, 3, 8, 8), method, target=1)
    assert (found.gap < 1e-4 * (1 + found.output.abs())).all()


def test_two_inputs_are_explained_together(nets, pixels):
    net = nets.lived_in(nets.Call(
        lambda x, y, a, b, c: c(functional.relu(torch.cat([a(x).mean((2, 3)), b(y)], 1))),
        nn.Conv2d(3, 4, 3), nn.Linear(5, 4), nn.Linear(8, 2)))  # fmt: skip
    inputs = pixels(3, 3, 6, 6), pixels(3, 5)
    for method in ("deeplift", "lrp", 'lrp(composite="epsilon_plus_flat")'):
        found = explain(net, inputs, method, target=0)
        assert [values.shape for values in found.values] == [part.shape for part in inputs]
        assert (found.gap < 1e-5).all()


def test_a_network_that_writes_into_its_input_leaves_the_images_alone(nets, pixels):
    net = nets.lived_in(nets.Call(lambda x, a: a(x.mul_(2).flatten(1).relu_()), nn.Linear(12, 2)))
    x = pixels(2, 3, 2, 2)
    kept = x.clone()
    found = explain(net, x, "deeplift", target=0)
    assert (found.gap < 1e-5).all()
    assert torch.equal(x, kept)


@pytest.mark.parametrize("method", ["deeplift", "lrp"])
@pytest.mark.parametrize("target", [targets.Contrast(0, 1), targets.LogOdds(1), targets.Latent(2, layer="blocks"),
                                    targets.Similarity(torch.ones(6), layer="blocks.0.a")])  # fmt: skip
def test_every_target_keeps_the_sum(nets, pixels, method, target):
    if isinstance(target, targets.Similarity):
        target = targets.Similarity(torch.randn(6 * 16, generator=torch.Generator().manual_seed(0)), layer="blocks.0.a")
    net = nets.lived_in(nets.ResNet(1))
    found = explain(net, pixels(2, 3, 8, 8), method, target)
    assert (found.gap < 1e-5 * (1 + found.output.abs())).all()
    curved = method == "lrp" and isinstance(target, targets.LogOdds | targets.Similarity)
    assert any("curvature" in warning for warning in found.warnings) == curved
