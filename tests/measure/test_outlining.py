"""Outlines as values: of a crop the cell at its middle, whatever reaches in from its neighbours."""

import pytest
import torch

from pellucid.errors import BadRecipe
from pellucid.measure import SEGMENTATIONS, central, otsu


def discs(*places, side=40, radius=6):
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.stack([(y - a) ** 2 + (x - b) ** 2 <= radius**2 for a, b in places]).any(0)


@pytest.mark.parametrize("dark", [False, True])
def test_the_object_at_the_middle_is_kept_alone(dark):
    own, neighbours = discs((18, 21)), discs((5, 5), (35, 30))
    image = 0.1 + 0.6 * (own | neighbours).float()[None]
    image = 0.8 - image if dark else image
    found = central()(image)
    assert found.unique().tolist() == [0, 1]
    assert int(otsu()(image).max()) == 3
    inside = found > 0
    assert float((inside & own).sum() / (inside | own).sum()) > 0.85
    assert not (inside & neighbours).any()


def test_touching_neighbours_are_parted_first():
    own, touching = discs((20, 20)), discs((20, 31))
    image = 0.1 + 0.6 * (own | touching).float()[None]
    joined, parted = (central(among=among)(image) > 0 for among in ("otsu", "otsu(split_distance=6)"))
    assert (joined & touching).sum() > 0.9 * touching.sum()
    assert (parted & touching).sum() < 0.1 * touching.sum()


def test_a_volume_and_an_image_without_objects():
    ball = torch.zeros(1, 9, 24, 24)
    ball[0, 2:7, 8:16, 8:16] = 1
    assert int(central()(ball).sum()) == int((otsu()(ball) > 0).sum())
    speck = torch.zeros(1, 24, 24)
    speck[0, 3, 3] = 1
    assert not central()(speck).any()


def test_it_is_a_value_that_parses():
    written = 'central(among="otsu(split_distance=8, dark_objects=True)")'
    assert SEGMENTATIONS.parse(written) == central(among="otsu(dark_objects=True, split_distance=8)")
    assert str(SEGMENTATIONS.parse(str(SEGMENTATIONS.parse(written)))) == str(SEGMENTATIONS.parse(written))
    with pytest.raises(BadRecipe, match="no segmentation 'otso'"):
        central(among="otso")
