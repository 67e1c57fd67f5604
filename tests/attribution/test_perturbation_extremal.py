"""Extremal perturbations: planted patches, areas that are held, rows that do not know each other."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pellucid.attribution import explain
from pellucid.attribution.perturbation import extremal_perturbation
from pellucid.errors import BadRecipe, CannotExplain, ShapeError

POOL = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


class Texture(nn.Module):
    """How much texture the most textured place has, and the opposite."""

    def __init__(self, axes: int) -> None:
        super().__init__()
        self.pool = POOL[axes]

    def forward(self, x: Tensor) -> Tensor:
        energy = self.pool((x - self.pool(x, 3, 1, 1)) ** 2, 7, 1, 0).flatten(1)
        return torch.stack([(8 * energy).logsumexp(1), -energy.mean(1)], 1)


def planted(axes: int, size: int, side: int, rows: int = 3) -> tuple[Tensor, Tensor]:
    stream = torch.Generator().manual_seed(0)
    x = 0.05 * torch.randn(rows, 1, *[size] * axes, generator=stream)
    truth = torch.zeros(rows, *[size] * axes, dtype=torch.bool)
    for row in range(rows):
        starts = torch.randint(2, size - side - 2, (axes,), generator=stream).tolist()
        place = tuple(slice(start, start + side) for start in starts)
        x[(row, 0, *place)] += torch.randn([side] * axes, generator=stream)
        truth[(row, *place)] = True
    return x, truth


def overlap(masks: Tensor, truth: Tensor) -> Tensor:
    shown = masks > 0.5
    return (shown & truth).flatten(1).sum(1) / (shown | truth).flatten(1).sum(1)


@pytest.mark.parametrize(("axes", "size", "side"), [(1, 128, 16), (2, 40, 11), (3, 14, 6)])
def test_the_mask_of_the_right_area_finds_the_planted_patch(axes: int, size: int, side: int) -> None:
    x, truth = planted(axes, size, side, rows=6)
    area = truth.float().mean().item()
    e = explain(Texture(axes), x, extremal_perturbation(areas=(round(area, 4),), steps=100), 0)
    found = overlap(e.details["masks"][:, 0], truth)
    chance = area / (2 - area)
    assert found.median() > 0.4, found
    assert (found > 3 * chance).all(), found
    blurred = explain(Texture(axes), x, 'kernel_shap(segments=1, fill="blur")', 0).reference_output
    assert blurred is not None
    kept = (e.details["scores"][:, 0] - blurred) / (e.output - blurred)
    assert kept.median() > 0.5, kept  # which local optimum it ends in depends on the processor's rounding
    assert isinstance(e.values, Tensor)
    inside = (e.values[:, 0] * truth).flatten(1).sum(1) / e.values.flatten(1).sum(1)
    assert (inside > 3 * area).all()


def test_every_mask_has_just_its_area_and_lies_between_0_and_1() -> None:
    x, _ = planted(2, 30, 9)
    e = explain(Texture(2), x, extremal_perturbation(areas=(0.03, 0.1, 0.4), steps=12), 0)
    torch.testing.assert_close(e.details["areas"], torch.tensor([0.03, 0.1, 0.4]).expand(3, 3), atol=1e-6, rtol=1e-5)
    masks = e.details["masks"]
    assert masks.shape == (3, 3, 30, 30)
    assert masks.min() >= 0
    assert masks.max() <= 1


def test_the_score_of_each_area_is_that_of_the_image_that_its_mask_shows() -> None:
    x, _ = planted(2, 24, 9, rows=2)
    e = explain(Texture(2), x, extremal_perturbation(areas=(0.1, 0.3), steps=8, fill="mean"), 0)
    masks = e.details["masks"][:, :, None]
    mean = x.mean((2, 3), keepdim=True)[:, None]
    shown = mean + masks * (x[:, None] - mean)
    scores = Texture(2)(shown.flatten(0, 1))[:, 0].view(2, 2)
    torch.testing.assert_close(e.details["scores"], scores, atol=1e-4, rtol=1e-4)


def test_the_smallest_sufficient_area_is_that_of_the_evidence() -> None:
    class Corner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(x[:, :, :12, :12].mean((1, 2, 3)))[:, None]

    e = explain(Corner(), torch.ones(1, 1, 24, 24), extremal_perturbation(areas=(0.05, 0.15, 0.4, 0.7), fill="zero"))
    torch.testing.assert_close(e.details["smallest"], torch.tensor([0.4]))
    scores = e.details["scores"][0]
    assert (scores.diff() > 0).all()
    assert scores[2] > 0.95 * e.output[0]
    shown = e.details["masks"][0, 2]
    assert shown[:10, :10].min() > 0.8
    never = explain(Corner(), torch.ones(1, 1, 24, 24), extremal_perturbation(areas=(0.02,), steps=10, fill="zero"))
    assert never.details["smallest"].isnan().all()


def test_rows_do_not_depend_on_each_other_or_on_the_batch() -> None:
    x, _ = planted(2, 24, 9)
    method = extremal_perturbation(areas=(0.1, 0.2), steps=20)
    whole = explain(Texture(2), x, method, 0)
    for size in (1, 4):
        alone = explain(Texture(2), x[1:2], method, 0, batch_size=size)
        torch.testing.assert_close(alone.values[0], whole.values[1], atol=1e-5, rtol=1e-4)
    assert torch.equal(whole.values, explain(Texture(2), x, method, 0).values)
    assert whole.backwards == 3 * 2 * 20


def test_inputs_that_share_their_space_share_the_mask() -> None:
    def net(a: Tensor, b: Tensor) -> Tensor:
        return (a[:, :, :6].mean((1, 2, 3)) + b[:, :, :6].mean((1, 2, 3)))[:, None]

    e = explain(net, (torch.ones(1, 1, 12, 12), torch.ones(1, 2, 12, 12)), "extremal_perturbation(steps=10, fill=0)")
    assert [tuple(part.shape) for part in e.values] == [(1, 1, 12, 12), (1, 2, 12, 12)]
    torch.testing.assert_close(e.values[1][:, :1], e.values[0])
    assert e.values[0][0, 0, :5].mean() > 2 * e.values[0][0, 0, 7:].mean()


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(BadRecipe, match="areas rise"):
        extremal_perturbation(areas=(0.2, 0.1))
    with pytest.raises(BadRecipe, match="fill"):
        extremal_perturbation(fill="blurry")
    with pytest.raises(ShapeError, match="spatial axes"):
        explain(nn.Linear(4, 1), torch.ones(1, 4), "extremal_perturbation")
    with pytest.raises(CannotExplain, match="about 400,004 forwards an image"):
        explain(Texture(2), planted(2, 24, 9)[0], "extremal_perturbation(steps=100000)", 0)
