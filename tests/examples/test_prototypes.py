"""Prototypes, and what makes two cases similar: against planted clusters, planted parts and a naive search."""

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.errors import ShapeError
from pellucid.examples import activation_precision, explain_similarity, likeness_maps, prototypes
from pellucid.models import Model


@pytest.fixture(scope="module")
def clouds():
    draw = torch.Generator().manual_seed(0)
    centres = torch.tensor([[0.0, 0], [6, 0], [0, 6]])
    points = torch.cat([centre + 0.5 * torch.randn(20, 2, generator=draw) for centre in centres])
    return torch.cat([points, torch.tensor([[12.0, 12]])])


def test_every_planted_cloud_has_one_prototype_and_the_stray_case_is_a_criticism(clouds):
    found = prototypes(clouds, count=3, criticisms=1)
    assert sorted(row // 20 for row in found.rows("prototype")) == [0, 1, 2]
    assert found.rows("criticism") == [60]
    assert sum(row["nearest"] or 0 for row in found.table.to_pylist()) == 61
    assert found.misfit["0"] < 0.3


def test_the_first_prototype_is_the_best_there_is_and_more_never_fit_worse(clouds):
    from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel

    few = clouds[::5]
    squared = euclidean_distances(few.double(), squared=True)
    kernel = rbf_kernel(few.double(), gamma=1 / np.median(squared[np.triu_indices(len(few), 1)]))

    def misfit(chosen):
        chosen = list(chosen)
        return kernel.mean() - 2 * kernel[:, chosen].mean() + kernel[np.ix_(chosen, chosen)].mean()

    one = prototypes(few, count=1, criticisms=0).rows("prototype")
    assert misfit(one) == pytest.approx(min(misfit([row]) for row in range(len(few))))
    three = prototypes(few, count=3, criticisms=0)
    best = min(misfit(chosen) for chosen in combinations(range(len(few)), 3))
    assert three.misfit["0"] ** 2 <= 1.5 * best + 0.01
    assert three.misfit["0"] < prototypes(few, count=1, criticisms=0).misfit["0"]


def test_classes_have_prototypes_of_their_own(clouds):
    labels = [0] * 20 + [1] * 41
    found = prototypes(clouds, labels, classes=("round", "long"), ids=[f"cell {row}" for row in range(61)], count=1)
    assert all(row < 20 for row in found.rows("prototype", "round"))
    assert all(row >= 20 for row in found.rows("prototype", "long"))
    assert {row["image"] for row in found.table.to_pylist()} == {
        f"cell {row['row']}" for row in found.table.to_pylist()
    }
    with pytest.raises(ShapeError, match="61 rows, 2 labels"):
        prototypes(clouds, [0, 1])


def test_a_likeness_map_lights_up_the_part_and_its_precision_says_so():
    maps = torch.rand(6, 3, 8, 8) * 0.1 + torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    maps[:, :, 2:4, 5:7] = torch.tensor([0.0, 1, 1]).view(1, 3, 1, 1)
    likeness = likeness_maps(maps, torch.tensor([0.0, 2, 2]))
    assert likeness[:, 0, 2:4, 5:7].min() > 0.99 > likeness[:, 0, :2].max()
    masks = torch.zeros(6, 16, 16)
    masks[:, 4:8, 10:14] = 1
    assert activation_precision(likeness, masks, top=0.04).value == pytest.approx(1)
    assert activation_precision(likeness, masks.roll(8, 1), top=0.04).value == 0
    with pytest.raises(ShapeError, match="6 maps and 2 masks"):
        activation_precision(likeness, masks[:2])


class Parts(nn.Module):
    """An embedding of what lies in each quarter."""

    def __init__(self) -> None:
        super().__init__()
        self.see = nn.AvgPool2d(8)
        self.pool = nn.Flatten()
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.pool(self.see(x)))


@pytest.mark.parametrize("method", ["occlusion(window=8, stride=8)", "input_x_gradient"])
def test_the_part_that_two_images_share_makes_them_similar(method):
    """Both have the upper left spot; each has one of its own, which only takes them apart."""
    first, second = torch.full((2, 1, 16, 16), 0.05)
    first[0, 1:7, 1:7] = second[0, 1:7, 1:7] = 1
    first[0, 1:7, 9:15] = second[0, 9:15, 1:7] = 0.8
    for own, other in zip(
        explain_similarity(Model(Parts(), embedding="pool"), first, second, method, ids=("a", "b")),
        ((0, 1), (1, 0)),
        strict=True,
    ):
        quarters = own.values[0, 0].reshape(2, 8, 2, 8).sum((1, 3))
        assert quarters.argmax() == 0
        assert quarters[0, 0] > 0 > quarters[other]
    with pytest.raises(ShapeError, match="two images of one shape"):
        explain_similarity(Parts(), first, second[:, :8], method)
