from collections.abc import Callable
from pathlib import Path

import pytest

from pellucid.images.phantoms import cells
from pellucid.show import write_report
from pellucid.study import Study

STUDY = """
seed = 0
[images]
path = "cells"
labels = "labels.csv"
masks = ["truth", "object"]
object = "object"
split = "split"
group = "group"
spacing = [1.0, 1.0]
[fit]
epochs = 1
width = 4
depth = 2
augment = false
[explain]
methods = [{methods}]
images = 16
[evaluate]
metrics = ["insertion(steps=4)", "max_sensitivity(samples=2)", "relevance_mass", "pointing_game", "sparseness"]
mask = ["truth", "object"]
[run]
threads = 1
"""


def finished(home: Path, methods: str) -> Study:
    cells(100, size=(32, 32), seed=3).write(home / "cells")
    file = home / "study.toml"
    file.write_text(STUDY.format(methods=methods))
    study = Study.create(file, home / "out")
    study.run()
    return study


@pytest.fixture(scope="session")
def finish() -> Callable[[Path, str], Study]:
    return finished


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return finished(tmp_path_factory.mktemp("show"), '"saliency", "input_x_gradient", "integrated_gradients(steps=4)"')


@pytest.fixture(scope="session")
def report(study: Study) -> Path:
    return write_report(study)
