"""shap: the same values for the same game, and for a network compared with several references."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pellucid import explain
from pellucid.attribution import METHODS

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

COLUMNS = torch.arange(6).repeat(6, 1)


class Game(nn.Module):
    """Six players, one a column, who are worth something alone, in pairs and in a triple."""

    def forward(self, x: Tensor) -> Tensor:
        a, b, c, d, e, f = x.mean((1, 2)).unbind(1)
        return torch.stack([2 * a - b + 3 * c * d + a * e * f, f + a * b], 1)


def table(values: np.ndarray) -> np.ndarray:
    """Play the game with one number a player, as shap sends it."""
    x = torch.from_numpy(np.asarray(values)).float()
    return Game()(x[:, None, None].expand(-1, 1, 6, -1)).numpy()


@pytest.mark.parametrize("explainer", ["KernelExplainer", "PermutationExplainer", "ExactExplainer"])
def test_shapley_values_of_a_small_game_agree(peer, pixels, explainer):
    shap, players = peer("shap"), pixels(2, 6).numpy()
    background = np.zeros((1, 6), np.float32)
    if explainer == "KernelExplainer":
        wanted = shap.KernelExplainer(table, background).shap_values(players, silent=True, l1_reg=0)
    else:
        masker = shap.maskers.Independent(background)
        settings = {"max_evals": 4000} if explainer == "PermutationExplainer" else {}
        wanted = getattr(shap.explainers, explainer[:-9])(table, masker)(players, silent=True, **settings).values
    x = torch.from_numpy(players)[:, None, None].expand(-1, 1, 6, -1)
    for target in (0, 1):
        for method in ("kernel_shap", "shapley_sampling"):
            found = explain(Game(), x, METHODS[method](segments=COLUMNS), target=target).details["effects"]
            exact = torch.from_numpy(np.asarray(wanted)[..., target]).float()
            rough = 0.2 if explainer == "PermutationExplainer" else 1e-3
            torch.testing.assert_close(found, exact, rtol=rough, atol=rough)


def test_deep_shap_agrees_where_its_rules_are_right(peer, settled, pixels):
    net = settled(nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(64, 2)))  # fmt: skip
    x, background = pixels(2, 1, 8, 8), pixels(3, 1, 8, 8, seed=4)
    wanted = np.asarray(peer("shap").DeepExplainer(net, background).shap_values(x))[..., 1]
    found = explain(net, x, METHODS["deep_shap"](background=background), target=1).values
    torch.testing.assert_close(found, torch.from_numpy(wanted).float(), rtol=1e-3, atol=1e-5)


def test_deep_explainer_does_not_add_up_where_a_relu_is_used_twice(peer, settled, pixels):
    """The values of a network add up to f(x) − E f(background), also where a layer is used again."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.relu = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.relu(self.b(self.relu(self.a(x.flatten(1))))))

    net, x, background = settled(Twice()), pixels(2, 1, 4), pixels(3, 1, 4, seed=5)
    rise = (net(x) - net(background).mean(0)).detach()
    found = explain(net, x, METHODS["deep_shap"](background=background), target=0)
    torch.testing.assert_close(found.values.flatten(1).sum(1), rise[:, 0], rtol=1e-4, atol=1e-5)
    theirs = np.asarray(peer("shap").DeepExplainer(net, background).shap_values(x, check_additivity=False))[..., 0]
    assert float(np.abs(theirs.reshape(2, -1).sum(1) - rise[:, 0].numpy()).max()) > 1e-2
