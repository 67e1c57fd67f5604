"""A small net that learnt a planted cue, shared by the tests of concepts."""

from types import SimpleNamespace

import numpy as np
import pytest

from pellucid.images import phantoms
from pellucid.models import fit

LAYERS = ("stem", "stages.1", "stages.2")


@pytest.fixture(scope="session")
def rim():
    """Cells whose class is the brightness of their rim, a net that learnt it, and the factors as columns."""
    phantom = phantoms.cells(200, size=(28, 28), rule="membrane_ring")
    fitted = fit(phantom.images, epochs=12, width=8, depth=3)
    assert fitted.performance.accuracy.value > 0.8
    factors = {
        name: np.array(phantom.factors[name].to_pylist(), dtype=float) for name in phantom.factors.column_names[1:]
    }
    return SimpleNamespace(
        images=phantom.images, ids=phantom.images.ids, factors=factors, model=fitted.model, layers=LAYERS,
        groups=phantom.images.column("group"), phantom=phantom,
    )  # fmt: skip
