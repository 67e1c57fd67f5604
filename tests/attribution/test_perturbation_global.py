"""Global ablation: known-relevant features come first, features that do not matter cover 0."""

import pytest
import torch
from torch import Tensor

from pellucid.attribution import global_ablation
from pellucid.errors import BadRecipe, BadTarget, ShapeError
from pellucid.images.phantoms import cells


def data(rows: int = 240, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images whose class is set by channel 1, and less by the upper half of channel 2."""
    x = torch.randn(rows, 4, 6, 6, generator=torch.Generator().manual_seed(seed))
    return x, (evidence(x) > 0).long()


def evidence(x: Tensor) -> Tensor:
    return x[:, 1].mean((1, 2)) + 0.4 * x[:, 2, :3].mean((1, 2))


def net(x: Tensor) -> Tensor:
    score = 20 * evidence(x) + 0.5 * x[:, 3, 0, 0]  # a whim on channel 3 that the classes know nothing of
    return torch.stack([-score, score], 1)


@pytest.mark.parametrize("how", ["permute", "fill"])
@pytest.mark.parametrize("metric", ["accuracy", "log_likelihood"])
def test_relevant_channels_come_first_and_null_channels_cover_0(how: str, metric: str) -> None:
    x, labels = data()
    found = global_ablation(net, x, labels, metric=metric, how=how)  # type: ignore[arg-type]
    rows = {row["feature"]: row for row in found.table.to_pylist()}
    assert found.table["feature"].to_pylist()[:2] == ["channel 1", "channel 2"]
    assert found.table["rank"].to_pylist() == [1, 2, 3, 4]
    assert rows["channel 1"]["low"] > 0
    assert rows["channel 2"]["low"] > 0
    assert rows["channel 0"]["low"] <= 0 <= rows["channel 0"]["high"]
    assert rows["channel 0"]["drop"] == 0
    assert found.forwards == 240 * (1 + 4 * (5 if how == "permute" else 1))


@pytest.mark.parametrize("metric", ["accuracy", "log_likelihood"])
def test_a_whim_without_worth_covers_0_about_95_times_in_a_hundred(metric: str) -> None:
    def moody(x: Tensor) -> Tensor:
        score = 9 * evidence(x) + 1.5 * x[:, 3, 0, 0]
        return torch.stack([-score, score], 1)

    whim, inside = {"whim": torch.tensor([0, 0, 0, 1]).view(4, 1, 1)}, []
    for seed in range(30):
        x, labels = data(100, seed)
        (row,) = global_ablation(moody, x, labels, whim, metric=metric, repeats=3, seed=seed).table.to_pylist()
        inside.append(row["low"] <= 0 <= row["high"])
        assert row["drop"] != 0
    assert sum(inside) >= 26


def test_one_filled_feature_equals_a_naive_loop() -> None:
    x, labels = data(30)
    found = global_ablation(net, x, labels, "channels(grid(2, 1))", metric="log_likelihood", how="fill", fill=0.5)
    rows = {row["feature"]: row for row in found.table.to_pylist()}
    assert len(rows) == 8
    hidden = x.clone()
    hidden[:, 2, :3] = 0.5
    before, after = (net(image).double().log_softmax(1)[torch.arange(30), labels] for image in (x, hidden))
    torch.testing.assert_close(
        rows["channel 2, segment 0"]["drop"], float((before - after).mean()), atol=1e-6, rtol=1e-6
    )


def test_a_permuted_feature_comes_from_other_images() -> None:
    x = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 1, 2, 2).clone()
    seen: list[Tensor] = []

    def look(images: Tensor) -> Tensor:
        seen.append(images[:, 0, 0, 0].clone())
        return images.mean((2, 3))

    global_ablation(look, x, torch.arange(5), metric="squared_error", repeats=3)
    own = seen[0]
    assert len(seen) == 4
    for donors in seen[1:]:
        assert (donors != own).all()
        assert torch.equal(donors.sort().values, own)


def test_named_masks_join_channels_to_groups_and_intervals_are_over_groups() -> None:
    x, labels = data(60)
    masks = {"stain": torch.tensor([0, 1, 1, 0]).view(4, 1, 1), "rest": torch.tensor([1, 0, 0, 1]).view(4, 1, 1)}
    found = global_ablation(net, x, labels, masks, groups=[row // 10 for row in range(60)])
    assert found.table["feature"].to_pylist() == ["stain", "rest"]
    assert found.table["groups"].to_pylist() == [6, 6]
    assert len(found.plot().axes) == 1
    assert "2 features" in repr(found)


def test_an_atlas_names_its_regions_and_leaves_the_background_out() -> None:
    from pellucid.attribution.perturbation import Labels

    x, labels = data(40)
    atlas = torch.zeros(6, 6, dtype=torch.long)
    atlas[:3], atlas[4:] = 7, 9
    found = global_ablation(net, x, labels, Labels(atlas, background=0))
    assert sorted(found.table["feature"].to_pylist()) == ["label 7", "label 9"]


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"features": "slic(5)"}, BadRecipe, "the same in every image"),
        ({"metric": "auc"}, BadRecipe, "metric is one of accuracy"),
        ({"features": torch.zeros(30, 6, 6, dtype=torch.long)}, ShapeError, "one atlas"),
        ({"features": {"odd": torch.ones(3, 1, 1)}}, ShapeError, r"'odd' has a mask of shape \(3, 1, 1\)"),
        ({"labels": torch.full((30,), 2)}, BadTarget, "the model has 2 classes"),
        ({"labels": torch.zeros(7)}, ShapeError, "7 labels were given for 30 images"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, object], error: type[Exception], said: str) -> None:
    x, labels = data(30)
    with pytest.raises(error, match=said):
        global_ablation(net, x, **{"labels": labels, **settings})  # type: ignore[arg-type]


def test_on_a_phantom_the_stain_comes_first_and_a_noise_channel_covers_0() -> None:
    phantom = cells(160, (24, 24), rule="cell_size")
    x = phantom.images.tensor()
    noise = torch.randn(len(x), 1, 24, 24, generator=torch.Generator().manual_seed(0))
    x, labels = torch.cat([x, noise], 1), torch.tensor(phantom.images.labels)
    train, test = slice(0, 80), slice(80, None)

    def seen(images: Tensor) -> Tensor:
        bright = (images[:, :3] > 0.3).float().mean((2, 3))
        return torch.cat([bright, images[:, 3:].mean((2, 3)), torch.ones(len(images), 1)], 1)

    weights = torch.linalg.lstsq(seen(x[train]), labels[train, None].float() - 0.5).solution
    assert weights[3] != 0
    groups = {
        "stain": torch.tensor([1, 1, 1, 0]).view(4, 1, 1),
        "noise": torch.tensor([0, 0, 0, 1]).view(4, 1, 1),
    }
    found = global_ablation(lambda images: seen(images) @ weights, x[test], labels[test], groups)
    stain, chance = found.table.to_pylist()
    assert found.performance.low > 0.6
    assert stain["feature"] == "stain"
    assert stain["low"] > 0.1
    assert chance["low"] <= 0 <= chance["high"]
