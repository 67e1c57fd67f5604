"""Every engine: learns, comes back from its file, resumes bitwise, and finds the planted cause and only that."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pellucid.counterfactual import GENERATORS, FittedGenerator, Support, counterfactual, gate
from pellucid.counterfactual.engines import drawn_in_bins, loop, score_bins
from pellucid.counterfactual.engines.diffusion import DiffusionCodec
from pellucid.counterfactual.seek import seek
from pellucid.errors import BadRecipe, BadStudy, CannotExplain, ShapeError
from pellucid.models import Model, Passes

from .conftest import BORDER, Blobs, centre_of, draw_blobs, size_of

SIZE = "latents=4, width=8, batch_size=16, rate=4e-3"
EVERYTHING = "beta=2.0, total_correlation=2.0, sparsity=0.1, similarity=0.3, agreement=0.05"
TRAINED = {
    "plain": f"variational_autoencoder({SIZE}, steps=250, noise=0.05)",
    "everything": f"variational_autoencoder({SIZE}, steps=250, noise=0.05, {EVERYTHING})",
    "adversarial": f"adversarial_autoencoder({SIZE}, steps=150, similarity=0.1)",
    "subset": f"adversarial_autoencoder({SIZE}, steps=200, subset=1, recogniser=0.05, decorrelation=0.2, agreement=0.05)",
    "score": f"conditional_autoencoder({SIZE}, steps=200, bins=5)",
    "class": f'conditional_autoencoder({SIZE}, steps=200, condition="class")',
    "diffusion": f"diffusion_autoencoder({SIZE}, steps=350, draws=6)",
}
SEARCH = {
    "score": "latent_shift",
    "class": "class_mean_shift",
    "subset": "latent_shift(latents=1)",
    "diffusion": "class_mean_shift",
}


@pytest.fixture(scope="module")
def fitted(blobs: Blobs, model: Model) -> dict[str, FittedGenerator]:
    return {name: GENERATORS.parse(text).fit(blobs.images, model) for name, text in TRAINED.items()}


@pytest.fixture(scope="module")
def unseen() -> Blobs:
    return draw_blobs(32, seed=1)


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


@pytest.mark.parametrize("name", TRAINED)
def test_reconstructions_keep_both_properties(name, fitted, unseen):
    rebuilt = fitted[name].decode(fitted[name].encode(unseen.images))
    assert rebuilt.shape == unseen.images.shape
    assert correlation(centre_of(rebuilt), unseen.brightness) > 0.8
    assert correlation(size_of(rebuilt), unseen.radius) > 0.85


@pytest.mark.parametrize("name", TRAINED)
def test_a_row_does_not_depend_on_its_batch(name, fitted, unseen):
    engine = fitted[name]
    z = engine.encode(unseen.images)
    assert torch.allclose(engine.encode(unseen.images[3:4]), z[3:4], atol=1e-5)
    assert torch.allclose(engine.decode(z[3:4]), engine.decode(z)[3:4], atol=1e-5)


@pytest.mark.parametrize("name", TRAINED)
def test_back_from_its_tensors(name, fitted, unseen):
    engine = fitted[name]
    again = engine.generator.restore(engine.tensors(), tuple(unseen.images.shape[1:]))
    assert torch.equal(again.encode(unseen.images), engine.encode(unseen.images))
    assert torch.equal(again.decode(engine.encode(unseen.images)), engine.decode(engine.encode(unseen.images)))
    assert torch.equal(again.movable, engine.movable)
    assert again.history.equals(engine.history)


@pytest.mark.parametrize("name", TRAINED)
def test_the_counterfactual_changes_the_brightness_that_decides_and_not_the_size(name, fitted, blobs, unseen, model):
    engine = fitted[name]
    support = Support.of(engine, model, blobs.images)
    with Passes(model) as passes:
        found = seek(passes, unseen.images, engine, support, search=SEARCH.get(name))
    assert float(found.reached.double().mean()) >= 0.9
    with torch.no_grad():
        shown = found.move.at(1.0, torch.arange(32))
    brighter = (centre_of(shown) - centre_of(unseen.images)) / blobs.brightness.std()
    larger = (size_of(shown) - size_of(unseen.images)) / size_of(blobs.images).std()
    assert float(brighter.abs().mean()) > 1.5 * float(larger.abs().mean())
    assert bool((found.move.step[:, ~engine.movable] == 0).all())


def test_only_the_subset_carries_the_answer(fitted, blobs):
    z = fitted["subset"].encode(blobs.images)
    assert abs(correlation(z[:, 0], blobs.brightness)) > 0.9
    assert fitted["subset"].movable.tolist() == [True, False, False, False]


@torch.no_grad()
def test_bins_are_reached_in_order_and_keep_the_size(fitted, unseen, model):
    """Progressive exaggeration: every bin up is brighter, at the level that the model has there; the blob stays its size."""
    engine = fitted["score"]
    z = engine.encode(unseen.images)
    assert correlation(z[:, -1], unseen.brightness) > 0.9
    said = []
    for place in range(5):
        drawn = engine.decode(torch.cat([z[:, :-1], torch.full((32, 1), float(place))], 1))
        said.append(model.network(drawn).diff(dim=1)[:, 0])
        assert correlation(size_of(drawn), unseen.radius) > 0.85
    assert bool((torch.stack(said).diff(dim=0) > 0).all())
    scores = model.network(draw_blobs(256).images).diff(dim=1)[:, 0]
    assert torch.allclose(torch.stack(said).mean(1), engine.codec.levels, atol=0.25 * float(scores.std()))


def test_the_audit_says_what_the_model_makes_of_every_bin(fitted, unseen, model):
    ids = tuple(f"blob {row}" for row in range(32))
    table = score_bins(fitted["score"], model, unseen.images, ids)
    wanted, achieved = (torch.tensor(table[name].to_pylist()).view(32, 5) for name in ("wanted", "achieved"))
    with torch.no_grad():
        known = model.network(drawn_in_bins(fitted["score"], unseen.images)[:, 3]).diff(dim=1)[:, 0]
    assert torch.allclose(achieved[:, 3], known, atol=1e-5)
    assert float((achieved - wanted).square().mean() / wanted.square().mean()) < 0.05
    dark = unseen.brightness < BORDER - 0.1
    flipped = torch.tensor(table["flipped"].to_pylist()).view(32, 5)
    assert bool(flipped[dark, 4].all())
    assert not bool(flipped[dark, 0].any())
    with pytest.raises(CannotExplain, match="score bins need"):
        score_bins(fitted["class"], model, unseen.images, ids)
    with pytest.raises(ShapeError, match="1 ids for 32 images"):
        score_bins(fitted["score"], model, unseen.images, ids[:1])


def test_weights_do_what_they_say(blobs, model):
    """More weight on the divergence leaves less of it and costs fit; sparse latents are smaller."""
    short = GENERATORS.parse(f"variational_autoencoder({SIZE}, steps=60, noise=0.05)")
    plain, strict, sparse = (
        short.replace(**weight).fit(blobs.images, model) for weight in ({}, {"beta": 100.0}, {"sparsity": 300.0})
    )
    before, after = plain.history.to_pylist()[-1], strict.history.to_pylist()[-1]
    assert after["divergence"] < 0.5 * before["divergence"]
    assert after["misfit"] > before["misfit"]
    sizes = [float(one.encode(blobs.images).abs().sum(1).mean()) for one in (sparse, plain)]
    assert sizes[0] < 0.8 * sizes[1]


def test_the_history_names_every_part_of_the_loss(fitted):
    assert set(fitted["plain"].history.column_names) == {"epoch", "misfit", "divergence"}
    added = {"total_correlation", "sparsity", "similarity", "critic", "agreement"}
    assert set(fitted["everything"].history.column_names) == {"epoch", "misfit", "divergence", *added}


def test_an_image_is_drawn_again_from_its_own_noise(fitted, unseen):
    codec = fitted["diffusion"].codec
    assert isinstance(codec, DiffusionCodec)
    codec.draws, few = 24, codec.draws
    x = unseen.images
    with torch.no_grad():
        z = codec.latents(x)
        errors = [
            float((codec.images(z, codec.invert(x, z, depth=depth), depth=depth) - x).abs().mean())
            for depth in (0.3, 1.0)
        ]
        shared = float((codec.images(z) - x).abs().mean())
    codec.draws = few
    assert errors[0] < errors[1] < shared
    assert errors[0] < 0.01


def test_inverted_edits_start_from_the_image_and_reach_the_goal(fitted, blobs, unseen, model):
    engine = fitted["diffusion"]
    verdict = gate(engine, model, unseen.images, training=blobs.images, search="inverted_shift", most=8)
    found = counterfactual(model, unseen.images[:8], generator=engine, gate=verdict, search="inverted_shift", doses=3)
    assert torch.equal(found.path[:, 0], unseen.images[:8])
    assert float(found.flipped.double().mean()) >= 0.75
    with pytest.raises(CannotExplain, match="needs a diffusion_autoencoder"):
        counterfactual(model, unseen.images[:2], generator=fitted["plain"], gate=verdict, search="inverted_shift")


SHORT = [re.sub(r"steps=\d+", "steps=5", text) for text in TRAINED.values()]


@pytest.mark.parametrize("text", SHORT, ids=TRAINED)
def test_a_killed_training_ends_as_if_it_had_not_been(text, blobs, model, tmp_path, monkeypatch):
    generator, images, kept = GENERATORS.parse(text), blobs.images[:32], tmp_path / "kept.pt"
    monkeypatch.setattr(loop, "_ROUND", 2)
    whole = generator.fit(images, model)
    write, written = loop.write_checkpoint, []

    def killed(path: Path, state: dict[str, object]) -> None:
        write(path, state)
        written.append(path)
        if len(written) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "write_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        generator.fit(images, model, checkpoint=kept)
    resumed = generator.fit(images, model, checkpoint=kept)
    assert len(written) == 3
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, resumed.tensors()[name]), name
    read_only = generator.fit(images, model, checkpoint=kept)
    assert len(written) == 3
    assert torch.equal(read_only.encode(images), whole.encode(images))
    with pytest.raises(BadStudy, match="seed"):
        generator.fit(images, model, seed=1, checkpoint=kept)


def test_the_seed_decides(blobs, model):
    generator = GENERATORS.parse(SHORT[0])
    one, same, other = (
        generator.fit(blobs.images[:32], model, seed=seed).encode(blobs.images[:2]) for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("text", SHORT[1:], ids=list(TRAINED)[1:])
def test_signals_and_volumes(text, dims, model):
    images = draw_blobs(8, dims).images
    network = nn.Sequential(nn.Flatten(1), nn.Linear(16**dims, 2))
    engine = GENERATORS.parse(text).replace(steps=1, batch_size=4).fit(images, Model(network, task="classification"))
    assert engine.decode(engine.encode(images)).shape == images.shape


def test_sizes_that_cannot_be_halved(model):
    images = torch.rand(6, 2, 11, 14, generator=torch.Generator().manual_seed(0))
    network = Model(nn.Sequential(nn.Flatten(1), nn.Linear(2 * 11 * 14, 2)))
    for text in (SHORT[1], SHORT[-1]):
        engine = GENERATORS.parse(text).replace(steps=1).fit(images, network)
        assert engine.decode(engine.encode(images)).shape == images.shape


def test_what_cannot_be_learnt_is_refused(blobs, model):
    images, opaque = blobs.images[:16], Model(lambda x: x.detach().flatten(1)[:, :2])
    with pytest.raises(CannotExplain, match="follows the model by its slopes, and none reach"):
        GENERATORS.parse(SHORT[1]).fit(images, opaque)
    assert GENERATORS.parse(SHORT[0]).fit(images, opaque).encode(images).shape == (16, 4)
    with pytest.raises(CannotExplain, match="3 outputs has no one score"):
        GENERATORS.parse(SHORT[4]).fit(images, Model(nn.Sequential(nn.Flatten(), nn.Linear(256, 3))))
    with pytest.raises(BadRecipe, match="subset=9 of 4 latents"):
        GENERATORS.parse("adversarial_autoencoder(latents=4, subset=9)").fit(images, model)
    with pytest.raises(CannotExplain, match="one to three spatial axes"):
        GENERATORS.parse(SHORT[0]).fit(
            torch.rand(4, 1, 8, 8, 8, 8), Model(nn.Sequential(nn.Flatten(), nn.Linear(4096, 2)))
        )
    with pytest.raises(ShapeError, match="two images or more"):
        GENERATORS.parse(SHORT[0]).fit(images[:1], model)
