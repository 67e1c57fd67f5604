"""The gallery of volumes, films and sequences: one plane that is named, or a line."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from pellucid.images import ImageRecord, ImageSet
from pellucid.show.gallery import Album


def album(
    spatial: str, shape: tuple[int, ...], hot: tuple[int, ...], spacing: tuple[float, ...] | None = None
) -> Album:
    """Return an album of one image whose maps have their mass at one place."""
    mask = torch.zeros(shape[1:], dtype=torch.int64)
    mask[hot] = 1
    maps = torch.zeros(1, *shape)
    maps[(0, slice(None), *hot)] = -2.0
    images = ImageSet(
        ids=("one",), record=ImageRecord("C" + spatial, tuple(map(str, range(shape[0]))), spacing=spacing), shape=shape,
        load=lambda _: torch.rand(shape), classes=("a", "b"), labels=(0,), masks={"expert": lambda _: mask},
    )  # fmt: skip
    predictions = pa.table({"image": ["one"], "label": [0], "predicted": [1], "confidence": [0.75]})
    study = SimpleNamespace(
        images=images, methods=("gradient",), metrics=(), called=lambda _: predictions, truth=("expert",),
        repeats=pa.table({}), nets=pa.table({}), tables={},
        model=SimpleNamespace(classes=("a", "b")), maps=lambda method, ids: maps,
    )  # fmt: skip
    return Album(study, ("one",))


def test_a_volume_shows_the_slice_of_its_relevance_and_says_so() -> None:
    case = album("ZYX", (1, 6, 8, 10), (4, 2, 3), (1.0, 0.5, 0.5)).case("one")
    assert "Z = 5 of 6" in case.note
    assert (case.width, case.height) == (10, 8)
    assert case.bar.label == "1 µm"
    assert [outline.name for outline in case.outlines] == ["expert"]
    assert case.tiles[0].scale == pytest.approx(2.0)
    assert (case.called, case.truth, case.right, case.confidence) == ("b", "a", False, 0.75)


def test_a_film_of_volumes_shows_one_time_and_depth() -> None:
    case = album("TZYX", (1, 2, 3, 8, 8), (1, 2, 4, 4)).case("one")
    assert "T = 2 of 2, Z = 3 of 3" in case.note


def test_a_sequence_is_a_line_a_channel() -> None:
    case = album("X", (4, 30), (7,)).case("one")
    assert len(case.lines) == 4
    assert not case.src
    assert (case.width, case.height) == (30, 1)
    assert case.outlines[0].path.startswith("M")
    assert case.tiles[0].src.startswith("data:image/png")
    # four channels of −2 add up; of thirty places one, so the 99th percentile lies between it and zero
    assert case.tiles[0].scale == pytest.approx(np.percentile([8.0] + [0.0] * 29, 99))
