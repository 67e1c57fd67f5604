import pytest
import torch
from torch import nn

from pellucid import explain
from pellucid.attribution.controls import edge_map
from pellucid.attribution.gradient import gradient, saliency
from pellucid.evaluation import evaluate
from pellucid.evaluation.randomisation import _learnt, randomised
from pellucid.models import Model, Passes


@pytest.fixture
def trained():
    """A net that tells bright squares on the left from bright squares on the right."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6 * 36, 2),
    )  # fmt: skip
    labels = torch.randint(0, 2, (128,))
    x = 0.3 * torch.rand(128, 1, 12, 12)
    for row, label in enumerate(labels.tolist()):
        x[row, 0, 4:8, 2 + 6 * label : 5 + 6 * label] += 1
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(40):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x), labels).backward()
        optimiser.step()
    optimiser.zero_grad()
    return net.eval(), x[:6]


def test_a_map_that_ignores_the_weights_scores_one_and_the_gradient_far_less(trained, kit):
    net, x = trained
    explained = [explain(net, x, edge_map()), explain(net, x, gradient())]
    scores = evaluate(net, x, explained, "parameter_randomisation")
    assert kit.column(scores, "parameter_randomisation", "edge_map") == pytest.approx([1.0] * 6)
    assert max(kit.column(scores, "parameter_randomisation", "gradient")) < 0.6


@pytest.mark.parametrize("name", ["guided_backprop", "deconvnet"])
def test_guided_backprop_and_deconvnet_are_less_sensitive_to_the_weights_than_the_gradient(trained, kit, name):
    net, x = trained
    explained = [explain(net, x, name), explain(net, x, gradient())]
    scores = evaluate(net, x, explained, "parameter_randomisation", seed=1)
    guided, plain = (torch.tensor(kit.column(scores, "parameter_randomisation", e.name)) for e in explained)
    assert float(guided.mean()) > float(plain.mean()) + 0.1


def test_layers_are_randomised_from_the_output_down(trained):
    net, x = trained
    model = Model.of(net)
    with Passes(model) as passes:
        layers = _learnt(model, passes, (x,))
    assert layers == ["0", "2", "3", "7"]
    clone = randomised(model, layers[::-1][:1], seed=0)
    assert torch.equal(clone.network[2].weight, net[2].weight)
    assert not torch.equal(clone.network[7].weight, net[7].weight)
    again = randomised(model, layers[::-1][:1], seed=0)
    assert torch.equal(clone.network[7].weight, again.network[7].weight)
    other = randomised(model, layers[::-1][:1], seed=1)
    assert not torch.equal(clone.network[7].weight, other.network[7].weight)


def test_layers_come_in_the_order_of_calls_and_not_of_registration():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 2)
            self.body = nn.Linear(9, 4)
            self.scale = nn.Parameter(torch.randn(9))

        def forward(self, x):
            return self.head(self.body(x.flatten(1) * self.scale))

    model = Model.of(Backwards())
    with Passes(model) as passes:
        assert _learnt(model, passes, (torch.rand(1, 1, 3, 3),)) == ["body", "head", ""]
    clone = randomised(model, [""], seed=0)
    assert not torch.equal(clone.network.scale, model.network.scale)
    assert torch.equal(clone.network.head.weight, model.network.head.weight)


def test_one_stage_is_the_whole_model_and_more_stages_keep_more_of_the_map(trained, kit):
    net, x = trained
    explained = explain(net, x, saliency())
    whole, stages = (
        evaluate(net, x, explained, f"parameter_randomisation(stages={count})").table["value"].to_pylist()
        for count in (1, 4)
    )
    assert whole != stages
    assert all(0 <= value <= 1 for value in whole + stages)


def test_a_callable_has_no_weights_and_a_given_map_no_method(kit):
    def model(images):
        return images.flatten(1).sum(1, keepdim=True)

    x = torch.rand(2, 1, 6, 6)
    scores = evaluate(model, x, explain(model, x, gradient()), "parameter_randomisation")
    assert "plain callable" in scores.table["reason"].to_pylist()[0]
    net = kit.linear((1, 6, 6))
    scores = evaluate(net, x, kit.given(x, net, x, "mine"), "parameter_randomisation")
    assert "cannot be made again" in scores.table["reason"].to_pylist()[0]


def test_random_logit_tells_maps_that_know_the_class(kit):
    net, x = kit.linear((1, 8, 8), classes=4), torch.rand(5, 1, 8, 8)
    explained = [explain(net, x, gradient()), explain(net, x, edge_map()), explain(net, x, gradient(at="1"), target=0)]
    scores = evaluate(net, x, explained[:2], "random_logit")
    assert kit.column(scores, "random_logit", "edge_map") == pytest.approx([1.0] * 5)
    weight = net[1].weight
    pairs = torch.corrcoef(weight.argsort(1).argsort(1).double()).abs()
    own = net(x).argmax(1).tolist()
    for row, value in enumerate(kit.column(scores, "random_logit", "gradient")):
        others = [float(pairs[own[row], other]) for other in range(4) if other != own[row]]
        assert min(abs(value - other) for other in others) < 1e-6
