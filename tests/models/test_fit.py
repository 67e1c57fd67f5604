import numpy as np
import pytest
import torch
from torch.nn import functional

from pellucid.errors import BadImage, BadStudy
from pellucid.images import ImageRecord, ImageSet
from pellucid.models import Augment, fit, load_model, save_model
from pellucid.models import fit as fit_function
from pellucid.models.calibrate import calibrated_temperature
from pellucid.models.pixels import read_pixels

QUICK = {"epochs": 4, "width": 4, "depth": 2, "batch_size": 16}


def same(one, other):
    states = one.model.module.state_dict(), other.model.module.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_net_learns_what_can_be_learnt_and_is_judged_on_the_test_part(make_bars):
    images = make_bars(count=180)
    found = fit(images, epochs=8, width=8, depth=2, batch_size=16, augment=False)
    assert found.performance.accuracy.value > 0.9
    assert found.judged_on == "test"
    assert found.performance.images == len(found.split.test)
    assert found.history.column_names == ["epoch", "learning_rate", "train_loss", "val_loss", "val_accuracy"]
    assert found.model.classes == ("a", "b", "c")
    assert not found.model.module.training


def test_the_preprocessing_comes_from_the_training_images_only(make_bars):
    images = make_bars()
    found = fit(images, **QUICK)
    train = images.tensor(found.split.train)
    assert found.model.preprocess.mean == pytest.approx(train.mean((0, 2, 3)).tolist(), rel=1e-5)
    assert found.model.preprocess.std == pytest.approx(train.std((0, 2, 3), correction=0).tolist(), rel=1e-5)


def test_the_best_epoch_is_kept(make_bars):
    found = fit(make_bars(), **QUICK)
    images = make_bars()
    with torch.inference_mode():
        logits = found.model.network(*found.model.prepare(images.tensor(found.split.val)))
    labels = torch.tensor(images.label(found.split.val))
    counts = torch.bincount(torch.tensor(images.label(found.split.train)))
    loss = functional.cross_entropy(logits, labels, weight=counts.sum() / (3 * counts))
    assert float(loss) == pytest.approx(min(found.history["val_loss"].to_pylist()), abs=2e-3)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(make_bars):
    one, two, other = (fit(make_bars(), seed=seed, **QUICK) for seed in (0, 0, 1))
    assert same(one, two)
    assert one.history.equals(two.history)
    assert not same(one, other)


def test_training_leaves_the_global_stream_alone(make_bars):
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    fit(make_bars(), **QUICK)
    assert torch.equal(torch.rand(3), wanted)


class Killed(BaseException):
    """Stands for a kill that no handler catches."""


@pytest.mark.parametrize("after", [1, 3])
def test_a_killed_run_resumes_and_ends_bitwise_equal(make_bars, tmp_path, monkeypatch, after):
    whole = fit(make_bars(), **QUICK)
    module = __import__("pellucid.models.training", fromlist=["write_checkpoint"])
    written, epochs = module.write_checkpoint, []

    def write_then_die(path, state):
        written(path, state)
        epochs.append(state["epoch"])
        if len(epochs) == after:
            raise Killed

    monkeypatch.setattr(module, "write_checkpoint", write_then_die)
    with pytest.raises(Killed):
        fit(make_bars(), checkpoint=tmp_path / "fit.pt", **QUICK)
    resumed = fit(make_bars(), checkpoint=tmp_path / "fit.pt", **QUICK)
    assert epochs == [1, 2, 3, 4]
    assert same(whole, resumed)
    assert whole.history.equals(resumed.history)
    assert whole.model.temperature == resumed.model.temperature
    assert whole.performance.table.equals(resumed.performance.table)


def test_a_kill_while_a_checkpoint_is_written_leaves_the_last_whole_one(make_bars, tmp_path, monkeypatch):
    path, saved, count = tmp_path / "fit.pt", torch.save, []

    def save_half(state, file):
        count.append(1)
        if len(count) == 3:
            file.write(b"half a checkpoint")
            raise Killed
        saved(state, file)

    monkeypatch.setattr(torch, "save", save_half)
    with pytest.raises(Killed):
        fit(make_bars(), checkpoint=path, **QUICK)
    monkeypatch.undo()
    assert torch.load(path, weights_only=True)["epoch"] == 2
    assert same(fit(make_bars(), **QUICK), fit(make_bars(), checkpoint=path, **QUICK))


def test_a_finished_run_is_read_and_not_trained_again(make_bars, tmp_path):
    first = fit(make_bars(), checkpoint=tmp_path / "fit.pt", **QUICK)
    stamp = (tmp_path / "fit.pt").stat().st_mtime_ns
    second = fit(make_bars(), checkpoint=tmp_path / "fit.pt", **QUICK)
    assert (tmp_path / "fit.pt").stat().st_mtime_ns == stamp
    assert same(first, second)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"learning_rate": 0.1}, "trained with learning_rate=0.003 and now learning_rate=0.1"),
        ({"width": 6}, "network="),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(make_bars, tmp_path, change, says):
    fit(make_bars(), checkpoint=tmp_path / "fit.pt", **QUICK)
    with pytest.raises(BadStudy, match=says):
        fit(make_bars(), checkpoint=tmp_path / "fit.pt", **{**QUICK, **change})


def test_a_checkpoint_of_other_images_is_refused(make_bars, tmp_path):
    fit(make_bars(), checkpoint=tmp_path / "fit.pt", **QUICK)
    with pytest.raises(BadStudy, match="other images"):
        fit(make_bars(count=93), checkpoint=tmp_path / "fit.pt", **QUICK)


@pytest.mark.parametrize("content", [b"nonsense", b""])
def test_a_file_that_is_no_checkpoint_is_refused(make_bars, tmp_path, content):
    (tmp_path / "fit.pt").write_bytes(content)
    with pytest.raises(BadStudy, match="no checkpoint"):
        fit(make_bars(), checkpoint=tmp_path / "fit.pt", **QUICK)


def test_training_stops_when_validation_no_longer_gets_better():
    draw = torch.Generator().manual_seed(0)
    noise = torch.rand(60, 1, 8, 8, generator=draw)
    ids = tuple(f"n{place}" for place in range(60))
    held = dict(zip(ids, noise, strict=True))
    labels = tuple(torch.randint(0, 2, (60,), generator=draw).tolist())
    images = ImageSet(ids, ImageRecord("CYX", ("g",)), (1, 8, 8), held.__getitem__, ("a", "b"), labels)
    found = fit(images, epochs=60, width=8, depth=2, patience=3, augment=False)
    losses = found.history["val_loss"].to_pylist()
    assert len(losses) < 60
    assert int(np.argmin(losses)) == len(losses) - 4


def test_unreadable_images_are_listed_and_left_out(make_bars):
    whole = fit(make_bars(), **QUICK)
    broken = (whole.split.train[0], whole.split.val[0], whole.split.test[0])
    found = fit(make_bars(broken=broken), **QUICK)
    assert {failure.image for failure in found.failures} == set(broken)
    assert found.split == whole.split
    assert found.performance.images == len(whole.split.test) - 1


def test_groups_are_the_unit_of_the_interval(make_bars):
    images = make_bars(smear=[place // 3 for place in range(90)])
    found = fit(images, group="smear", **QUICK)
    assert found.performance.groups == len({images.column("smear", [name])[0] for name in found.split.test})


def test_without_a_test_part_the_validation_images_judge(make_bars):
    images = make_bars(part=["val" if place % 5 == 0 else "train" for place in range(90)])
    found = fit(images, split="part", **QUICK)
    assert found.judged_on == "val"
    assert found.performance.images == 18


def test_rare_classes_weigh_as_much_as_common_ones(make_bars):
    images = make_bars()
    kept = [name for name, label in zip(images.ids, images.labels, strict=True) if label < 2 or int(name[5:]) % 15 == 2]
    run = fit(images.select(kept), **QUICK)
    plain = fit(images.select(kept), balance=False, **QUICK)
    assert not same(run, plain)


def test_a_fitted_model_saves_loads_and_predicts_the_same(make_bars, tmp_path):
    images = make_bars()
    found = fit(images, **QUICK)
    save_model(found.model, tmp_path / "net.safetensors")
    loaded = load_model(tmp_path / "net.safetensors")
    x = images.tensor(found.split.test)
    with torch.inference_mode():
        assert torch.equal(loaded.network(*loaded.prepare(x)), found.model.network(*found.model.prepare(x)))
    assert loaded.temperature == found.model.temperature
    assert loaded.source.shape == (1, 12, 12)


@pytest.mark.parametrize(("axes", "shape"), [("CX", (2, 24)), ("CZYX", (1, 6, 8, 8)), ("CTYX", (1, 5, 8, 8))])
def test_sequences_volumes_and_time_series_train_too(axes, shape):
    draw = torch.Generator().manual_seed(0)
    ids = tuple(f"v{place}" for place in range(30))
    held = {name: torch.rand(shape, generator=draw) + place % 2 for place, name in enumerate(ids)}
    images = ImageSet(ids, ImageRecord(axes, ("c",) * shape[0]), shape, held.__getitem__, ("a", "b"), (0, 1) * 15)
    found = fit(images, epochs=2, width=2, depth=2, batch_size=8)
    assert found.model.capabilities.spatial_rank == len(shape) - 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epochs": 0}, "epochs must be"),
        ({"learning_rate": -1.0}, "learning_rate must be"),
        ({"patience": 0}, "patience"),
        ({"batch_size": 1}, "2 images or more"),
    ],
)
def test_settings_out_of_range_are_refused(make_bars, change, says):
    with pytest.raises(BadStudy, match=says):
        fit(make_bars(), **{**QUICK, **change})


def test_no_batch_of_a_shuffled_epoch_holds_one_image_alone(make_bars):
    found = fit(make_bars(size=6), **{**QUICK, "depth": 3, "batch_size": 2})
    assert len(found.split.train) % 2 == 1
    assert found.history.num_rows == 4


def test_training_that_diverges_says_so(make_bars):
    with pytest.raises(BadStudy, match="training diverged"):
        fit(make_bars(), **{**QUICK, "learning_rate": 1e30})


def test_a_class_without_training_images_is_named(make_bars):
    images = make_bars(part=["test" if place % 3 == 2 else "train" for place in range(90)])
    with pytest.raises(BadImage, match="class 'c' has no readable training image"):
        fit(images, split="part", **QUICK)


def test_unlabelled_images_are_refused(make_bars):
    from dataclasses import replace

    with pytest.raises(BadImage, match="no labels"):
        fit(replace(make_bars(), labels=None), **QUICK)


def test_a_bar_may_be_shown(make_bars):
    assert fit_function(make_bars(), progress=True, **QUICK).history.num_rows == 4


def test_kept_pixels_are_rounded_by_less_than_a_2000th_of_their_range():
    draw = torch.Generator().manual_seed(0)
    held = {"far": 40_000 + 5 * torch.rand(1, 8, 8, generator=draw), "flat": torch.full((1, 8, 8), 3.0),
            "wide": 65_535 * torch.rand(1, 8, 8, generator=draw)}  # fmt: skip
    images = ImageSet(tuple(held), ImageRecord("CYX", ("g",)), (1, 8, 8), held.__getitem__)
    pixels, _ = read_pixels(images, images.ids)
    for name, image in held.items():
        error = (pixels.batch([name])[0] - image).abs().max()
        assert error <= (image.max() - image.min()) / 2000 + 4e-3 * (name == "far")


def test_images_that_do_not_fit_into_memory_are_read_again(make_bars):
    images = make_bars(count=6)
    streamed, _ = read_pixels(images, images.ids, memory=10)
    kept, _ = read_pixels(images, images.ids)
    assert streamed.kept is None
    assert torch.equal(streamed.batch(["image3"]), images.tensor(["image3"]))
    assert torch.allclose(kept.batch(images.ids), streamed.batch(images.ids), atol=5e-4)
    assert kept.normalise(images.ids) == streamed.normalise(images.ids)


def test_a_constant_channel_is_not_divided_by_zero():
    held = {name: torch.ones(1, 2, 2) for name in "ab"}
    images = ImageSet(("a", "b"), ImageRecord("CYX", ("g",)), (1, 2, 2), held.__getitem__)
    pixels, _ = read_pixels(images, images.ids)
    assert pixels.normalise(images.ids).std == (1.0,)


def test_augmentation_moves_flips_and_brightens_within_its_bounds():
    x = torch.zeros(200, 1, 10, 10)
    x[:, 0, 2, 3] = 1
    moved = Augment(flip="YX", shift=0.1, brightness=0.0)(x, "YX", torch.Generator().manual_seed(0))
    places = {tuple(place) for place in moved[:, 0].nonzero()[:, 1:].tolist()}
    assert places == {(y, x) for y in (1, 2, 3, 6, 7, 8) for x in (2, 3, 4, 5, 6, 7)}
    assert moved.flatten(1).sum(1).eq(1).all()
    bright = Augment(flip="", shift=0.0, brightness=0.2)(x + 1, "YX", torch.Generator().manual_seed(0))
    assert (bright - (x + 1)).abs().max() <= 0.2 * 2 + 0.2 + 1e-6
    still = Augment(flip="", shift=0.0, brightness=0.0)(x, "YX", torch.Generator().manual_seed(0))
    assert torch.equal(still, x)


def test_time_and_sequences_are_not_mirrored():
    x = torch.arange(6.0).expand(40, 1, 6)
    for axis in "XT":
        augment = Augment(flip="" if axis == "X" else "YX", shift=0.0, brightness=0.0)
        assert torch.equal(augment(x, axis, torch.Generator().manual_seed(0)), x)


def test_a_temperature_undoes_an_overconfident_scale():
    draw = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4000, 3, generator=draw)
    labels = torch.multinomial(logits.softmax(1), 1, generator=draw)[:, 0]
    assert calibrated_temperature(logits, labels) == pytest.approx(1.0, abs=0.1)
    assert calibrated_temperature(3 * logits, labels) == pytest.approx(
        3 * calibrated_temperature(logits, labels), rel=1e-3
    )


@pytest.mark.parametrize("scale", [1.0, 5.0])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_model_that_is_always_right_is_as_sure_as_so_many_images_can_make_it(classes, scale):
    labels = torch.arange(classes).repeat_interleave(40)
    logits = scale * torch.nn.functional.one_hot(labels, classes).float()
    sure = (logits / calibrated_temperature(logits, labels)).softmax(1).gather(1, labels[:, None])
    assert torch.allclose(sure, torch.tensor(41 / (40 + classes)), atol=1e-3)
