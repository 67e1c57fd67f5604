"""Segmenters: labels of each row, and the value that carries a label image in a recipe."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pellucid.attribution import METHODS, explain
from pellucid.attribution.perturbation import Labels, ablation, kernel_shap, lime, segment, shapley_sampling
from pellucid.errors import BadRecipe, ShapeError

RANDOM = torch.Generator().manual_seed(0)


def blobs(rows: int = 2, size: int = 32) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    disc = ((y - size / 2) ** 2 + (x - size / 3) ** 2 < (size / 5) ** 2).float()
    return disc + 0.02 * torch.randn(rows, 1, size, size, generator=torch.Generator().manual_seed(1))


def test_every_element_belongs_to_one_segment_and_effects_keep_their_sum() -> None:
    x = torch.zeros(1, 3, 12, 10)
    for asked in (7, "pixels", "channels", "grid(3, 2)", Labels(torch.arange(120).view(12, 10) // 50)):
        (found,), _ = segment(asked, (x,))
        assert found.sizes.sum() == x[0].numel()
        assert (found.sizes > 0).all()
        effects = torch.randn(found.players, 2, dtype=torch.float64, generator=RANDOM)
        (spread,) = found.spread(effects)
        assert spread.shape == (2, 3, 12, 10)
        torch.testing.assert_close(spread.flatten(1).sum(1), effects.sum(0))


@pytest.mark.parametrize(
    ("asked", "space", "players"),
    [("pixels", (5, 4), 20), ("channels", (5, 4), 3), ("grid(2, 4)", (5, 4), 8), (4, (17,), 4), (50, (5, 4), 20)],
)
def test_named_segments_have_the_expected_number(asked: object, space: tuple[int, ...], players: int) -> None:
    (found,), warnings = segment(asked, (torch.zeros(1, 3, *space),))  # type: ignore[arg-type]
    assert found.players == players
    assert warnings == ()


def test_a_count_in_one_axis_gives_equal_runs() -> None:
    (found,), _ = segment(5, (torch.zeros(1, 4, 20),))
    assert found.labels[0].flatten().tolist() == [place // 4 for place in range(20)]


def test_superpixels_follow_edges_and_do_not_depend_on_other_rows() -> None:
    x = blobs()
    together, _ = segment(30, (x,))
    alone, _ = segment(30, (x[1:],))
    assert torch.equal(together[1].labels[0], alone[0].labels[0])
    labels = together[0].labels[0][0]
    disc = x[0, 0] > 0.5
    mixed = sum(0.1 < disc[labels == k].float().mean() < 0.9 for k in range(together[0].players))
    assert mixed <= 0.2 * together[0].players


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("contrast", [1e-4, 1.0, 1e4])
def test_noisy_images_of_any_contrast_keep_about_the_number_asked_for(contrast: float, offset: float) -> None:
    x = offset + contrast * torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (found,), warnings = segment(50, (x,))
    assert 25 <= found.players <= 100
    assert warnings == ()


def test_superpixels_do_not_depend_on_the_scale_of_the_image() -> None:
    x = blobs(1)
    assert torch.equal(segment(30, (x,))[0][0].labels[0], segment(30, (x * 1000 + 7,))[0][0].labels[0])


def test_one_hot_pixel_does_not_blind_the_superpixels() -> None:
    x = blobs(1)
    x[0, 0, 0, 0] = 1e4
    (found,), _ = segment(30, (x,))
    assert 15 <= found.players <= 60


def test_supervoxels_of_three_axes() -> None:
    (found,), _ = segment(20, (torch.randn(1, 1, 10, 12, 14, generator=RANDOM),))
    assert 10 <= found.players <= 40


def test_where_superpixels_fail_a_grid_stands_in_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from pellucid.attribution.perturbation.superpixels import segmentation

    monkeypatch.setattr(segmentation, "slic", lambda image, *_, **__: np.zeros(image.shape[:-1], dtype=int))
    (found,), (warning,) = segment(16, (torch.zeros(1, 1, 32, 32),))
    assert found.players == 16
    assert "regular grid" in warning
    assert "1 of 1 images" in warning


def test_more_than_three_axes_are_cut_into_a_grid() -> None:
    (found,), _ = segment(16, (torch.zeros(1, 2, 4, 4, 4, 4),))
    assert found.players == 16


def test_every_label_is_a_segment_zero_too_and_gaps_are_closed() -> None:
    labels = torch.tensor([[0, 0, 7], [7, 9, 9]])
    (found,), _ = segment(Labels(labels), (torch.zeros(1, 1, 2, 3),))
    assert found.labels[0][0].tolist() == [[0, 0, 1], [1, 2, 2]]


def test_labels_can_differ_from_row_to_row() -> None:
    labels = torch.stack([torch.zeros(2, 2), torch.arange(4).view(2, 2)]).long()
    first, second = segment(Labels(labels), (torch.zeros(2, 1, 2, 2),))[0]
    assert (first.players, second.players) == (1, 4)


def test_labels_compare_hash_and_print_by_content() -> None:
    tensor = torch.arange(6).view(2, 3)
    first, second = ablation(segments=tensor), ablation(segments=tensor.clone().numpy())
    assert first == second
    assert hash(first) == hash(second)
    assert first != ablation(segments=tensor + 1)
    assert first.definition != ablation(segments=tensor.T.contiguous()).definition
    assert str(first).startswith('ablation(segments="labels(sha256:')


def test_labels_are_not_read_back_from_their_digest() -> None:
    text = str(ablation(segments=torch.arange(6)))
    with pytest.raises(BadRecipe, match="pass the label tensor itself"):
        METHODS.parse(text)


@pytest.mark.parametrize("wrong", [0, -3, True, "superpixels", "grid(0, 2)", "grid()", 2.5, None])
def test_segments_that_mean_nothing_are_refused(wrong: object) -> None:
    with pytest.raises(BadRecipe, match="count of at least 1"):
        kernel_shap(segments=wrong)


def test_float_labels_are_refused() -> None:
    with pytest.raises((BadRecipe, ShapeError), match="integers"):
        ablation(segments=torch.rand(4, 4))


@pytest.mark.parametrize("asked", [Labels(torch.zeros(3, 3).long()), "grid(2, 2, 2)", "grid(9, 2)"])
def test_segments_that_do_not_fit_the_images_are_refused(asked: object) -> None:
    with pytest.raises(ShapeError, match=r"fit|need"):
        segment(asked, (torch.zeros(2, 1, 4, 4),))  # type: ignore[arg-type]


def test_inputs_of_different_axes_are_refused_with_what_would_do() -> None:
    with pytest.raises(ShapeError, match='segments="channels"'):
        segment(5, (torch.zeros(1, 1, 4, 4), torch.zeros(1, 3)))


@pytest.mark.parametrize(
    "text",
    ['kernel_shap(segments="grid(6, 6)", samples=200)', 'ablation(segments="channels", fill="mean")', "lime(segments=20)",
     "occlusion(window=(16, 8), stride=4)", "rise(samples=10, grid=(4, 5), probability=0.3)", "kernel_shap"],
)  # fmt: skip
def test_recipes_print_what_they_parse(text: str) -> None:
    assert str(METHODS.parse(text)) == text


def scene(*space: int) -> Tensor:
    """Two bright blocks on a dark, slightly noisy ground."""
    x = 0.02 * torch.randn(1, 2, *space, generator=torch.Generator().manual_seed(0))
    x[(0, slice(None), *(slice(size // 8, size // 2) for size in space))] += 1
    x[(0, slice(None), *(slice(5 * size // 8, size - 1) for size in space))] += 2
    return x


@pytest.mark.parametrize("space", [(96,), (32, 32), (14, 14, 14)])
@pytest.mark.parametrize("name", ["slic", "watershed", "quantiles", "regular"])
def test_named_regions_cut_one_two_and_three_axes_into_about_the_number_asked_for(
    name: str, space: tuple[int, ...]
) -> None:
    x = scene(*space)
    (one,), told = segment(f"{name}(20)", x.split(1))
    (two,), _ = segment(f"{name}(20)", x.split(1))
    assert 10 <= one.players <= 40
    assert not told
    assert torch.equal(one.labels[0], two.labels[0])
    assert torch.equal(one.labels[0].unique(), torch.arange(one.players))
    assert one.sizes.sum() == x[0].numel()


@pytest.mark.parametrize("name", ["slic(30)", "watershed(30)"])
def test_named_regions_follow_edges_and_scale_with_nothing(name: str) -> None:
    x = scene(32, 32)
    (own,), _ = segment(name, (x,))
    (scaled,), _ = segment(name, (7 * x - 3,))
    assert torch.equal(own.labels[0], scaled.labels[0])
    bright = (x[0, 0] > 0.5).flatten()
    share = torch.stack([bright[own.labels[0].flatten() == player].float().mean() for player in range(own.players)])
    mixed = ((share > 0.2) & (share < 0.8)).sum()
    assert mixed <= own.players / 5


def test_intensity_bands_have_equal_areas_and_rise() -> None:
    x = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    (own,), _ = segment("quantiles(8)", (x,))
    assert own.sizes.tolist() == [50 * 3] * 8
    means = torch.stack([x[0].mean(0)[own.labels[0][0] == band].mean() for band in range(8)])
    assert (means.diff() > 0).all()
    (flat,), _ = segment("quantiles(8)", (torch.ones(1, 1, 4, 4),))
    assert flat.players == 1


def test_supervoxels_honour_the_spacing_of_the_voxels() -> None:
    x = 0.5 + 0.01 * torch.randn(1, 1, 8, 24, 24, generator=torch.Generator().manual_seed(0))

    def extent(text: str) -> float:
        (own,), _ = segment(text, (x,))
        labels = own.labels[0][0]
        places = [torch.stack(torch.where(labels == player)).double() for player in range(own.players)]
        spans = torch.stack([place.std(1, correction=0) for place in places if place.shape[1] > 8])
        return float((spans[:, 0] / spans[:, 1:].mean(1)).median())

    thick, even = extent("slic(40, spacing=(3.0, 1.0, 1.0))"), extent("slic(40)")
    assert thick < 0.75 * even
    (one,), (two,) = (segment(f"slic(40, spacing=({z}, {y}, {y}))", (x,))[0] for z, y in ((3.0, 1.0), (0.6, 0.2)))
    assert torch.equal(one.labels[0], two.labels[0])


def test_each_channel_of_each_region_can_be_a_segment() -> None:
    x = torch.rand(2, 3, 8, 8)
    rows, _ = segment("channels(grid(2, 2))", (x,))
    assert rows[0].players == 12
    assert rows[0].labels[0].shape == (3, 8, 8)
    assert rows[0].sizes.tolist() == [16] * 12
    weights = torch.arange(1.0, 4).view(3, 1, 1)

    def net(images: Tensor) -> Tensor:
        return (weights * images)[:, :, :4, :4].sum((1, 2, 3))[:, None]

    e = explain(net, x, 'ablation(segments="channels(grid(2, 2))")')
    expected = (weights * x)[:, :, :4, :4].sum((2, 3))
    torch.testing.assert_close(e.details["effects"][:, [0, 4, 8]], expected)
    assert (e.details["effects"][:, [1, 2, 3, 5, 6, 7, 9, 10, 11]].abs() < 1e-5).all()
    (content,), _ = segment("channels(slic(6))", (scene(24, 24),))
    assert content.players % 2 == 0


def test_a_background_is_always_shown_and_no_player() -> None:
    labels = torch.zeros(2, 6, 6, dtype=torch.long)
    labels[0, :3], labels[0, 4:] = 5, 9
    labels[1, 2:4] = 9
    x = torch.rand(2, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    seen: list[Tensor] = []

    def net(images: Tensor) -> Tensor:
        seen.append(images.clone())
        return images.sum((1, 2, 3))[:, None]

    for method in (kernel_shap, shapley_sampling, lime, ablation):
        seen.clear()
        e = explain(net, x, method(segments=Labels(labels, background=0)), batch_size=1)
        for image in seen:
            row = 0 if torch.equal(image[0, :, 3], x[0, :, 3]) else 1
            assert torch.equal(image[0][:, labels[row] == 0], x[row][:, labels[row] == 0])
        assert isinstance(e.values, Tensor)
        assert (e.values[:, 0][labels == 0] == 0).all()
        torch.testing.assert_close(e.details["labels"], torch.tensor([[5, 9], [9, -1]]))
        assert (e.details["segments"][:, 0][labels == 0] == -1).all()
        torch.testing.assert_close(e.details["effects"][0, 1], x[0][:, 4:].sum(), atol=5e-3, rtol=1e-3)
        if method is not lime:  # whose ridge tells in a regression of one segment
            torch.testing.assert_close(e.details["effects"][1, 0], x[1][:, 2:4].sum(), atol=5e-3, rtol=1e-3)
        assert e.details["effects"][1, 1].isnan()
        if e.gap is not None:
            assert (e.gap < 1e-4).all()


def test_labels_with_another_background_are_other_labels() -> None:
    image = torch.eye(4).long()
    assert Labels(image) != Labels(image, background=0)
    assert Labels(image, background=0) == Labels(image.clone(), background=0)
    with pytest.raises(ShapeError, match="no label but the background 1"):
        segment(Labels(torch.ones(4, 4).long(), background=1), (torch.ones(1, 1, 4, 4),))


@pytest.mark.parametrize(
    "wrong",
    ["slic", "slic(0)", "slic(20, 30)", "slic(20, size=3)", "quantiles(4, spacing=(1, 1))", "slic(20, spacing=(0, 1))",
     "channels(channels)", "channels(channels(grid(2, 2)))", "slic(x)", "slic(20", "seeds(20)"],
)  # fmt: skip
def test_names_that_mean_nothing_are_refused(wrong: str) -> None:
    with pytest.raises(BadRecipe, match="segments"):
        ablation(segments=wrong)


def test_a_spacing_that_does_not_fit_the_axes_is_refused() -> None:
    with pytest.raises(ShapeError, match="spacing has not one number"):
        segment("slic(9, spacing=(1, 1))", (torch.rand(1, 1, 6, 6, 6),))


def test_named_segments_print_and_parse() -> None:
    text = 'lime(segments="channels(slic(20, spacing=(2.0, 1.0, 1.0)))")'
    assert str(METHODS.parse(text)) == text


def test_a_shown_background_is_not_written_into_an_image_that_is_the_fill() -> None:
    other, labels = torch.full((1, 4, 4), 7.0), torch.eye(4).long()
    method = ablation(segments=Labels(labels, background=0), fill=other)  # type: ignore[arg-type]
    one, two = (explain(lambda x: x.sum((1, 2, 3))[:, None], torch.ones(1, 1, 4, 4), method) for _ in range(2))
    assert torch.equal(one.values, two.values)
    assert (method.fill.tensor == 7).all()  # type: ignore[union-attr]
    torch.testing.assert_close(one.details["effects"], torch.tensor([[-24.0]]))
