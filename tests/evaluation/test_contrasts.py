"""Pairs with a known difference: models that are given by their weights, so that what each uses is certain."""

import pytest
import torch
from torch import nn

from pellucid import explain
from pellucid.errors import ShapeError
from pellucid.evaluation import input_dependence, input_independence, model_contrast

METHODS = ["input_x_gradient", "integrated_gradients(steps=8)", "deeplift", "occlusion(window=2, stride=2)"]


class Reader(nn.Module):
    """Adds up what lies under a mask, squared so that its gradient depends on the image; the second class is its negative."""

    def __init__(self, mask):
        super().__init__()
        self.register_buffer("mask", mask.float())

    def forward(self, x):
        seen = (x * self.mask).flatten(1).square().sum(1, keepdim=True)
        return torch.cat([seen, -seen], 1)


def scene(rows=12):
    """Objects on backgrounds: the object's pixels, the images with it, and the images without."""
    random = torch.Generator().manual_seed(0)
    background = 0.5 + torch.rand(rows, 1, 8, 8, generator=random)
    region = torch.zeros(8, 8, dtype=torch.bool)
    region[2:5, 2:5] = True
    return region, torch.where(region, 3.0, background), background


@pytest.mark.parametrize("method", METHODS)
def test_a_model_that_uses_the_object_is_told_from_one_that_uses_the_scene(method):
    region, x, _ = scene()
    where = region.expand(len(x), 8, 8)
    own, other = (explain(Reader(mask), x, method, target=0).values for mask in (region, ~region))
    found = model_contrast(own, other, where)
    assert found.low > 1
    assert model_contrast(other, own, where).high < -1


@pytest.mark.parametrize("method", ["input_x_gradient", "occlusion(window=2, stride=2)"])
def test_an_object_that_the_model_ignores_gets_less_than_the_scene_it_hides(method):
    class Dim(Reader):
        """Sees only what is darker than the object."""

        def forward(self, x):
            return super().forward(x * (x.detach() < 2))

    region, x, without = scene()
    net, where = Dim(torch.ones(8, 8)), region.expand(len(x), 8, 8)
    present, absent = (explain(net, images, method, target=0).values for images in (x, without))
    assert input_dependence(present, absent, where).value == 1.0
    assert input_dependence(absent, present, where).value == 0.0


@pytest.mark.parametrize("name", ["random_map", "edge_map"])
def test_controls_that_know_no_model_show_no_contrast(name):
    region, x, _ = scene()
    where = region.expand(len(x), 8, 8)
    own, other = (explain(Reader(mask), x, name, target=0).values for mask in (region, ~region))
    assert model_contrast(own, other, where).value == 0.0


def test_an_inert_patch_leaves_the_rest_of_a_right_map_alone_and_moves_a_map_of_edges():
    region, x, _ = scene()
    patch = torch.zeros(8, 8, dtype=torch.bool)
    patch[6:, 6:] = True
    where = patch.expand(len(x), 8, 8)
    patched, net = torch.where(patch, 9.0, x), Reader(region)
    assert torch.equal(net(x), net(patched))
    right = [explain(net, images, "input_x_gradient", target=0).values for images in (x, patched)]
    assert input_independence(*right, where).value == 1.0
    edges = [explain(net, images, "edge_map", target=0).values for images in (x, patched)]
    assert input_independence(*edges, where, within=0.01).value == 0.0


def test_a_region_that_does_not_fit_is_refused():
    maps = torch.ones(2, 1, 4, 4)
    with pytest.raises(ShapeError, match="boolean region"):
        model_contrast(maps, maps, torch.ones(2, 4, 4))
    with pytest.raises(ShapeError, match="a pixel in every row"):
        input_dependence(maps, maps, torch.zeros(2, 4, 4, dtype=torch.bool))
