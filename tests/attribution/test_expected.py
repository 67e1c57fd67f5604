"""Expected gradients and Deep SHAP: averages over backgrounds, against the methods that they average."""

import pytest
import torch
from torch import nn

import pellucid
from pellucid.attribution import METHODS
from pellucid.attribution.backgrounds import Images
from pellucid.attribution.fills import reference
from pellucid.attribution.method import row_seeds
from pellucid.errors import BadRecipe, ShapeError

IDS = ("a", "b", "c")


def method(name, **settings):
    return METHODS[name](**settings)


def curved(nets):
    return nets.lived_in(
        nn.Sequential(nn.Conv2d(2, 5, 3), nn.Softplus(), nn.Flatten(), nn.Linear(80, 6), nn.Tanh(), nn.Linear(6, 3))
    )


def mean_ig(net, x, backgrounds):
    """Integrated gradients from every background by autograd at 400 midpoints, averaged."""
    total = torch.zeros_like(x)
    for b in backgrounds:
        for place in (torch.arange(400) + 0.5) / 400:
            point = (b + place * (x - b)).requires_grad_()
            total += (x - b) * torch.autograd.grad(net(point)[:, 1].sum(), point)[0] / 400
    return total / len(backgrounds)


@pytest.mark.parametrize("name", ["expected_gradients", "deep_shap"])
def test_a_linear_model_gives_weight_times_difference_from_the_background_mean(nets, pixels, name):
    net, x, backgrounds = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), pixels(3, 3, 2, 2), pixels(4, 3, 2, 2, seed=5)
    found = pellucid.explain(net, x, method(name, background=backgrounds), target=1)
    weight = net[1].weight[1].view(3, 2, 2).detach()
    mean = backgrounds.mean(0) if name == "deep_shap" else None
    if mean is not None:
        torch.testing.assert_close(found.values, weight * (x - mean), rtol=1e-4, atol=1e-6)
    else:
        away = (found.values - weight * (x - backgrounds.mean(0))).abs()
        assert (away <= 4 * found.error + 1e-6).all()
    torch.testing.assert_close(found.reference_output, net(backgrounds)[:, 1].mean().expand(3).detach())
    alone = pellucid.explain(net, x, method(name, background=0.5), target=1)
    torch.testing.assert_close(alone.values, weight * (x - 0.5), rtol=1e-4, atol=1e-6)


def test_with_one_reference_and_a_linear_model_expected_gradients_have_no_error(pixels):
    net, x = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), pixels(3, 3, 2, 2)
    found = pellucid.explain(net, x, "expected_gradients(samples=7)", target=0)
    assert float(found.error.max()) < 1e-7
    assert found.backwards == 3 * 7


def test_expected_gradients_converge_to_the_mean_of_integrated_gradients_over_the_background(nets, pixels):
    net, x, backgrounds = curved(nets), pixels(2, 2, 6, 6), pixels(3, 2, 6, 6, seed=4)
    wanted = mean_ig(net, x, backgrounds)
    few, many = (
        pellucid.explain(net, x, method("expected_gradients", samples=n, background=backgrounds), target=1, ids=IDS[:2])
        for n in (50, 3200)
    )
    assert ((many.values - wanted).abs() <= 5 * many.error).all()
    assert (many.values - wanted).norm() < 0.3 * (few.values - wanted).norm()
    torch.testing.assert_close(many.error.mean() * 8, few.error.mean(), rtol=0.15, atol=0)


def test_the_stated_error_covers_the_truth_about_as_often_as_it_says(nets, pixels):
    net, x = curved(nets), pixels(1, 2, 6, 6)
    wanted = mean_ig(net, x, [torch.zeros_like(x)])
    hits = []
    for seed in range(40):
        found = pellucid.explain(net, x, "expected_gradients(samples=60)", target=1, seed=seed)
        hits.append(((found.values - wanted).abs() <= 2 * found.error).float().mean())
    assert 0.9 < float(torch.stack(hits).mean()) < 0.99


def test_expected_gradients_equal_a_naive_loop_over_the_same_draws(nets, pixels):
    net, x, backgrounds = curved(nets), pixels(2, 2, 6, 6), pixels(3, 2, 6, 6, seed=4)
    found = pellucid.explain(
        net, x, method("expected_gradients", samples=9, background=backgrounds), target=1, ids=IDS[:2], batch_size=4
    )
    for row, seed in enumerate(row_seeds(0, IDS[:2], 2)):
        stream = torch.Generator().manual_seed(seed)
        picks, places = torch.randint(3, (9,), generator=stream), torch.rand(9, generator=stream)
        terms = []
        for pick, place in zip(picks, places, strict=True):
            b = backgrounds[pick]
            point = (b + place * (x[row] - b))[None].requires_grad_()
            terms.append((x[row] - b) * torch.autograd.grad(net(point)[0, 1], point)[0][0])
        terms = torch.stack(terms)
        torch.testing.assert_close(found.values[row], terms.mean(0), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found.error[row], terms.std(0) / 3, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("background", ["mean", ("zero", "noise", 0.3), "images"])
def test_deep_shap_is_the_mean_of_deeplift_over_the_background(nets, pixels, background):
    net, x = nets.lived_in(nets.ResNet(2)), pixels(3, 3, 12, 12)
    chosen = pixels(2, 3, 12, 12, seed=8) if background == "images" else background
    found = pellucid.explain(net, x, method("deep_shap", background=chosen), target=1, batch_size=4)
    total = torch.zeros_like(x)
    if background == "images":
        for b in chosen:
            shifted = nets.Call(lambda y, net, b=b: net(y + b), net)  # against b = against zero, moved by b
            total += pellucid.explain(shifted, x - b, "deeplift", target=1).values / 2
    elif background == "mean":
        total = pellucid.explain(net, x, "deeplift(baseline='mean')", target=1).values
    else:
        seeds = [row_seeds(row_seeds(0, None, 1)[0], ("background 1",), 1)[0]] * 3
        (noise,) = reference("noise", (x,), seeds)
        shifted = nets.Call(lambda y, net: net(y + noise[: len(y) // 2].repeat(2, 1, 1, 1)), net)
        for part in ("deeplift", "deeplift(baseline=0.3)"):
            total += pellucid.explain(net, x, part, target=1).values / 3
        parts = []
        for row in range(3):
            moved = nets.Call(lambda y, net, b=noise[row]: net(y + b), net)
            parts.append(pellucid.explain(moved, (x - noise)[row : row + 1], "deeplift", target=1).values)
        total += torch.cat(parts) / 3
    torch.testing.assert_close(found.values, total, rtol=1e-3, atol=1e-6)
    assert (found.gap < 1e-5 * (1 + found.output.abs())).all()


def test_noise_named_twice_is_two_references_and_the_first_is_the_one_that_stands_alone(pixels):
    net, x = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), pixels(2, 3, 2, 2)
    once, twice = (
        pellucid.explain(net, x, method("deep_shap", background=b), target=0) for b in ("noise", ("noise", "noise"))
    )
    lift = pellucid.explain(net, x, "deeplift(baseline='noise')", target=0)
    torch.testing.assert_close(once.values, lift.values)
    assert not torch.allclose(once.values, twice.values)


@pytest.mark.parametrize("name", ["expected_gradients", "deep_shap"])
@pytest.mark.parametrize("background", ["noise", ("blur", "noise", "zero"), "images"])
def test_row_i_alone_equals_row_i_in_a_batch(nets, pixels, name, background):
    net, x = curved(nets), pixels(3, 2, 6, 6)
    chosen = method(name, background=pixels(4, 2, 6, 6, seed=3) if background == "images" else background)
    together = pellucid.explain(net, x, chosen, target=[0, 1, 2], ids=IDS, batch_size=5)
    for row in range(3):
        alone = pellucid.explain(net, x[row : row + 1], chosen, target=row, ids=IDS[row : row + 1])
        torch.testing.assert_close(together.values[row], alone.values[0], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(together.reference_output[row], alone.reference_output[0], rtol=1e-5, atol=1e-6)


def test_no_batch_grows_with_samples_or_background(nets, pixels):
    net, x, largest = curved(nets), pixels(2, 2, 6, 6), []
    net.register_forward_hook(lambda module, inputs, output: largest.append(len(output)))
    for name in ("expected_gradients", "deep_shap"):
        pellucid.explain(net, x, method(name, background=pixels(50, 2, 6, 6)), batch_size=7)
    assert max(largest) == 7
    pellucid.explain(net, x, "expected_gradients(samples=200)", batch_size=7)
    assert max(largest[-60:]) == 7


def test_a_net_of_two_inputs_takes_named_backgrounds_and_refuses_images(nets, pixels):
    net = nets.Call(lambda a, b: (a.flatten(1).sum(1) * b.flatten(1).mean(1))[:, None])
    a, b = pixels(2, 1, 3, 3), pixels(2, 2, 4, seed=2)
    found = pellucid.explain(net, (a, b), method("deep_shap", background=("zero", 0.5)))
    assert float(found.gap.max()) < 1e-5
    with pytest.raises(ShapeError, match="net of one input"):
        pellucid.explain(net, (a, b), method("deep_shap", background=pixels(3, 1, 3, 3)))


def test_background_images_are_a_value(pixels):
    one, same = (method("deep_shap", background=pixels(2, 3, 4, 4)) for _ in range(2))
    other = method("deep_shap", background=pixels(2, 3, 4, 4, seed=9))
    assert one == same != other
    assert one.definition == same.definition != other.definition
    assert hash(one) == hash(same)
    assert str(one).startswith('deep_shap(background="images(sha256:')
    with pytest.raises(BadRecipe, match="pass the tensor"):
        METHODS.parse(str(one))
    with pytest.raises(BadRecipe, match="no fill 'dark'"):
        METHODS.parse("expected_gradients(background=('zero', 'dark'))")
    several = METHODS.parse('expected_gradients(background=("zero", "blur"))')
    assert METHODS.parse(str(several)) == several
    image = pixels(2, 3, 4, 4)
    kept = Images(image)
    image.zero_()
    assert float(kept.tensor.abs().max()) > 0


def test_a_background_that_cannot_be_one_is_refused(pixels):
    for wrong in (torch.zeros(0, 3, 2, 2), torch.zeros(3, 2), torch.ones(2, 3, 2, 2).long()):
        with pytest.raises(BadRecipe, match="floating-point"):
            method("deep_shap", background=wrong)
    with pytest.raises(BadRecipe, match="NaN"):
        method("deep_shap", background=torch.full((1, 3, 2, 2), torch.nan))
    with pytest.raises(BadRecipe, match="at least one fill"):
        method("deep_shap", background=())
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    for name in ("deep_shap", "expected_gradients"):
        with pytest.raises(ShapeError, match="do not fit"):
            pellucid.explain(net, pixels(1, 3, 2, 2), method(name, background=pixels(2, 3, 2, 3)))


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_deep_shap_equals_captum_where_no_pool_follows_a_relu(nets, pixels):
    from captum.attr import DeepLiftShap

    net = nets.lived_in(nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(64, 2))).double()  # fmt: skip
    x, backgrounds = pixels(3, 3, 8, 8).double(), pixels(4, 3, 8, 8, seed=6).double()
    wanted = DeepLiftShap(net).attribute(x.clone(), backgrounds, target=1).detach()
    found = pellucid.explain(net, x, method("deep_shap", background=backgrounds), target=1)
    torch.testing.assert_close(found.values, wanted, rtol=1e-5, atol=1e-7)
