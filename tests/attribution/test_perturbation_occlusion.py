"""Occlusion and ablation: closed forms, a naive loop, and Captum."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pellucid.attribution import explain
from pellucid.attribution.fills import reference
from pellucid.attribution.perturbation import ablation, occlusion
from pellucid.errors import CannotExplain, ShapeError


class Linear(nn.Module):
    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, *shape, generator=torch.Generator().manual_seed(3)))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.flatten(1).T + 0.5


class Bent(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(super().forward(x)) + super().forward(x * x)


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(4))


def naive(net: nn.Module, x: Tensor, fill: Tensor, window: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """One window at a time, one pixel at a time."""
    space = x.shape[2:]
    total, cover = torch.zeros(x.shape, dtype=torch.float64), torch.zeros(x.shape)
    starts = []
    for size, width, step in zip(space, window, stride, strict=True):
        axis = [0]
        while axis[-1] + width < size:
            axis.append(axis[-1] + step)
        starts.append(axis)
    with torch.no_grad():
        for corner in itertools.product(*starts):
            place = (slice(None), slice(None), *(slice(s, s + w) for s, w in zip(corner, window, strict=True)))
            hidden = x.clone()
            hidden[place] = fill[place]
            drop = (net(x) - net(hidden))[:, 0].double()
            elements = total[place][0].numel()
            total[place] += (drop / elements).view(-1, *[1] * (x.ndim - 1))
            cover[place] += 1
    assert (cover > 0).all()
    return (total / cover).float()


@pytest.mark.parametrize("space", [(9,), (5, 6), (3, 4, 5)])
def test_single_pixels_of_a_linear_model_are_weight_times_pixel(space: tuple[int, ...]) -> None:
    net, x = Linear((1, *space)), images(2, 1, *space)
    e = explain(net, x, occlusion(window=1, fill="zero"), target=0)
    torch.testing.assert_close(e.values, (x * net.weight[0]).detach(), atol=1e-5, rtol=1e-5)


def test_single_pixels_of_a_linear_rgb_model_sum_to_the_channel_sum() -> None:
    net, x = Linear((3, 6, 6)), images(2, 3, 6, 6)
    e = explain(net, x, "occlusion(window=1)", target=1)
    torch.testing.assert_close(e.values.sum(1), (x * net.weight[1]).sum(1).detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(e.values[:, 0], e.values[:, 2])


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_occlusion_equals_a_naive_loop(data: st.DataObject) -> None:
    space = tuple(data.draw(st.lists(st.integers(3, 7), min_size=1, max_size=3)))
    window = tuple(data.draw(st.integers(1, size)) for size in space)
    stride = tuple(data.draw(st.integers(1, size)) for size in window)
    fill = data.draw(st.sampled_from(["zero", "mean", "noise"]))
    net, x = Bent((2, *space)), images(2, 2, *space)
    e = explain(
        net, x, occlusion(window=window, stride=stride, fill=fill), target=0, batch_size=data.draw(st.integers(1, 9))
    )
    hidden = reference(fill, (x,), _seeds(2))[0]
    torch.testing.assert_close(e.values, naive(net, x, hidden, window, stride), atol=1e-4, rtol=1e-4)


def _seeds(rows: int) -> tuple[int, ...]:
    from pellucid.attribution.method import row_seeds

    return row_seeds(0, None, rows)


def test_overlap_does_not_favour_the_centre() -> None:
    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1).sum(1, keepdim=True)

    e = explain(Mean(), torch.ones(1, 1, 12, 12), occlusion(window=5, stride=2))
    torch.testing.assert_close(e.values, torch.ones(1, 1, 12, 12))


def test_windows_that_do_not_overlap_keep_the_sum_of_their_effects() -> None:
    net, x = Linear((3, 8, 8)), images(1, 3, 8, 8)
    e = explain(net, x, occlusion(window=4, stride=4), target=0)
    torch.testing.assert_close(e.values.sum(), (x * net.weight[0]).sum().detach(), atol=1e-4, rtol=1e-4)


def test_default_windows_grow_with_the_image() -> None:
    e = explain(Linear((1, 36, 24)), images(1, 1, 36, 24), "occlusion", target=0)
    assert e.forwards == 1 + 11 * 11


@pytest.mark.peers
@pytest.mark.parametrize(("window", "stride"), [((4, 4), (2, 2)), ((3, 5), (3, 1)), ((1, 1), (1, 1))])
def test_occlusion_equals_captum_where_windows_are_whole(window: tuple[int, int], stride: tuple[int, int]) -> None:
    from captum.attr import Occlusion

    net, x = Bent((2, 12, 13)), images(2, 2, 12, 13)
    e = explain(net, x, occlusion(window=window, stride=stride), target=1)
    whole = (2, *window)
    theirs = Occlusion(net).attribute(x, target=1, sliding_window_shapes=whole, strides=(2, *stride))
    ours = e.values * (2 * window[0] * window[1])
    rest = [
        slice(0, size - (size - w) % s if (size - w) % s else size)
        for size, w, s in zip((12, 13), window, stride, strict=True)
    ]
    clean = [
        slice(0, place.stop - w) if place.stop < size else place
        for place, w, size in zip(rest, window, (12, 13), strict=True)
    ]
    torch.testing.assert_close(ours[:, :, *clean], theirs[:, :, *clean].float().detach(), atol=1e-4, rtol=1e-4)


def test_ablation_gives_the_exact_weights_of_an_additive_model() -> None:
    labels = torch.arange(64).view(8, 8) // 20

    class Regions(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen = torch.stack([x[:, 0, labels == k].mean(1) for k in range(4)], 1)
            return (torch.tanh(seen) * torch.tensor([1.0, -2.0, 3.0, 0.5])).sum(1, keepdim=True)

    e = explain(Regions(), torch.full((1, 1, 8, 8), 2.0), ablation(segments=labels))
    expected = torch.tanh(torch.tensor(2.0)) * torch.tensor([[1.0, -2.0, 3.0, 0.5]])
    torch.testing.assert_close(e.details["effects"], expected)
    for k in range(4):
        torch.testing.assert_close(e.values[0, 0, labels == k].sum(), expected[0, k])


def test_ablation_of_channels_gives_each_channel_its_drop() -> None:
    net, x = Bent((3, 5, 4)), images(2, 3, 5, 4)
    e = explain(net, x, 'ablation(segments="channels")', target=0)
    for channel in range(3):
        hidden = x.clone()
        hidden[:, channel] = 0
        drop = (net(x) - net(hidden))[:, 0].detach()
        torch.testing.assert_close(e.values[:, channel].flatten(1).sum(1), drop, atol=1e-5, rtol=1e-4)


@pytest.mark.peers
def test_ablation_equals_captum() -> None:
    from captum.attr import FeatureAblation

    labels = torch.arange(48).view(6, 8) // 7
    net, x = Bent((3, 6, 8)), images(2, 3, 6, 8)
    e = explain(net, x, ablation(segments=labels), target=0)
    theirs = FeatureAblation(net).attribute(x, target=0, feature_mask=labels[None, None]).detach()
    sizes = torch.bincount(labels.flatten())[labels] * 3
    torch.testing.assert_close(e.values * sizes, theirs, atol=1e-4, rtol=1e-4)


def test_ablation_of_labels_that_differ_by_row() -> None:
    labels = torch.stack([torch.arange(16).view(4, 4) // 8, torch.arange(16).view(4, 4) // 4])
    net, x = Linear((1, 4, 4)), images(2, 1, 4, 4)
    e = explain(net, x, ablation(segments=labels), target=0)
    assert e.details["effects"].isnan().sum(1).tolist() == [2, 0]
    torch.testing.assert_close(
        e.values.flatten(1).sum(1), (x * net.weight[0]).flatten(1).sum(1).detach(), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (occlusion(window=9), "larger than the image"),
        (occlusion(window=2, stride=3), "uncovered"),
        (occlusion(window=(2, 2, 2)), "3 numbers"),
    ],
)
def test_windows_that_do_not_fit_are_refused(method: occlusion, said: str) -> None:
    with pytest.raises(ShapeError, match=said):
        explain(Linear((1, 8, 8)), images(1, 1, 8, 8), method, target=0)


def test_occlusion_of_a_table_is_refused() -> None:
    with pytest.raises(ShapeError, match="spatial axes"):
        explain(Linear((5,)), images(2, 5), "occlusion", target=0)


def test_a_request_without_end_is_refused_with_its_cost() -> None:
    net = Linear((1, 400, 400))
    with pytest.raises(CannotExplain, match="160,000 forwards"):
        explain(net, images(1, 1, 400, 400), occlusion(window=1), target=0)
    with pytest.raises(CannotExplain, match="160,000 forwards"):
        explain(net, images(1, 1, 400, 400), ablation(segments="pixels"), target=0)
