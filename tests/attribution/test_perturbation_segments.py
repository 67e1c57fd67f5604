"""Segmenters: labels of each row, and the value that carries a label image in a recipe."""

import numpy as np
import pytest
import torch

from pellucid.attribution import METHODS
from pellucid.attribution.perturbation import Labels, ablation, kernel_shap, segment
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
