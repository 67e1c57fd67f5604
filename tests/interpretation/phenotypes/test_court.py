"""The court: a model that reads the batch's trace shares its way, one that reads something else does not."""

import numpy as np
import pytest
import torch

from pellucid.errors import CannotExplain, ShapeError
from pellucid.interpretation.phenotypes import Atlas, court

MEAN, GROUND = "Intensity_MeanIntensity_0", "Background_MeanIntensity"


@pytest.fixture(scope="module")
def world(blobs):
    """Classes follow brightness, batches the background; the two cross, for both go their own way."""
    noise = np.random.default_rng(0).standard_normal((2, 240)) * 0.3
    bright, ground = (blobs.latents[:240, place].numpy() for place in (1, 2))
    return (bright + noise[0] > 0).astype(int).tolist(), [
        "plate a" if one > 0 else "plate b" for one in ground + noise[1]
    ]


def asked(blobs, world, model):
    rows = slice(240, 264)
    return court(model, blobs.atlas, blobs.images[rows], classes=world[0], batches=world[1], groups=blobs.groups[rows])


def test_a_model_that_reads_the_biology_runs_apart_from_the_batch(blobs, world):
    found = asked(blobs, world, blobs.Reader(middle=40.0))
    (row,) = found.table.to_pylist()
    assert found.verdict == row["verdict"] == "apart"
    assert abs(row["overlap"]) < row["null"]
    assert GROUND not in row["shared"]
    assert row["readable"] > 0.4


def test_a_model_that_reads_the_batch_shares_its_way_and_its_phenotype(blobs, world):
    found = asked(blobs, world, blobs.Reader(corner=60.0))
    (row,) = found.table.to_pylist()
    assert found.verdict == "shared"
    assert abs(row["overlap"]) > 0.8
    assert row["low"] <= row["overlap"] <= row["high"]
    assert abs(row["pull"]) > 0
    assert row["pull_p"] <= 0.05
    assert GROUND in row["shared"]
    ways = {one["way"] for one in found.profiles.to_pylist()}
    assert ways == {"the model's", "plate b"}


class Heights:
    """Measures the first three latents of images that are their latents."""

    names, units = ("shape", "haze", "grain"), {"shape": "1", "haze": "1", "grain": "1"}

    def __call__(self, images, *, progress=False):
        return images[:, :3, 0].double().numpy()


@pytest.mark.parametrize("angle", [0.0, 0.5, 1.0, 1.5])
def test_the_overlap_is_the_cosine_between_what_the_model_reads_and_the_batch(pixels, angle):
    """Class and batch cross in the images; the model reads the class's latent and the batch's in known parts."""
    images = pixels.drawn(640)
    atlas = Atlas.of(pixels.generator, images[:600], Heights())
    shape, haze = images[:600, 0, 0], images[:600, 1, 0]

    def model(x):
        score = 4 * (np.cos(angle) * x[:, 0, 0] + np.sin(angle) * x[:, 1, 0])
        return torch.stack([-score, score], 1) / 2

    found = court(
        model, atlas, images[600:], classes=(shape > 0).tolist(), batches=["b" if one > 0 else "a" for one in haze]
    )
    (row,) = found.table.to_pylist()
    assert row["overlap"] == pytest.approx(np.sin(angle), abs=0.12)
    assert row["pull"] == pytest.approx(4 * np.sin(angle), abs=0.6)
    assert row["verdict"] == ("apart" if angle == 0 else "shared")
    assert ("haze" in row["shared"]) == (angle > 0)


def test_where_batch_and_class_are_one_column_nothing_is_said_by_association(blobs, world):
    found = court(blobs.Reader(corner=60.0), blobs.atlas, blobs.images[240:250], classes=world[0], batches=world[0])
    assert found.verdict == "not separable by association"
    assert found.table["overlap"].null_count == 1
    assert found.profiles.num_rows == 0


def test_batches_that_leave_no_trace_cannot_be_shared(blobs, world):
    batches = np.random.default_rng(1).choice(["a", "b", "c"], 240).tolist()
    found = court(blobs.Reader(middle=40.0), blobs.atlas, blobs.images[240:256], classes=world[0], batches=batches)
    assert found.verdict == "not readable"
    assert found.table.num_rows == 3


def test_what_does_not_fit_is_refused(blobs, world):
    with pytest.raises(ShapeError, match="1 batches were given"):
        court(blobs.Reader(), blobs.atlas, blobs.images[:2], classes=[0], batches=["a"])
    with pytest.raises(CannotExplain, match="are of one batch"):
        court(blobs.Reader(corner=1.0), blobs.atlas, blobs.images[:2], classes=world[0], batches=["a"] * 240)
