"""The court: a model that reads the batch's trace shares its way, one that reads something else does not."""

import numpy as np
import pytest

from pellucid.errors import CannotExplain, ShapeError
from pellucid.interpretation.phenotypes import court

MEAN, GROUND = "Intensity_MeanIntensity_0", "Background_MeanIntensity"


@pytest.fixture(scope="module")
def world(blobs):
    """Classes follow brightness, batches the background; the two cross, for both go their own way."""
    noise = np.random.default_rng(0).standard_normal((2, 240)) * 0.3
    bright, ground = (blobs.latents[:240, place].numpy() for place in (1, 2))
    return (bright + noise[0] > 0).astype(int).tolist(), ["plate a" if one > 0 else "plate b" for one in ground + noise[1]]


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
    with pytest.raises(CannotExplain, match="one batch only"):
        court(blobs.Reader(corner=1.0), blobs.atlas, blobs.images[:2], classes=world[0], batches=["a"] * 240)
