"""Necessity and what is new, of models that read one thing."""

import pytest
import torch

from pellucid.errors import CannotExplain
from pellucid.interpretation.phenotypes import necessity
from pellucid.interpretation.phenotypes.necessity import ALL, CONTROL
from pellucid.models import Model

MEAN, GROUND, AREA = "Intensity_MeanIntensity_0", "Background_MeanIntensity", "AreaShape_Area"


def asked(blobs, model, count=24):
    rows = slice(240, 240 + count)
    found = necessity(model, blobs.atlas, blobs.images[rows], groups=blobs.groups[rows])
    return found, {row["held"]: row for row in found.table.to_pylist()}


def test_an_answer_cannot_be_changed_with_its_cause_frozen_and_can_with_anything_else_frozen(blobs):
    found, rows = asked(blobs, blobs.Reader(area=60.0))
    assert found.flips.value > 0.8
    assert rows[AREA]["low"] > 0.5
    assert rows[AREA]["drift"] < 0.25 * rows[AREA]["drift_free"]
    assert max(rows[name]["needed"] for name in (MEAN, GROUND, CONTROL)) < 0.15
    assert rows[GROUND]["high"] > rows[GROUND]["needed"]
    assert rows[ALL]["needed"] > 0.8
    assert found.known_moves.value > 0.9
    assert found.differentiated


def test_a_cause_that_nobody_listed_is_told_as_new(blobs):
    line = 12.4 * torch.linspace(-1, 1, 28)
    wave = torch.cos(line[None] + 15) * torch.cos(line[:, None] + 30)  # the last faint wave that is drawn over images

    def waving(x):
        score = 3 * (x[:, 0] * wave).sum((1, 2))
        return torch.stack([-score, score], 1)

    found, rows = asked(blobs, waving)
    assert found.known_moves.value < 0.5
    assert rows[ALL]["needed"] < 0.5


def test_a_model_without_derivatives_is_followed_by_a_regression_of_its_scores(blobs):
    reader = blobs.Reader(area=60.0)

    def opaque(x):
        return torch.from_numpy(reader(x).detach().numpy().copy())

    found, rows = asked(blobs, opaque, 12)
    assert not found.differentiated
    assert rows[AREA]["needed"] > 0.8


def test_what_has_no_answer_or_never_flips_is_refused(blobs):
    with pytest.raises(CannotExplain, match="no answer to flip"):
        necessity(Model(blobs.Reader(), task="regression"), blobs.atlas, blobs.images[240:243])
    with pytest.raises(CannotExplain, match="no image flips"):
        necessity(
            lambda x: torch.stack([0 * x.sum((1, 2, 3)), x.mean((1, 2, 3)) + 50], 1), blobs.atlas, blobs.images[240:243]
        )
