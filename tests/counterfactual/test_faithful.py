"""The default generator: any number of axes, the model's answers kept, killed and resumed bitwise."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pellucid.counterfactual import GENERATORS, counterfactual, faithful_autoencoder, gate
from pellucid.counterfactual.engines import loop
from pellucid.errors import BadRecipe, BadStudy, CannotExplain, ShapeError
from pellucid.models import Model

TINY = faithful_autoencoder(steps=8, width=4, latents=5, batch_size=8)


def linear(shape, classes=2):
    torch.manual_seed(0)
    return Model(nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), classes)), task="classification")


def images(*shape, count=24):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", [(4, 30), (1, 16, 16), (3, 17, 26), (2, 8, 9, 11), (5, 12, 12)])
def test_signals_images_and_volumes_of_any_size_and_channels(shape):
    x = images(*shape)
    fitted = TINY.fit(x, linear(shape))
    z = fitted.encode(x)
    assert z.shape == (24, 5)
    assert fitted.decode(z).shape == x.shape
    torch.testing.assert_close(fitted.encode(x[3:4])[0], z[3], atol=1e-5, rtol=1e-4)
    leaf = z.clone().requires_grad_()
    fitted.decode(leaf).sum().backward()
    assert (leaf.grad.abs().sum(1) > 0).all()


def test_a_film_of_volumes_and_small_images_are_refused():
    with pytest.raises(CannotExplain, match="one to three spatial axes of 8 pixels"):
        TINY.fit(images(1, 2, 8, 8, 8), linear((1, 2, 8, 8, 8)))
    with pytest.raises(CannotExplain, match="8 pixels or more"):
        TINY.fit(images(1, 7, 20), linear((1, 7, 20)))
    with pytest.raises(ShapeError, match="two images"):
        TINY.fit(images(1, 8, 8, count=1), linear((1, 8, 8)))


def test_it_is_a_value_that_parses():
    assert GENERATORS.parse("faithful_autoencoder(steps=8, width=4)") == faithful_autoencoder(steps=8, width=4)
    with pytest.raises(BadRecipe, match="steps"):
        faithful_autoencoder(steps=0)


def test_the_seed_decides_and_nothing_else(tmp_path):
    x, model = images(1, 16, 16), linear((1, 16, 16))
    first = TINY.fit(x, model, seed=3).tensors()
    torch.rand(7)
    again = TINY.fit(x, model, seed=3).tensors()
    other = TINY.fit(x, model, seed=4).tensors()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


class _Killed(Exception):  # it is no error
    pass


def test_killed_after_a_round_it_ends_bitwise_as_if_never_stopped(tmp_path, monkeypatch):
    x, model, long = images(1, 16, 16), linear((1, 16, 16)), TINY.replace(steps=120)
    whole = long.fit(x, model, seed=0)
    write = loop.write_checkpoint

    def dying(path, state):
        write(path, state)
        raise _Killed

    monkeypatch.setattr(loop, "write_checkpoint", dying)
    for _ in range(2):
        with pytest.raises(_Killed):
            long.fit(x, model, seed=0, checkpoint=tmp_path / "generator.pt")
    monkeypatch.setattr(loop, "write_checkpoint", write)
    resumed = long.fit(x, model, seed=0, checkpoint=tmp_path / "generator.pt")
    assert all(torch.equal(whole.tensors()[name], tensor) for name, tensor in resumed.tensors().items())
    assert resumed.history == whole.history
    with pytest.raises(BadStudy, match="other images"):
        long.fit(x + 0.1, model, seed=0, checkpoint=tmp_path / "generator.pt")
    with pytest.raises(BadStudy, match="seed=0"):
        long.fit(x, model, seed=1, checkpoint=tmp_path / "generator.pt")


def test_it_is_restored_from_a_file(tmp_path):
    x = images(2, 9, 16)
    fitted = TINY.fit(x, linear((2, 9, 16)))
    save_file(dict(fitted.tensors()), tmp_path / "g.safetensors")
    again = TINY.restore(load_file(tmp_path / "g.safetensors"), (2, 9, 16))
    assert torch.equal(again.decode(again.encode(x)), fitted.decode(fitted.encode(x)))
    assert set(again.history.column_names) == set(fitted.history.column_names)


def test_the_model_is_left_as_it_was():
    x, model = images(1, 16, 16), linear((1, 16, 16))
    model.network.train()
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    TINY.fit(x, model)
    assert model.network.training
    assert all(part.requires_grad and part.grad is None for part in model.network.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.network.state_dict().items())


@pytest.fixture(scope="module")
def learnt(world):
    train, _ = world.scenes(600, seed=5)
    return train, faithful_autoencoder(steps=300, latents=8, width=8, flips=False, batch_size=32).fit(
        train, world.model
    )


def test_it_learns_the_world_and_keeps_the_models_answers(world, learnt):
    train, fitted = learnt
    history = fitted.history.to_pylist()
    assert history[-1]["pixels"] < 0.5 * history[0]["pixels"]
    assert history[-1]["agreement"] < 0.2 * history[0]["agreement"]
    found = gate(fitted, world.model, world.held_out, training=train)
    assert found.passed, found
    got = counterfactual(world.model, world.held_out[:24], generator=fitted, gate=found)
    assert got.valid.float().mean() > 0.8
    step = (world.fitted.encode(got.changed) - world.fitted.encode(got.images)).abs()
    assert float((step[:, 0] / step[:, 1:].mean(1)).median()) > 3


def ellipses(area, angle, centre, side=16, ratio=0.5):
    """Return ellipses ``(N, 1, side, side)`` with soft edges, twice as long as wide."""
    place = torch.arange(side) - (side - 1) / 2
    y, x = (
        axis - at[:, None, None] for axis, at in zip(torch.meshgrid(place, place, indexing="ij"), centre.T, strict=True)
    )
    length, turn = (area / math.pi / ratio).sqrt()[:, None, None], angle[:, None, None]
    along, across = turn.cos() * x + turn.sin() * y, turn.cos() * y - turn.sin() * x
    depth = 1 - ((along / length).square() + (across / (ratio * length)).square()).sqrt()
    return (depth * length * ratio + 0.5).clamp(0, 1)[:, None]


def some_ellipses(count, seed):
    random = torch.Generator().manual_seed(seed)
    draw = [torch.rand(count, *rest, generator=random) for rest in ((), (), (2,))]
    return 20 + 50 * draw[0], math.pi * draw[1], 2 * draw[2] - 1


def filled(x):
    """Return how many pixels of images are filled."""
    return (8 * (x - 0.5)).sigmoid().flatten(1).sum(1)


class _Large(nn.Module):
    def forward(self, x):
        more = (filled(x) - 45) / 4
        return torch.stack([-more, more], 1)


def test_an_object_grows_and_shrinks_in_its_own_outline():
    """The change is that to the rendered object of another size, not a ring that suits objects in general."""
    model, train, test = Model(_Large(), task="classification"), some_ellipses(600, 1), some_ellipses(40, 2)
    x, held_out = ellipses(*train), ellipses(*test)
    fitted = faithful_autoencoder(steps=800, latents=8, width=8).fit(x, model)
    verdict = gate(fitted, model, ellipses(*some_ellipses(80, 3)), training=x)
    found = counterfactual(model, held_out, generator=fitted, gate=verdict)
    low, high = torch.full((40,), 5.0), torch.full((40,), 130.0)
    for _ in range(20):
        middle = (low + high) / 2
        small = filled(ellipses(middle, *test[1:])) < filled(found.changed)
        low, high = torch.where(small, middle, low), torch.where(small, high, middle)
    true = ellipses(middle, *test[1:])
    apart, way = ((true - other).abs().flatten(1).mean(1) for other in (found.changed, held_out))
    assert verdict.passed, verdict
    assert found.valid.float().mean() > 0.9
    assert float((apart / way).median()) < 0.3


def test_what_the_model_does_not_read_may_blur_but_what_it_reads_may_not(world):
    """With no weight on agreement a short training serves all blobs alike; with it, the first one comes through best."""
    train, _ = world.scenes(300, seed=5)
    settings = {"steps": 100, "latents": 3, "width": 4, "flips": False, "batch_size": 24}
    misses = []
    for agreement in (0.0, 2.0):
        fitted = faithful_autoencoder(agreement=agreement, **settings).fit(train, world.model)
        rebuilt = fitted.decode(fitted.encode(world.held_out))
        misses.append((world.model.network(rebuilt) - world.model.network(world.held_out)).abs().mean())
    assert misses[1] < 0.6 * misses[0]


def test_a_black_box_is_followed_through_a_head_on_the_latents(world):
    train, _ = world.scenes(300, seed=5)

    def opaque(x):
        return world.model.network(x.detach()).detach()

    fitted = faithful_autoencoder(steps=150, latents=8, width=4, flips=False, agreement=0.3, batch_size=24).fit(
        train, Model(opaque)
    )
    rebuilt = fitted.decode(fitted.encode(world.held_out))
    same = world.model.network(rebuilt).argmax(1) == world.model.network(world.held_out).argmax(1)
    assert same.float().mean() > 0.8
