"""Many images, many models: views with their trust, averages that know when to refuse, models with other reasons."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from pellucid.errors import CannotExplain, ShapeError
from pellucid.interpretation import average_by, average_map, compare_suite, linked_views, project, registration
from pellucid.models import Model


@pytest.fixture(scope="module")
def clouds():
    random = np.random.default_rng(0)
    return np.concatenate([random.normal(centre, 0.4, (25, 6)) for centre in (0.0, 3.0)])


def test_pca_is_that_of_the_library_and_shows_the_clouds(clouds):
    view = project(torch.from_numpy(clouds))
    theirs = PCA(2).fit(clouds)
    assert np.allclose(np.abs(view.points), np.abs(theirs.transform(clouds)))
    assert view.explained == pytest.approx(tuple(theirs.explained_variance_ratio_))
    assert view.trustworthiness > 0.8 < view.continuity


def test_what_says_nothing_is_not_trusted():
    noise = np.random.default_rng(0).normal(size=(60, 40))
    view = project(noise)
    assert view.trustworthiness < 0.75  # half of the neighbours in the picture are none


def test_tsne_keeps_neighbours_and_gives_the_same_picture_again(clouds):
    first, again = (project(clouds, "tsne", seed=3) for _ in range(2))
    assert np.array_equal(first.points, again.points)
    assert first.trustworthiness > 0.9
    assert first.explained is None


def test_views_of_the_same_images_are_linked_by_their_names(clouds):
    ids = [f"cell {row}" for row in range(50)]
    views, table = linked_views({"layer": clouds, "maps": clouds[::-1].copy()}, ids)
    assert table.num_rows == 100
    assert set(views) == {"layer", "maps"}
    assert table["image"].to_pylist()[:50] == ids
    with pytest.raises(ShapeError, match="the view 'layer' has 50 images"):
        linked_views({"layer": clouds}, ids[:-1])
    with pytest.raises(ShapeError, match="20 images or more"):
        project(clouds[:5])
    with pytest.raises(ShapeError, match='it is "pca", "tsne" or "umap"'):
        project(clouds, "circle")


def test_umap_keeps_clouds_apart_and_is_the_same_for_the_same_seed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("umap")
    random = np.random.default_rng(0)
    values = np.concatenate([random.standard_normal((40, 12)), random.standard_normal((40, 12)) + 4])
    found = project(values, "umap")
    apart = np.linalg.norm(found.points[:, None] - found.points[None], axis=-1)
    own = np.repeat([0, 1], 40)
    np.fill_diagonal(apart, np.inf)
    assert (own[apart.argmin(1)] == own).mean() > 0.95
    assert found.trustworthiness > 0.7
    assert found.explained is None
    assert np.array_equal(project(values, "umap").points, found.points)


def test_umap_is_asked_for_by_name_where_it_is_missing(clouds, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    with pytest.raises(CannotExplain, match="umap-learn"):
        project(clouds, "umap")


def _outlines(jitter, count=20):
    random = np.random.default_rng(0)
    drawn = torch.zeros(count, 24, 24, dtype=torch.bool)
    for row in range(count):
        y, x = 8 + random.integers(-jitter, jitter + 1, 2)
        drawn[row, y : y + 8, x : x + 8] = True
    return drawn


def test_maps_in_register_are_averaged():
    outlines = _outlines(0)
    maps = outlines[:, None].double() * torch.arange(20).view(-1, 1, 1, 1)
    found = average_map(maps, outlines)
    assert found.mean[0, 10, 10] == pytest.approx(9.5)
    assert found.sd[0, 10, 10] == pytest.approx(torch.arange(20.0).std().item())
    assert found.steady[0, 10, 10]
    assert not found.steady[0, 0, 0]
    assert found.registration == 1


def test_maps_that_are_not_in_register_are_refused_with_the_number():
    outlines = _outlines(6)
    assert registration(outlines) < 0.5
    with pytest.raises(ShapeError, match=r"not in register: .* 0\.\d\d where 0.7 is needed"):
        average_map(outlines[:, None].float(), outlines)
    with pytest.raises(ShapeError, match="nothing says that it is"):
        average_map(outlines[:, None].float(), None)


def test_over_regions_maps_are_averaged_wherever_they_lie():
    outlines = _outlines(6)
    maps = torch.where(outlines, 3.0, -1.0 * (outlines.roll(8, 1) & ~outlines))[:, None]
    told = average_by(maps, outlines.long(), ["a", "b"] * 10, names=("ground", "cell"))
    rows = {(row["by"], row["region"]): row for row in told.to_pylist()}
    assert rows["a", "cell"]["net"] == pytest.approx(rows["a", "cell"]["share"]) == pytest.approx(0.75, abs=0.1)
    assert rows["b", "ground"]["net"] < 0
    assert rows["a", "cell"]["share"] + rows["a", "ground"]["share"] == pytest.approx(1)


class Reads(nn.Module):
    """Class 1 where one corner of the image is bright."""

    def __init__(self, *, left: bool, gain: float = 8.0) -> None:
        super().__init__()
        self.left, self.gain = left, nn.Parameter(torch.tensor(gain))

    def forward(self, x):
        part = x[:, 0, :6, :6] if self.left else x[:, 0, -6:, -6:]
        value = self.gain * (part.mean((1, 2)) - 0.5)
        return torch.stack([-value, value], 1)


def test_models_as_accurate_with_other_shortcuts_are_told_apart():
    """Both corners tell the class; two models read the left one, one the right."""
    draw = torch.Generator().manual_seed(0)
    labels = [row % 2 for row in range(40)]
    x = 0.2 * torch.rand(40, 1, 16, 16, generator=draw) + 0.2
    x[1::2, :, :6, :6] += 0.5
    x[1::2, :, -6:, -6:] += 0.5
    suite = {
        "left": Model(Reads(left=True)),
        "left again": Model(Reads(left=True, gain=5.0)),
        "right": Model(Reads(left=False)),
    }
    found = compare_suite(suite, x, labels, "input_x_gradient")
    assert found.models["accuracy"].to_pylist() == [1.0, 1.0, 1.0]
    assert found.other_reasons == [("left", "right"), ("left again", "right")]
    names, apart = found.distances()
    assert names == ("left", "left again", "right")
    assert apart[0, 1] < 0.01 < 0.5 < apart[0, 2]
    assert torch.equal(apart, apart.T)
    with pytest.raises(ShapeError, match="two models or more"):
        compare_suite({"left": suite["left"]}, x, labels)
