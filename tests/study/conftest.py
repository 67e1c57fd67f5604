import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pellucid.models import Model, Normalise, Source, residual_net, save_model

NET = {"classes": 2, "channels": 3, "dims": 2, "width": 4, "depth": 2, "stem_stride": 1}

STUDY = """\
seed = 3
[images]
path = "data"
labels = "labels.csv"
masks = ["object", "truth"]
object = "object"
split = "split"
group = "group"
[model]
weights = "net.safetensors"
[explain]
methods = ["saliency", "integrated_gradients(steps=3)", "gradcam"]
images = 0
[evaluate]
metrics = ["relevance_mass", "sparseness", "insertion(steps=3)"]
mask = "truth"
[run]
shard = 2
threads = 1
"""


TINY = """\
seed = 0
[images]
{images}
[fit]
{fit}
[explain]
methods = {methods}
images = {count}
[evaluate]
metrics = ["sparseness"]
self_test = false
{asked}
[run]
threads = 1
"""

CELLS = """\
path = "cells"
labels = "labels.csv"
masks = ["object"]
object = "object"
split = "split"
group = "group"
"""


def tiny_study(
    asked: str,
    *,
    images: str = CELLS,
    fit: str = "epochs = 1\nwidth = 4\ndepth = 2",
    methods: str = '["saliency"]',
    count: int = 6,
) -> str:
    """Return a study file that trains a tiny net, explains a few images, and asks one further question."""
    return TINY.format(images=images, fit=fit, methods=methods, count=count, asked=asked)


def write_images(folder: Path, count: int = 8, size: int = 16) -> None:
    random = np.random.default_rng(0)
    (folder / "masks").mkdir(parents=True)
    rows = ["image,label,split,group,object,truth"]
    for index in range(count):
        label = index % 2
        pixels = random.integers(0, 120, (size, size, 3), dtype=np.uint8)
        spot = np.zeros((size, size), np.uint8)
        spot[5:8, 4 + label * 4 : 7 + label * 4] = 255
        pixels[spot > 0] += 120
        outline = np.zeros((size, size), np.uint8)
        outline[4:-4, 4:-4] = 255
        name = f"im{index:02d}"
        Image.fromarray(pixels).save(folder / f"{name}.png")
        Image.fromarray(spot).save(folder / "masks" / f"{name}_truth.png")
        Image.fromarray(outline).save(folder / "masks" / f"{name}_object.png")
        rows.append(f"{name}.png,{'ab'[label]},test,g{index // 2},masks/{name}_object.png,masks/{name}_truth.png")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


def write_net(path: Path, **changes: int) -> None:
    settings = NET | changes
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = residual_net(**settings).eval()
    source = Source(factory="pellucid.models.networks:residual_net", settings=settings)
    channels = settings["channels"]
    model = Model(
        network, classes=("a", "b"), task="classification", source=source,
        preprocess=Normalise((0.3,) * channels, (0.2,) * channels),
    )  # fmt: skip
    save_model(model, path)


def write_bench(folder: Path) -> Path:
    write_images(folder / "data")
    write_net(folder / "net.safetensors")
    (folder / "study.toml").write_text(STUDY)
    return folder


@pytest.fixture(scope="session")
def new_bench():
    return write_bench


@pytest.fixture(scope="session")
def tiny():
    return tiny_study


@pytest.fixture(scope="session")
def new_net():
    return write_net


@pytest.fixture
def bench(tmp_path):
    """A folder with images, a trained net and a study file."""
    return write_bench(tmp_path)


@pytest.fixture
def changed(bench):
    """Rewrite the study file with replacements."""

    def change(*pairs: tuple[str, str]) -> Path:
        text = (bench / "study.toml").read_text()
        for old, new in pairs:
            assert old in text
            text = text.replace(old, new)
        (bench / "study.toml").write_text(text)
        return bench / "study.toml"

    return change


@pytest.fixture
def on_dask():
    """Run a study on two Dask processes."""
    distributed = pytest.importorskip("distributed")

    def run(study):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
            ) as cluster:
                study.run(scheduler=cluster.scheduler_address)
        return study

    return run
