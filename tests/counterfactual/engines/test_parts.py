"""Small parts with closed forms: similarity, correlation between latents, slopes from the model, noise and its inverse."""

import pytest
import torch
from torch import nn

from pellucid.counterfactual.engines.adversarial import correlation_between
from pellucid.counterfactual.engines.conditional import conditional_autoencoder
from pellucid.counterfactual.engines.diffusion import diffusion_autoencoder, noised
from pellucid.counterfactual.engines.engine import judged
from pellucid.counterfactual.engines.loop import descend
from pellucid.counterfactual.engines.networks import Onlooker
from pellucid.counterfactual.engines.similarity import critic_loss, unlikeness
from pellucid.models import Model, Normalise, Passes, ReadOut


def random_images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_unlikeness_is_nothing_for_the_same_image_and_does_not_depend_on_the_critics_scale():
    torch.manual_seed(0)
    critic, x, y = Onlooker(1, 2, width=4), random_images(3, 1, 16, 16), random_images(3, 1, 16, 16, seed=1)
    assert unlikeness(critic, x, x).item() == 0
    before = unlikeness(critic, x, y).item()
    with torch.no_grad():
        for stage in critic.stages:
            for weights in stage[0].parameters():
                weights.mul_(3.0) if weights.ndim > 1 else weights.zero_()
        after_scaled = unlikeness(critic, x, y).item()
        for stage in critic.stages:
            stage[0].weight.mul_(0.5)
    assert unlikeness(critic, x, y).item() == pytest.approx(after_scaled, rel=1e-4)
    assert before > 0.1


def test_the_critic_learns_to_tell_what_the_pixels_hardly_do():
    """A fine checkerboard changes each pixel by a twentieth; the critic learns to see it."""
    torch.manual_seed(0)
    critic = Onlooker(1, 2, width=4)
    optimiser = torch.optim.Adam(critic.parameters(), lr=3e-3)
    board = 0.05 * (-1.0) ** torch.arange(16).view(1, 1, 16, 1) * (-1.0) ** torch.arange(16)
    first = None
    for step in range(60):
        x = 0.02 * random_images(8, 1, 16, 16, seed=step)
        loss = critic_loss(critic, x, x + board)
        first = first or loss.item()
        descend(optimiser, loss)
    assert loss.item() < 0.3 * first


def test_correlation_between_latents():
    random = torch.Generator().manual_seed(0)
    a, b = torch.randn(500, generator=random), torch.randn(500, generator=random)
    z = torch.stack([a, 2 * a + 1, b], 1)
    known = torch.corrcoef(z.T)
    assert correlation_between(z).item() == pytest.approx((known.square().sum() - 3).item() / 6, rel=1e-4)
    assert correlation_between(a[:, None]).item() == 0


def test_descend_touches_only_what_it_is_given():
    one, two = nn.Linear(2, 1), nn.Linear(2, 1)
    kept = two.weight.clone()
    before = one.weight.clone()
    descend(torch.optim.SGD(one.parameters(), lr=0.1), (one(torch.ones(1, 2)) + two(torch.ones(1, 2))).sum())
    assert torch.equal(two.weight, kept)
    assert two.weight.grad is None
    assert torch.allclose(one.weight, before - 0.1)


def test_slopes_of_what_the_model_says_are_those_of_the_model():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 36, 2))
    model = Model(network, preprocess=Normalise((0.3,), (2.0,)))
    x = random_images(5, 1, 8, 8).requires_grad_()
    weights = torch.arange(5.0)
    with Passes(model, batch_size=2) as passes:
        found = judged(passes, x, ReadOut(lambda outputs, rows: outputs[:, 1].square() * weights[rows]))
    known = network((x - 0.3) / 2)[:, 1].square() * weights
    assert torch.allclose(found, known, atol=1e-6)
    seen, expected = (torch.autograd.grad(value.sin().sum(), x)[0] for value in (found, known))
    assert torch.allclose(seen, expected, atol=1e-6)


def test_noise_and_velocity_give_back_the_image():
    x, noise, time = random_images(6, 1, 4, 4), random_images(6, 1, 4, 4, seed=1), torch.linspace(0, 1, 6)
    there, velocity = noised(x, noise, time)
    angle = (time * torch.pi / 2).view(-1, 1, 1, 1)
    assert torch.allclose(angle.cos() * there - angle.sin() * velocity, x, atol=1e-6)
    assert torch.allclose(angle.sin() * there + angle.cos() * velocity, noise, atol=1e-6)
    assert torch.equal(there[0], x[0])


@pytest.mark.parametrize("draws", [1, 7])
def test_drawing_with_a_perfect_denoiser_is_exact(draws):
    """One that knows the image predicts its velocity exactly; then every step stays on the way from noise to image."""
    codec = diffusion_autoencoder(draws=draws, width=8, latents=2).codec((1, 8, 8), 1)
    clean = random_images(3, 1, 8, 8)

    def perfect(x: torch.Tensor, time: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        angle = (time * torch.pi / 2).view(-1, 1, 1, 1)
        return ((angle.cos() * x - clean) / angle.sin()).where(angle.sin() > 0, -clean)

    codec.denoiser.forward = perfect
    assert torch.allclose(codec.images(torch.zeros(3, 2)), clean, atol=1e-5)


def test_places_between_two_bins_are_shared_by_both():
    codec = conditional_autoencoder(bins=4, latents=2, width=8).codec((1, 8, 8), 2)
    places = torch.tensor([[-1.0], [0.0], [1.25], [3.0], [9.0]])
    expected = [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0.75, 0.25, 0], [0, 0, 0, 1], [0, 0, 0, 1]]
    assert codec.between(places).tolist() == expected
    assert codec.movable.tolist() == [False, False, True]
