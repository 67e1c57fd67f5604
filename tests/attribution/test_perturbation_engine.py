"""The renderer: packing, memory, in-place models, several targets and inputs, and independence of rows."""

import pytest
import torch
from torch import Tensor, nn

from pellucid.attribution import METHODS, Call, explain
from pellucid.attribution.method import row_seeds
from pellucid.attribution.perturbation import Labels, ablation, kernel_shap, segment
from pellucid.attribution.perturbation.render import Coalitions, Windows, respond
from pellucid.attribution.perturbation.samplers import LeaveOneOut
from pellucid.errors import ShapeError
from pellucid.models import Model, Passes, ReadOut

METHODS_UNDER_TEST = [
    "occlusion(window=3, stride=2)",
    'occlusion(fill="noise")',
    'ablation(segments=12, fill="blur")',
    'kernel_shap(segments=12, samples=80, fill="noise")',
    "lime(segments=12, samples=90)",
    "rise(samples=70, grid=3)",
    'shapley_sampling(segments=12, samples=9, fill="noise")',
    "shapley_sampling(segments=12, samples=90, tolerance=0.2)",
    "owen(segments=12, samples=9)",
    'sobol(grid=(3, 2), samples=8, fill="blur")',
    "hsic(grid=3, samples=70)",
]


class Net(nn.Module):
    def __init__(self, channels: int = 2, axes: int = 2) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1](channels, 4, 3)
            self.head = nn.Linear(4, 3)
        self.batches: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.batches.append(len(x))
        return self.head(torch.relu(self.conv(x)).flatten(2).amax(2)) * 5


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(9))


def plain(values: Tensor | tuple[Tensor, ...]) -> Tensor:
    assert isinstance(values, Tensor)
    return values


@pytest.mark.parametrize("method", METHODS_UNDER_TEST)
def test_a_row_alone_equals_the_row_in_a_batch_of_any_size(method: str) -> None:
    x, ids = images(3, 2, 14, 13), ["a", "b", "c"]
    net = Net()
    together = explain(net, x, method, target=1, ids=ids, batch_size=16)
    for row in range(3):
        alone = explain(net, x[row : row + 1], method, target=1, ids=ids[row : row + 1], batch_size=5)
        torch.testing.assert_close(plain(alone.values)[0], plain(together.values)[row], atol=1e-5, rtol=1e-4)
        if together.error is not None:
            assert alone.error is not None
            torch.testing.assert_close(plain(alone.error)[0], plain(together.error)[row], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("method", METHODS_UNDER_TEST)
def test_the_same_call_gives_the_same_bits(method: str) -> None:
    x = images(2, 2, 14, 13)
    first, second = (explain(Net(), x, method, target=1, seed=3) for _ in range(2))
    assert torch.equal(plain(first.values), plain(second.values))


@pytest.mark.parametrize("method", ["kernel_shap(segments=12, samples=80)", "lime(segments=12)", "rise(samples=50)"])
def test_the_seed_matters_where_a_method_samples(method: str) -> None:
    x = images(1, 2, 14, 13)
    first, second = (explain(Net(), x, method, target=1, seed=seed) for seed in (0, 1))
    assert not torch.equal(plain(first.values), plain(second.values))


@pytest.mark.parametrize("method", METHODS_UNDER_TEST)
def test_no_batch_is_larger_than_asked_and_several_rows_share_one(method: str) -> None:
    net = Net()
    e = explain(net, images(4, 2, 14, 13), method, target=1, batch_size=32)
    assert max(net.batches) <= 32
    assert sum(net.batches) == e.forwards
    assert len(net.batches) <= -(-e.forwards // 32) + 2


def test_memory_does_not_grow_with_the_number_of_coalitions(monkeypatch: pytest.MonkeyPatch) -> None:
    from pellucid.attribution.perturbation import render

    made: list[int] = []
    slots = render.Canvas.__init__

    def spy(self: render.Canvas, inputs: tuple[Tensor, ...], fills: tuple[Tensor, ...], size: int) -> None:
        slots(self, inputs, fills, size)
        made.append(sum(tensor.numel() for tensor in self.slots))

    monkeypatch.setattr(render.Canvas, "__init__", spy)
    x = images(1, 2, 14, 13)
    for samples in (40, 2000):
        explain(Net(), x, f"rise(samples={samples})", target=0, batch_size=8)
    assert made == [8 * x[0].numel()] * 2


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(
    "name", ["occlusion", "ablation(segments=8)", "kernel_shap(segments=8)", "lime(segments=8)", "rise(samples=60)"]
)
def test_one_two_and_three_axes_give_maps_of_the_images_shape(name: str, axes: int) -> None:
    x = images(2, 2, *(12, 10, 8)[:axes])
    e = explain(Net(axes=axes), x, name, target=2)
    assert plain(e.values).shape == x.shape
    assert plain(e.values).abs().sum() > 0


@pytest.mark.parametrize("method", METHODS_UNDER_TEST)
def test_one_run_explains_every_class(method: str) -> None:
    x, net = images(2, 2, 14, 13), Net()
    recipe = METHODS.parse(method)
    seeds = row_seeds(0, None, 2)
    with Passes(Model(net)) as passes:
        outputs = passes.outputs((x,))
        every = recipe.attribute(Call(passes, (x,), ReadOut(lambda out, _rows: out), outputs, seeds))
        spent = passes.forwards
    assert every.values[0].shape == (2, 3, *x.shape[1:])
    for target in range(3):
        single = explain(net, x, recipe, target=target)
        assert single.forwards == spent
        torch.testing.assert_close(every.values[0][:, target], plain(single.values), atol=1e-6, rtol=1e-5)


def test_a_model_that_writes_into_its_input_is_explained_like_one_that_does_not() -> None:
    class Clean(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x * 2 + 1)

    class Dirty(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.mul_(2).add_(1))

    x = images(2, 2, 14, 13)
    for method in METHODS_UNDER_TEST:
        recipe, values = METHODS.parse(method), []
        for net in (Clean(), Dirty()):
            with Passes(Model(net), batch_size=8) as passes:
                outputs = passes.outputs((x.clone(),))
                read = ReadOut(lambda out, _rows: out[:, 0])
                given = recipe.replace(fill="zero")
                values.append(given.attribute(Call(passes, (x.clone(),), read, outputs[:, 0], (0, 1))).values[0])
        torch.testing.assert_close(*values)


def test_inputs_with_the_same_axes_are_hidden_together() -> None:
    class Two(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return (a.sum((1, 2, 3)) + 2 * b.sum((1, 2, 3)))[:, None]

    a, b = images(2, 1, 6, 6), images(2, 3, 6, 6)
    pixel = a.sum(1) + 2 * b.sum(1)
    for method in ("occlusion(window=1)", ablation(segments=Labels(torch.arange(36).view(6, 6))), kernel_shap(segments=torch.arange(36).view(6, 6))):  # fmt: skip
        e = explain(Two(), (a, b), method)
        assert [tensor.shape for tensor in e.tensors] == [a.shape, b.shape]
        torch.testing.assert_close(e.tensors[0].sum(1) + e.tensors[1].sum(1), pixel, atol=1e-4, rtol=1e-4)


def test_pixels_and_channels_number_every_input_on_its_own() -> None:
    class Mixed(nn.Module):
        def forward(self, image: Tensor, table: Tensor) -> Tensor:
            return (image.sum((1, 2, 3)) + (table * torch.tensor([1.0, -3.0])).sum(1))[:, None]

    image, table = images(2, 1, 4, 4), images(2, 2)
    e = explain(Mixed(), (image, table), 'kernel_shap(segments="channels")')
    torch.testing.assert_close(e.tensors[1], table * torch.tensor([1.0, -3.0]), atol=1e-4, rtol=1e-4)
    e = explain(Mixed(), (image, table), 'ablation(segments="pixels")')
    torch.testing.assert_close(e.tensors[0], image, atol=1e-4, rtol=1e-4)
    with pytest.raises(ShapeError, match="same spatial axes"):
        explain(Mixed(), (image, table), "lime(segments=4)")


@pytest.mark.parametrize("method", METHODS_UNDER_TEST)
def test_the_model_and_the_images_come_back_as_they_went_in(method: str) -> None:
    net, x = Net().train(), images(2, 2, 14, 13)
    weights, pixels = {name: value.clone() for name, value in net.state_dict().items()}, x.clone()
    explain(net, x, method, target=0)
    assert net.training
    assert torch.equal(x, pixels)
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())


def test_a_segmentation_is_explained_by_its_region() -> None:
    from pellucid.models.targets import Region

    net = nn.Conv2d(1, 2, 3, padding=1)
    mask = torch.zeros(10, 10, dtype=torch.bool)
    mask[:4, :4] = True
    e = explain(net, images(2, 1, 10, 10), "occlusion(window=2, stride=2)", target=Region(1, mask=mask))
    assert plain(e.values)[:, :, 6:, 6:].abs().max() < 1e-6
    assert plain(e.values)[:, :, :4, :4].abs().max() > 0


def test_plans_of_different_kinds_and_rows_share_slots_without_traces() -> None:
    x = images(2, 1, 6, 6)
    labels, _ = segment("grid(2, 2)", (x,))
    corners = [(slice(None), slice(k, k + 2), slice(k, k + 3)) for k in range(4)]
    plans = [
        Windows(0, corners),
        Coalitions(0, labels[0], LeaveOneOut(4)),
        Windows(0, corners[:1]),
        Windows(1, corners),
    ]
    net = nn.Flatten()
    with Passes(Model(net), batch_size=3) as passes:
        call = Call(passes, (x,), ReadOut(lambda out, _rows: out), x.flatten(1), (0, 0))
        seen = [answers.view(-1, 6, 6) for _, answers in respond(call, (torch.zeros_like(x),), plans)]
    for plan, answers in zip(plans, seen, strict=True):
        assert len(answers) == len(plan)
        for k, shown in enumerate(answers):
            expected = x[plan.row, 0].clone()
            if isinstance(plan, Windows):
                expected[plan.windows[k][1:]] = 0
            else:
                expected[plan.segmentation.labels[0][0] == k] = 0
            torch.testing.assert_close(shown, expected)
