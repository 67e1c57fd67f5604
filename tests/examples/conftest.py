"""A small net that learnt the number of spots, and its images with their planted factors."""

from types import SimpleNamespace

import numpy as np
import pytest

from pellucid.images import phantoms
from pellucid.models import fit


@pytest.fixture(scope="session")
def spots():
    phantom = phantoms.cells(200, size=(32, 32), rule="spot_number")
    fitted = fit(phantom.images, epochs=12, width=8, depth=3)
    factors = {
        name: np.array(phantom.factors[name].to_pylist(), dtype=float) for name in phantom.factors.column_names[1:]
    }
    return SimpleNamespace(
        images=phantom.images, ids=phantom.images.ids, model=fitted.model, factors=factors,
        groups=phantom.images.column("group"), phantom=phantom,
    )  # fmt: skip
