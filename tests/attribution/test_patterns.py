"""Patterns: the estimator against sums by hand, the backward pass against one by hand, and the signal that is planted."""

import pytest
import torch
from torch import nn

import pellucid
from pellucid.attribution import METHODS, Patterns
from pellucid.errors import BadRecipe, CannotExplain, GuardError, ShapeError
from pellucid.models import Model, Normalise
from pellucid.models.targets import Class, Contrast
from pellucid.testing import check_method, small_images, small_net

BOTH = ("pattern_net", "pattern_attribution")


def method(name, patterns, **settings):
    return METHODS[name](patterns=patterns, **settings)


def alike(one, two):
    """Return the mean over rows of the correlation of two stacks of maps."""
    one, two = ((part.flatten(1) - part.flatten(1).mean(1, keepdim=True)) for part in (one, two))
    return float(torch.nn.functional.cosine_similarity(one, two).mean())


def by_hand(x, y, weight, *, rectified):
    """The estimator of one unit from all its inputs ``(M, D)`` and responses ``(M,)``, in float64."""
    x, y, weight = x.double(), y.double(), weight.double()
    on = y > 0 if rectified else torch.ones_like(y, dtype=torch.bool)
    covariance = (x[on] * y[on, None]).mean(0) - x[on].mean(0) * y.mean()
    return covariance / (covariance @ weight)


def distracted(rows=2000, seed=0):
    """Images of a signal whose size is the label and a distractor, three times as strong, that overlaps with it."""
    random = torch.Generator().manual_seed(seed)
    signal, other = torch.randn(2, 36, generator=random)
    distractor = other + 1.5 * signal
    label, strength = torch.randn(2, rows, generator=random)
    noise = 0.1 * torch.randn(rows, 36, generator=random)
    return label[:, None] * signal + 3 * strength[:, None] * distractor + noise, label, signal


@pytest.fixture(scope="module")
def filtered():
    """A linear model that has learnt to filter the distractor out, its images and their true signal."""
    x, label, signal = distracted()
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 1))
    net[1].weight.data = torch.linalg.lstsq(x, label[:, None]).solution.T.contiguous()
    net[1].bias.data.zero_()
    return net, x.view(-1, 1, 6, 6), signal


def test_patterns_recover_the_signal_where_the_gradient_shows_the_distractor(filtered):
    net, x, signal = filtered
    patterns = pellucid.fit_patterns(net, x)
    weight = net[1].weight[0].detach()
    seen = {name: pellucid.explain(net, x[:1], method(name, patterns)).values.view(1, -1) for name in BOTH}
    slope = pellucid.explain(net, x[:1], "gradient").values.view(1, -1)
    assert alike(seen["pattern_net"], signal[None]) > 0.99
    assert alike(slope, signal[None]) < 0.7
    output = net(x[:1])
    assert alike(seen["pattern_attribution"] * output.detach(), (signal * weight)[None]) > 0.95
    torch.testing.assert_close(seen["pattern_attribution"].sum(), output[0, 0].detach(), rtol=1e-4, atol=1e-5)


def test_the_estimator_equals_sums_by_hand_for_every_kind_of_call():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, groups=2), nn.ReLU(inplace=True), nn.ConvTranspose2d(4, 3, 2), nn.MaxPool2d(2),
        nn.ReLU(), nn.Flatten(), nn.Linear(12, 2),
    ).eval()  # fmt: skip
    x = 1 + torch.randn(40, 2, 7, 7)
    patterns = pellucid.fit_patterns(net, x, batch_size=7)
    names = list(patterns.tensors)
    assert [name.split(", ")[1] for name in names] == ["before a ReLU", "before a ReLU", "linear"]
    with torch.no_grad():
        first = net[0](x)
        hidden = net[2](first.relu())
        last = net[:6](x)
    patches = nn.functional.unfold(x, 3, stride=2).movedim(1, -1).reshape(-1, 2, 9)
    for unit in range(4):
        expected = by_hand(
            patches[:, unit // 2], first[:, unit].flatten(), net[0].weight[unit].flatten(), rectified=True
        )
        torch.testing.assert_close(patterns.tensors[names[0]][unit].flatten().double(), expected, rtol=1e-3, atol=1e-4)
    padded = nn.functional.pad(first.relu(), (1, 1, 1, 1))
    around = nn.functional.unfold(padded, 2).movedim(1, -1).reshape(-1, 4, 2, 2).flip(2, 3).reshape(-1, 16)
    for unit in range(3):
        weight = net[2].weight[:, unit].flatten()
        expected = by_hand(around, hidden[:, unit].flatten(), weight, rectified=True)
        torch.testing.assert_close(
            patterns.tensors[names[1]][:, unit].flatten().double(), expected, rtol=1e-3, atol=1e-4
        )
    for unit in range(2):
        expected = by_hand(last, net[6](last)[:, unit], net[6].weight[unit], rectified=False)
        torch.testing.assert_close(patterns.tensors[names[2]][unit].double(), expected, rtol=1e-3, atol=1e-4)


def test_batches_one_by_one_give_the_same_patterns(nets, pixels):
    net, x = nets.lived_in(nets.ResNet(2)), pixels(24, 3, 8, 8)
    whole = pellucid.fit_patterns(net, x)
    for other in (pellucid.fit_patterns(net, x, batch_size=5), pellucid.fit_patterns(net, iter(x.split(7)))):
        assert list(other.tensors) == list(whole.tensors)
        for name, pattern in whole.tensors.items():
            torch.testing.assert_close(other.tensors[name], pattern, rtol=5e-3, atol=5e-3 * float(pattern.abs().max()))


def test_batch_norm_is_folded_and_a_shared_in_place_relu_is_seen_by_every_call(nets, pixels):
    net, x = nets.lived_in(nets.ResNet(1)), pixels(16, 3, 8, 8)
    names = list(pellucid.fit_patterns(net, x).tensors)
    told = [name[5:] for name in names]
    folded = "conv2d + batch_norm"
    assert told == [f"{folded}, before a ReLU", f"{folded}, before a ReLU", f"{folded}, linear", "linear, linear"]


def backward_by_hand(net, patterns, x, index, kind):
    """Conv + BN + ReLU + max-pool + linear, pulled back with patterns through masks taken from the plain forward."""
    convolution, norm, _, pool, _, linear = net
    first, last = (patterns.tensors[name] for name in patterns.tensors)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    weight = convolution.weight * scale.view(-1, 1, 1, 1)
    entering = x.clone().requires_grad_()
    through = nn.functional.conv2d(entering, first * (weight if kind == "pattern_attribution" else 1), padding=1)
    with torch.no_grad():
        plain = norm(convolution(x))
    values = plain.clone().requires_grad_()
    top = pool(values.relu()).flatten(1) @ (last * (linear.weight if kind == "pattern_attribution" else 1)).T[:, index]
    start = net(x)[:, index] if kind == "pattern_attribution" else torch.ones(len(x))
    (arrived,) = torch.autograd.grad((top * start.detach()).sum(), values)
    return torch.autograd.grad(through, entering, arrived)[0]


@pytest.mark.parametrize("kind", BOTH)
def test_the_backward_pass_equals_one_by_hand(nets, pixels, kind):
    net = nets.lived_in(
        nn.Sequential(
            nn.Conv2d(3, 5, 3, padding=1),
            nn.BatchNorm2d(5),
            nn.ReLU(True),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(45, 3),
        )
    )
    x = pixels(20, 3, 6, 6)
    patterns = pellucid.fit_patterns(net, x)
    found = pellucid.explain(net, x[:4], method(kind, patterns), target=2)
    expected = backward_by_hand(net, patterns, x[:4], 2, kind)
    torch.testing.assert_close(found.values, expected.detach(), rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_pattern_methods_hold_every_promise_of_a_method(kind, dims, tmp_path):
    net, size = small_net(dims), {1: 32, 2: 16, 3: 8}[dims]
    pellucid.fit_patterns(net, small_images(dims, rows=8, size=size)).save(tmp_path / "patterns.safetensors")
    check_method(
        f"{kind}(patterns={str(tmp_path / 'patterns.safetensors')!r})", net=net, x=small_images(dims, rows=3, size=size)
    )


def test_attribution_hands_on_in_full_what_no_relu_stops(pixels):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Linear(8, 3)).eval()
    x = pixels(60, 1, 4, 4)
    found = pellucid.explain(net, x[:5], method("pattern_attribution", pellucid.fit_patterns(net, x)))
    torch.testing.assert_close(found.values.flatten(1).sum(1), found.output, rtol=1e-3, atol=1e-4)


def test_a_constant_scale_inside_the_network_is_undone_by_its_pattern(nets, pixels):
    """The images of the scaled network are those of the plain one in other units: so must its signal be."""
    factor = torch.tensor([1.0, 10.0, 0.1]).view(1, 3, 1, 1)
    inner = nets.lived_in(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)))
    net = nets.Call(lambda x, part: part(x * factor), inner).eval()
    x = pixels(30, 3, 6, 6)
    plain, scaled = pellucid.fit_patterns(inner, x), pellucid.fit_patterns(net, x / factor)
    signal = pellucid.explain(inner, x[:2], method("pattern_net", plain), target=0).values
    found = pellucid.explain(net, (x / factor)[:2], method("pattern_net", scaled), target=0).values
    torch.testing.assert_close(found, signal / factor, rtol=1e-3, atol=1e-4 * float(signal.abs().max()))
    shares = [
        pellucid.explain(one, images[:2], method("pattern_attribution", known), target=0).values
        for one, images, known in ((inner, x, plain), (net, x / factor, scaled))
    ]
    torch.testing.assert_close(shares[0], shares[1], rtol=1e-3, atol=1e-5)


def lit(count, seed, size=16):
    """Images under uneven light, every other one with a blob: images, labels, the blobs."""
    random = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(*[torch.arange(float(size))] * 2, indexing="ij")
    place = torch.randint(4, size - 4, (count, 2, 1, 1), generator=random)
    label = torch.arange(count) % 2
    blob = torch.exp(-((y - place[:, 0]) ** 2 + (x - place[:, 1]) ** 2) / 8) * label.view(-1, 1, 1)
    level, down, across = torch.randn(3, count, 1, 1, generator=random) * 0.5
    light = level + (down * (y - 7.5) + across * (x - 7.5)) / 7.5
    return (blob + light + 0.05 * torch.randn(count, size, size, generator=random))[:, None], label, blob[:, None]


def trained(x, label, seed, epochs=20):
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 5, padding=2), nn.BatchNorm2d(6),
        nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(6, 2),
    )  # fmt: skip
    optimiser = torch.optim.AdamW(net.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * len(x) // 64)
    for _ in range(epochs):
        for images, labels in zip(x.split(64), label.split(64), strict=True):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(images), labels).backward()
            optimiser.step()
            schedule.step()
    return net.eval()


def test_in_a_trained_net_that_suppresses_uneven_light_patterns_show_the_blob_better_than_gradients():
    x, label, _ = lit(1024, 0)
    test, told, blobs = lit(64, 1)
    names = ("gradient", "integrated_gradients(steps=16)", "guided_backprop", *BOTH)
    scores = dict.fromkeys(names, 0.0)
    for seed in (0, 1):
        net = trained(x, label, seed)
        assert (net(test).argmax(1) == told).float().mean() > 0.95
        patterns = pellucid.fit_patterns(net, x)
        for name in names:
            recipe = method(name, patterns) if name in BOTH else name
            found = pellucid.explain(net, test[told == 1], recipe, target=Contrast(1, 0))
            scores[name] += alike(found.values, blobs[told == 1]) / 2
    for name in BOTH:
        assert scores[name] > max(scores["gradient"], scores["integrated_gradients(steps=16)"]) + 0.1, scores


def test_patterns_are_a_value_that_saves_loads_and_prints(filtered, tmp_path):
    net, x, _ = filtered
    patterns, path = pellucid.fit_patterns(net, x), tmp_path / "patterns.safetensors"
    patterns.save(path)
    loaded = Patterns.load(path)
    assert loaded == patterns
    assert hash(loaded) == hash(patterns)
    assert str(method("pattern_net", patterns)) == f'pattern_net(patterns="patterns(sha256:{patterns.digest[:16]})")'
    text = f'pattern_net(patterns="{path}")'
    read = METHODS.parse(text)
    assert str(read) == text
    assert read.patterns == patterns
    before = read.definition
    pellucid.fit_patterns(net, x[:50]).save(path)
    assert METHODS.parse(text).definition != before, "other patterns under the same name are another definition"
    with pytest.raises(BadRecipe, match="cannot be read back from their digest"):
        METHODS.parse(str(method("pattern_net", patterns)))
    with pytest.raises(BadRecipe, match="no patterns that can be read"):
        METHODS.parse("pattern_net(patterns='nowhere.safetensors')")


def test_the_models_own_patterns_are_used_and_without_any_it_is_said_what_to_do(filtered):
    net, x, _ = filtered
    with pytest.raises(CannotExplain, match=r"pellucid\.fit_patterns\(model, images\)"):
        pellucid.explain(net, x[:1], "pattern_net")
    patterns = pellucid.fit_patterns(net, x)
    own = pellucid.explain(Model(net, fitted={"patterns": patterns}), x[:2], "pattern_attribution")
    given = pellucid.explain(net, x[:2], method("pattern_attribution", patterns))
    assert torch.equal(own.values, given.values)
    assert own.details["patterns"] == f"sha256:{patterns.digest[:16]}"


def test_patterns_of_other_weights_or_another_network_are_refused(nets, pixels):
    x = pixels(30, 3, 8, 8)
    net, other = nets.lived_in(nets.ResNet(1)), nets.lived_in(nets.ResNet(1), seed=3)
    patterns = pellucid.fit_patterns(net, x)
    with pytest.raises(CannotExplain, match="do not belong to the weights"):
        pellucid.explain(other, x[:1], method("pattern_net", patterns))
    with pytest.raises(CannotExplain, match="fitted on another network"):
        pellucid.explain(nets.lived_in(nets.ResNet(2)), x[:1], method("pattern_net", patterns))


def test_a_unit_that_no_image_switches_on_has_no_pattern(pixels):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(9, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    net[1].bias.data[2] = -100.0
    patterns = pellucid.fit_patterns(net, pixels(50, 1, 3, 3))
    first = next(iter(patterns.tensors.values()))
    assert torch.equal(first[2], torch.zeros(9))
    assert (first[[0, 1, 3]].abs().sum(1) > 0).all()
    found = pellucid.explain(net, pixels(1, 1, 3, 3), method("pattern_net", patterns))
    assert found.details["silent_units"] == 1
    assert "1 unit(s) have no pattern" in found.warnings[0]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (lambda x: x.sigmoid().mean((2, 3)), "Sigmoid"),
        (lambda x: (x * x.mean((2, 3), keepdim=True)).mean((2, 3)), "Mul"),
        (lambda x: torch.nn.functional.gelu(x).mean((2, 3)), "Gelu"),
        (lambda x: x.flatten(2).transpose(1, 2).softmax(-1).mean(1), "Softmax"),
    ],
)
def test_what_has_no_pattern_is_refused_by_name(nets, pixels, body, said):
    net = nets.Call(lambda x, conv: body(conv(x)), nn.Conv2d(3, 2, 3)).eval()
    with pytest.raises(GuardError, match=said):
        pellucid.fit_patterns(net, pixels(4, 3, 6, 6))


def test_two_inputs_a_reused_layer_and_a_preprocessing_step_have_patterns_too(pixels):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.head = nn.Conv2d(1, 3, 3), nn.Linear(3, 2)

        def forward(self, a, b):
            return self.head((self.one(a).relu() + self.one(b).relu()).mean((2, 3)))

    torch.manual_seed(0)
    x = (pixels(30, 1, 6, 6), pixels(30, 1, 6, 6, seed=2) + 2)
    scales = [Normalise((0.5,), (2.0,)), Normalise((2.0,), (0.5,))]
    model = Model(Two().eval(), preprocess=scales)
    patterns = pellucid.fit_patterns(model, x)
    assert len(patterns) == 3, "one module that is called on two inputs has two patterns"
    found = pellucid.explain(model, tuple(part[:2] for part in x), method("pattern_net", patterns), target=Class(1))
    assert [values.shape for values in found.tensors] == [(2, 1, 6, 6)] * 2


@pytest.mark.parametrize("kind", BOTH)
def test_at_a_layer_and_of_a_unit(nets, pixels, kind):
    net, x = nets.lived_in(nets.ResNet(2)), pixels(16, 3, 8, 8)
    patterns = pellucid.fit_patterns(net, x)
    at = pellucid.explain(net, x[:2], method(kind, patterns, at="blocks.0"), target=0)
    assert at.values.shape == (2, 6, 4, 4)
    assert float(at.values.abs().max()) > 0
    unit = pellucid.explain(net, x[:2], method(kind, patterns, of="blocks.1[2]"))
    with torch.no_grad():
        seen = net.blocks(net.pool(net.relu(net.norm(net.stem(x[:2])))))
    torch.testing.assert_close(unit.output, seen[:, 2].mean((1, 2)))
    with pytest.raises(CannotExplain, match="name the BatchNorm"):
        pellucid.explain(net, x[:1], method(kind, patterns, at="stem"))


def test_what_is_no_image_is_refused():
    with pytest.raises(ShapeError, match="fit_patterns takes images"):
        pellucid.fit_patterns(small_net(), 3)
