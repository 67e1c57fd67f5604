"""The minimal mask: closed forms on a linear model, a planted difference found again, and rows that do not know each other."""

import numpy as np
import pytest
import torch
from torch import nn

from pellucid import explain
from pellucid.counterfactual import CANDIDATES, Pairs, mask_sweep, minimal_mask
from pellucid.errors import BadRecipe, CannotExplain, ShapeError
from pellucid.models import Model

SHARP = mask_sweep(levels=30, closing=0, smallest=1, dilation=0, blur=0.0)


class Linear(nn.Module):
    """Two logits that are linear in the pixels, with known weights and a threshold."""

    def __init__(self, weights, threshold):
        super().__init__()
        self.register_buffer("weights", weights)
        self.threshold = threshold

    def forward(self, x):
        score = (x * self.weights).flatten(1).sum(1) - self.threshold
        return torch.stack([-score, score], 1) / 2


class Bright(nn.Module):
    """Calls an image treated when much of its first channel is bright; the second channel it does not see."""

    def forward(self, x):
        bright = torch.sigmoid(24 * (x[:, 0] - 0.5)).sum((1, 2)) - 25
        return torch.stack([torch.zeros_like(bright), 0.5 * bright], 1)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_on_a_linear_model_curve_area_and_smallest_mask_are_those_of_the_sorted_products():
    weights, real, other = noise(1, 6, 6), noise(1, 1, 6, 6, seed=1), noise(1, 1, 6, 6, seed=2)
    products = (weights * (other - real)).flatten()
    other = torch.where(products.view_as(other) > 0, other, real)  # every change speaks for the counterfactual
    products = (weights * (other - real)).flatten().double()
    threshold = float((weights * real).sum() + 0.4 * products.sum())
    found = minimal_mask(Linear(weights, threshold), real, other, sweep=SHARP)
    ordered = products.sort(descending=True).values
    places = int((products > 0).sum())
    counts = [int(np.ceil(places * (level / 30) ** 2)) for level in range(1, 30)] + [36]
    changes = [float(ordered[:count].sum() / ordered.sum()) for count in counts]
    for name in ("discriminative", "gradient_x_difference"):
        rows = [row for row in found.curves.to_pylist() if row["map"] == name]
        assert [row["size"] for row in rows] == pytest.approx([count / 36 for count in counts])
        assert [row["change"] for row in rows] == pytest.approx(changes, abs=1e-5)
        summary = next(row for row in found.table.to_pylist() if row["map"] == name)
        area = np.trapezoid([0, *changes], [0, *(count / 36 for count in counts)])
        assert summary["area"] == pytest.approx(area, abs=1e-5)
        first = next(place for place, change in enumerate(changes) if change > 0.4)
        assert summary["size"] == pytest.approx(counts[first] / 36)
    chosen = next(row["size"] for row in found.table.to_pylist() if row["chosen"])
    assert chosen == min(row["size"] for row in found.table.to_pylist())
    assert found.masks.mean() == pytest.approx(chosen)
    torch.testing.assert_close(found.hybrids, torch.where(found.masks[:, None] == 1, other, real))


@pytest.fixture(scope="module")
def planted():
    """Images to which a bright disc was added, which the model sees, and a brighter change elsewhere, which it does not."""
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    real = 0.2 + 0.05 * noise(6, 2, 32, 32)
    other, truth = real.clone(), torch.zeros(6, 32, 32, dtype=torch.bool)
    for row in range(6):
        truth[row] = (y - 9 - row) ** 2 + (x - 9) ** 2 <= 36
        other[row, 0] += 0.6 * truth[row]
        other[row, 1] += 0.9 * ((y - 22) ** 2 + (x - 24) ** 2 <= 49)
    return [f"image {row}" for row in range(6)], real, other, truth


def test_a_planted_local_difference_is_found_and_what_the_model_ignores_is_left_out(planted):
    names, real, other, truth = planted
    found = minimal_mask(Bright(), real, other, ids=names, enough=0.95)
    inside = found.masks > 0.5
    shares = (inside & truth).flatten(1).sum(1) / (inside | truth).flatten(1).sum(1)
    assert shares.min() >= 0.6, shares
    areas = found.areas(groups=names)
    assert areas["discriminative"].low > areas["difference"].high
    assert found.flips().value == 1
    assert found.plot(most=2).axes


def test_discriminative_maps_order_pixels_better_than_saliency(planted):
    names, real, other, _ = planted
    pairs = Pairs.of(Bright(), real, other)
    maps = {
        "discriminative": CANDIDATES.parse("discriminative").values(pairs, seed=0, batch_size=None),
        "saliency": explain(Bright(), real, "saliency", target=1).values,
        "random": torch.rand(real.shape, generator=torch.Generator().manual_seed(0)),
    }
    areas = minimal_mask(Bright(), real, other, maps=maps, ids=names).areas()
    assert areas["discriminative"].low > max(areas["saliency"].high, areas["random"].high)


def test_a_row_alone_equals_the_row_in_a_batch(planted):
    names, real, other, _ = planted
    both = minimal_mask(Bright(), real, other, ids=names)
    alone = minimal_mask(Bright(), real[2:3], other[2:3], ids=names[2:3], batch_size=1)
    torch.testing.assert_close(both.masks[2:3], alone.masks)
    rows = [row for row in both.curves.to_pylist() if row["image"] == names[2]]
    for one, two in zip(rows, alone.curves.to_pylist(), strict=True):
        assert one["change"] == pytest.approx(two["change"], abs=1e-5)


@pytest.mark.parametrize("space", [(20,), (8, 8), (5, 6, 7)])
def test_any_number_of_axes_and_nested_masks(space):
    weights, real = noise(2, *space), noise(2, 2, *space, seed=1)
    other = real + weights.sign()
    found = minimal_mask(Linear(weights, float((weights * real[0]).sum() + 1)), real[:1], other[:1])
    masks = mask_sweep(levels=12).masks(found.values["difference"][0] * weights.abs())
    assert masks.shape == (12, *space)
    assert bool((masks.diff(dim=0) >= 0).all())
    assert bool((masks[-1] == 1).all())
    assert found.plot().axes


def test_crumbs_are_dropped_gaps_closed_edges_faded():
    values = torch.zeros(1, 15, 15)
    values[0, 4:9, 4:9] = 2.0
    values[0, 6, 6] = 1.0
    values[0, 12, 12] = 3.0
    cut = mask_sweep(levels=2, closing=1, smallest=4, dilation=0, blur=0.0)
    level = cut.replace(levels=20).masks(values)[17]
    assert level[6, 6] == 1
    assert level[12, 12] == 0
    faded = cut.replace(levels=20, blur=1.0).masks(values)[17]
    assert 0 < faded[6, 9] < 1
    assert faded[6, 12] == 0


def test_a_regression_and_a_net_of_one_logit_are_traced():
    weights, real = noise(1, 5, 5), noise(2, 1, 5, 5, seed=4)
    net = nn.Sequential(nn.Flatten(), nn.Linear(25, 1, bias=False))
    net[1].weight.data = weights.flatten()[None]
    other = real - weights * torch.tensor([3.0, -3.0]).view(2, 1, 1, 1)
    falling = minimal_mask(Model(net, task="regression"), real, other, sweep=SHARP, enough=0.5)
    areas = falling.areas()
    assert areas["discriminative"].value > 0.8
    with pytest.raises(ShapeError, match="enough="):
        minimal_mask(Model(net, task="regression"), real, other)
    calls = minimal_mask(net, torch.stack([weights, -weights]), torch.stack([-weights, weights]), sweep=SHARP)
    assert calls.flips().value == 1


def test_what_cannot_be_traced_is_refused():
    weights, real = noise(1, 4, 4), noise(2, 1, 4, 4, seed=1)
    model = Linear(weights, 0.0)
    with pytest.raises(ShapeError, match="not pairs"):
        minimal_mask(model, real, real[:1])
    with pytest.raises(CannotExplain, match="answers the same to both"):
        minimal_mask(model, real, real)
    with pytest.raises(BadRecipe, match="no baseline"):
        CANDIDATES.parse('discriminative(method="saliency")')
    with pytest.raises(ShapeError, match="does not fit pairs"):
        minimal_mask(model, torch.stack([weights] * 2), torch.stack([-weights] * 2), maps={"mine": real[:1]})
    assert str(CANDIDATES.parse('discriminative(method="deeplift")')) == 'discriminative(method="deeplift")'
