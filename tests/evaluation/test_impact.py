"""Impact coverage: a region counts only where it is seen to carry the decision."""

import pytest
import torch
from torch import nn

from pellucid.evaluation import evaluate
from pellucid.models import targets


class Patch(nn.Module):
    """Decides for class 1 where the corner patch is bright on average."""

    def forward(self, x):
        inside = x[:, 0, :3, :3].mean((1, 2)) - 0.5
        return 10 * torch.stack([-inside, inside], 1)


@pytest.fixture
def scene():
    x = 0.1 * torch.rand(4, 1, 8, 8)
    x[:3, :, :3, :3] = 1.0  # planted in all but the last
    mask = torch.zeros(4, 8, 8)
    mask[:, :3, :3] = 1
    return Patch(), x, mask


def test_the_planted_region_scores_one_its_complement_nought_and_unplanted_images_nothing(scene, kit):
    net, x, mask = scene
    maps = {"oracle": mask[:, None], "complement": 1 - mask[:, None]}
    scores = evaluate(net, x, [kit.given(v, net, x, n) for n, v in maps.items()], "impact_coverage", mask)
    assert kit.column(scores, "impact_coverage", "oracle") == [1.0, 1.0, 1.0, None]
    assert kit.column(scores, "impact_coverage", "complement") == [0.0, 0.0, 0.0, None]
    assert "changes no decision" in kit.column(scores, "impact_coverage", "oracle", "reason")[3]


def test_a_region_that_does_not_matter_is_not_asked_for(scene, kit):
    net, x, _ = scene
    elsewhere = torch.zeros(4, 8, 8)
    elsewhere[:, 5:, 5:] = 1
    scores = evaluate(net, x, kit.given(elsewhere[:, None], net, x, "map"), "impact_coverage", elsewhere)
    assert scores.table["value"].null_count == 4


def test_random_maps_cover_as_much_as_random_positions(kit):
    x = 0.1 * torch.rand(200, 1, 8, 8)
    x[:, :, :3, :3] = 1.0
    mask = torch.zeros(200, 8, 8)
    mask[:, :3, :3] = 1
    scores = evaluate(Patch(), x, kit.given(torch.randn_like(x), Patch(), x, "random"), "impact_coverage", mask)
    found = torch.tensor(kit.column(scores, "impact_coverage", "random"))
    chance = kit.column(scores, "impact_coverage", "random", "chance")
    assert float(found.mean()) == pytest.approx(chance[0], abs=0.02)


def test_targets_without_a_decision_say_so_and_the_region_is_tried_once_for_all_methods(scene, kit):
    net, x, mask = scene
    contrast = kit.given(mask[:, None], net, x, "contrast", target=targets.Contrast(0, 1))
    scores = evaluate(net, x, contrast, "impact_coverage", mask)
    assert "no class" in scores.table["reason"][0].as_py()
    maps = [kit.given(torch.randn_like(x), net, x, f"map {place}") for place in range(5)]
    one, five = (evaluate(net, x, some, "impact_coverage", mask).forwards for some in (maps[:1], maps))
    assert one == five == 8
