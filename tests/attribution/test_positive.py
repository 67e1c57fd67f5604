"""Deep Taylor and excitation backpropagation: by hand, against naive loops, never negative, and what they refuse."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import pellucid
from pellucid.errors import BadRecipe, CannotExplain, GuardError, ShapeError
from pellucid.models.targets import Contrast

TAYLOR, EXCITATION = "deep_taylor(low=-4.0, high=4.0)", "excitation_backprop"


def plain(nets) -> nn.Sequential:
    """Return conv, ReLU, max-pool, conv, ReLU, linear, ReLU, linear."""
    return nets.lived_in(nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 4, 2), nn.ReLU(), nn.Flatten(),
        nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 3)), seed=2)  # fmt: skip


def applied(part: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    return functional.conv2d(x, weight) if isinstance(part, nn.Conv2d) else functional.linear(x, weight)


def shared(part: nn.Module, relevance: Tensor, terms: list[tuple[Tensor, Tensor, float]]) -> Tensor:
    """Return Σ over terms of sign × x ŵ-share of the relevance, by explicit transposes."""
    whole = sum(sign * applied(part, x, weight) for x, weight, sign in terms)
    unit = torch.where(whole > 1e-9, relevance / whole, 0.0)
    found = 0
    for x, weight, sign in terms:
        _, pull = torch.func.vjp(lambda v, w=weight: applied(part, v, w), x)
        found = found + sign * x * pull(unit)[0]
    return found


def naive(net: nn.Sequential, x: Tensor, start: Tensor, first: str) -> Tensor:
    """z⁺ down to the first layer; there z^B with −4 and 4, or z⁺ of a signed input."""
    points = [x]
    for part in net:
        points.append(part(points[-1]).detach())
    relevance = start
    for place, (part, point) in reversed(list(enumerate(zip(net, points[:-1], strict=True)))):
        if isinstance(part, nn.MaxPool2d):
            leaf = point.clone().requires_grad_()
            relevance = torch.autograd.grad(part(leaf), leaf, relevance)[0]
        elif isinstance(part, nn.Flatten):
            relevance = relevance.view_as(point)
        elif not isinstance(part, nn.ReLU):
            w = part.weight.detach()
            up, down = w.clamp(min=0), w.clamp(max=0)
            if place == 0 and first == "box":
                low, high = torch.full_like(point, -4.0), torch.full_like(point, 4.0)
                terms = [(point, w, 1.0), (low, up, -1.0), (high, down, -1.0)]
            else:
                terms = [(point.clamp(min=0), up, 1.0), (point.clamp(max=0), down, 1.0)]
            relevance = shared(part, relevance, terms)
    return relevance


def picked(output: Tensor, target: int, value: Tensor) -> Tensor:
    return torch.zeros_like(output).index_copy(1, torch.tensor([target]), value[:, None])


def test_deep_taylor_equals_a_naive_z_plus_z_box_walk(nets, pixels):
    net, x = plain(nets), pixels(4, 3, 8, 8)
    output = net(x).detach()
    for target in range(3):
        found = pellucid.explain(net, x, TAYLOR, target=target)
        wanted = naive(net, x, picked(output, target, output[:, target].clamp(min=0)), "box")
        torch.testing.assert_close(found.values, wanted, rtol=1e-3, atol=1e-6)
    assert (output > 0).any()
    assert (output < 0).any()


def test_excitation_backprop_equals_a_naive_walk_of_winning_probabilities(nets, pixels):
    net, x = plain(nets), pixels(4, 3, 8, 8)
    found = pellucid.explain(net, x, EXCITATION, target=1)
    wanted = naive(net, x, picked(net(x).detach(), 1, torch.ones(4)), "plus")
    torch.testing.assert_close(found.values, wanted, rtol=1e-3, atol=1e-7)


def test_excitation_backprop_by_hand(nets):
    first, second = nn.Linear(2, 2, bias=False), nn.Linear(2, 1)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, 1.0], [2.0, -1.0]]))
        second.weight.copy_(torch.tensor([[1.0, 1.0]]))
        second.bias.fill_(7.0)
    # x = (3, 1): h = (4, 5); the output's one is 4/9 and 5/9; of 4/9 3/4 comes from x0; 5/9 comes from x0 alone
    found = pellucid.explain(nn.Sequential(first, nn.ReLU(), second), torch.tensor([[3.0, 1.0]]), EXCITATION)
    torch.testing.assert_close(found.values, torch.tensor([[8 / 9, 1 / 9]]))


def test_deep_taylor_of_one_neuron_is_the_box_rule(nets):
    net = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[2.0, -1.0]]))
    # z = x w − l w⁺ − h w⁻ = (2·1 + 2·1, −0.5 + 2) = (4, 1.5), f = 1.5
    found = pellucid.explain(net, torch.tensor([[1.0, 0.5]]), "deep_taylor(low=-1.0, high=2.0)")
    torch.testing.assert_close(found.values, 1.5 * torch.tensor([[4.0, 1.5]]) / 5.5)


@pytest.mark.parametrize("text", [TAYLOR, EXCITATION])
@pytest.mark.parametrize("blocks", [0, 3])
def test_shares_are_never_negative_and_add_up(nets, pixels, text, blocks):
    net = nets.lived_in(nets.ResNet(blocks)) if blocks else plain(nets)
    x = pixels(6, 3, 12, 12) if blocks else pixels(6, 3, 8, 8)
    largest = []
    for target in range(3):
        found = pellucid.explain(net, x, text, target=target)
        assert float(found.values.min()) >= 0
        total = found.values.flatten(1).sum(1)
        if text == EXCITATION:
            torch.testing.assert_close(total + found.details["lost"], torch.ones(6), rtol=1e-4, atol=1e-5)
        else:
            torch.testing.assert_close(total + found.absorbed, found.output, rtol=1e-4, atol=1e-5)
        largest.append(float(total.max()))
    assert max(largest) > 0.01


def test_without_dead_ends_deep_taylor_hands_everything_to_the_pixels(nets, pixels):
    net, x = plain(nets), pixels(6, 3, 8, 8)
    with torch.no_grad():
        for part in net[3:]:
            for parameter in part.parameters():
                parameter.abs_()
    found = pellucid.explain(net, x, TAYLOR, target=0)
    torch.testing.assert_close(found.values.flatten(1).sum(1), found.output, rtol=1e-4, atol=0)


def test_a_row_without_evidence_reads_zero_and_is_named(nets):
    net = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, -1.0]]))
    found = pellucid.explain(net, torch.tensor([[1.0, 0.0], [0.0, 1.0]]), "deep_taylor(low=0.0, high=1.0)")
    assert found.values[1].tolist() == [0.0, 0.0]
    assert "1 row(s) (1) is not positive" in found.warnings[0]
    assert float(found.gap.max()) < 1e-5


def test_a_sum_of_activations_hands_relevance_to_its_positive_terms():
    class Sum(nn.Module):
        def __init__(self, spelling):
            super().__init__()
            self.spelling = spelling
            self.left, self.right = (nn.Linear(2, 2, bias=False) for _ in range(2))
            self.head = nn.Linear(2, 1, bias=False)
            with torch.no_grad():
                self.left.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, -1.0]]))
                self.right.weight.copy_(torch.tensor([[0.0, 1.0], [2.0, 0.0]]))
                self.head.weight.copy_(torch.tensor([[1.0, 1.0]]))

        def forward(self, x):
            return self.head(functional.relu(self.spelling(self.left(x), self.right(x))))

    def in_place(a, b):
        a += b
        return a

    spellings = [
        lambda a, b: a + b,
        torch.add,
        in_place,
        lambda a, b: a - (-b),
        lambda a, b: torch.add(input=a, other=b),
    ]
    for spelling in spellings:
        # x = (1, 1): left (3, −1), right (1, 2), sum (4, 1); of the one 4/5: 3/4 from x0, 1/4 from x1; 1/5: from x0 by right alone
        found = pellucid.explain(Sum(spelling), torch.tensor([[1.0, 1.0]]), EXCITATION)
        torch.testing.assert_close(found.values, torch.tensor([[0.8, 0.2]]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("text", [TAYLOR, EXCITATION])
def test_row_i_alone_equals_row_i_in_a_batch(nets, pixels, text):
    net, x = nets.lived_in(nets.ResNet(2)), pixels(3, 3, 12, 12)
    together = pellucid.explain(net, x, text, target=[0, 1, 2], batch_size=2)
    for row in range(3):
        alone = pellucid.explain(net, x[row : row + 1], text, target=row)
        torch.testing.assert_close(together.values[row], alone.values[0], rtol=1e-4, atol=1e-7)


def test_bounds_a_channel_are_taken(nets, pixels):
    net, x = plain(nets), pixels(2, 3, 8, 8)
    one = pellucid.explain(net, x, TAYLOR, target=1).values
    torch.testing.assert_close(
        pellucid.explain(net, x, "deep_taylor(low=(-4.0, -4.0, -4.0), high=(4.0, 4.0, 4.0))", target=1).values, one
    )
    with pytest.raises(ShapeError, match="2 numbers"):
        pellucid.explain(net, x, "deep_taylor(low=(-4.0, -4.0), high=4.0)", target=1)


def test_without_bounds_deep_taylor_shares_by_squared_weights(nets, pixels):
    net = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[2.0, -1.0]]))
    found = pellucid.explain(net, torch.tensor([[1.0, 0.5]]), "deep_taylor")
    torch.testing.assert_close(found.values, 1.5 * torch.tensor([[4.0, 1.0]]) / 5)
    deep, x = nets.lived_in(nets.ResNet(2)), pixels(4, 3, 12, 12)
    for target in range(3):
        found = pellucid.explain(deep, x, "deep_taylor", target=target)
        assert float(found.values.min()) >= 0
        torch.testing.assert_close(found.values.flatten(1).sum(1) + found.absorbed, found.output, rtol=1e-4, atol=1e-5)


def test_evidence_at_a_layer_is_positive_and_adds_up(nets, pixels):
    net, x = plain(nets), pixels(4, 3, 8, 8)
    target = int(net(x).sum(0).argmax())
    for text in ("deep_taylor(at='4')", "excitation_backprop(at='4')"):
        found = pellucid.explain(net, x, text, target=target)
        assert found.values.shape == (4, 4, 2, 2)
        assert float(found.values.min()) >= 0
        if text.startswith("deep"):
            torch.testing.assert_close(
                found.values.flatten(1).sum(1) + found.absorbed, found.output, rtol=1e-4, atol=1e-5
            )
        else:
            torch.testing.assert_close(
                found.values.flatten(1).sum(1) + found.details["lost"], torch.ones(4), rtol=1e-4, atol=1e-5
            )


def test_deep_taylor_needs_bounds_that_hold(nets, pixels):
    for text in ("deep_taylor(low=0.0)", "deep_taylor(high=1.0)"):
        with pytest.raises(BadRecipe, match="low= and high="):
            pellucid.explain(plain(nets), pixels(2, 3, 8, 8), text, target=1)
    with pytest.raises(CannotExplain, match="outside low and high"):
        pellucid.explain(plain(nets), pixels(2, 3, 8, 8), "deep_taylor(low=0.0, high=1.0)", target=1)


@pytest.mark.parametrize("text", [TAYLOR, EXCITATION])
def test_what_breaks_the_premises_is_refused(nets, pixels, text):
    x = pixels(3, 3, 8, 8)
    with pytest.raises(GuardError, match="none may be negative"):
        pellucid.explain(plain(nets), x, text, target=Contrast(0, 1))
    normed = nets.lived_in(
        nets.Call(lambda y, a, n, b: b(n(functional.relu(a(y))).flatten(1)), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(144, 2))
    )  # fmt: skip
    with torch.no_grad():
        normed.parts[1].bias.sub_(3)  # pushes rectified activations below zero
    with pytest.raises(GuardError, match="none may be negative"):
        pellucid.explain(normed, x, text, target=0)


def test_an_output_of_exactly_zero_has_no_winner(nets):
    net = nets.Call(lambda x: functional.relu(x @ torch.tensor([[1.0], [1.0]])))
    with pytest.raises(CannotExplain, match="row 1 is exactly zero"):
        pellucid.explain(net, torch.tensor([[1.0, 1.0], [0.0, 0.0]]), EXCITATION)


def test_bounds_may_be_missed_by_rounding(nets, pixels):
    x = pixels(2, 3, 8, 8).clamp(-1, 1)
    x[0, 0, 0, 0] = 1.000001
    assert float(pellucid.explain(plain(nets), x, "deep_taylor(low=-1.0, high=1.0)").values.min()) >= 0
