"""Images, outlines and models made by hand, so that what drives each model is known exactly."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy import ndimage

from pellucid.evaluation.ranking import RANKING
from pellucid.evaluation.scores import SCHEMA
from pellucid.images import ImageSet
from pellucid.images.imageset import ImageRecord
from pellucid.interpretation import Evidence
from pellucid.models import Model

SIZE = 28


def _image_set(pixels, outlines, labels, *, groups=None, classes=None):
    ids = tuple(f"image {row:03d}" for row in range(len(pixels)))
    place = {name: row for row, name in enumerate(ids)}
    metadata = pa.table({"smear": pa.array(groups)}) if groups is not None else pa.table({})
    return ImageSet(
        ids=ids,
        record=ImageRecord({4: "CYX", 5: "CZYX"}[pixels.ndim], tuple(map(str, range(pixels.shape[1])))),
        shape=tuple(pixels.shape[1:]),
        load=lambda name: pixels[place[name]],
        classes=classes or tuple(f"kind {label}" for label in range(max(labels) + 1)),
        labels=tuple(labels),
        metadata=metadata,
        masks={"object": lambda name: outlines[place[name]]},
    )


def _disc(centre, radius, size=SIZE):
    y, x = np.mgrid[:size, :size]
    return np.hypot(y - centre[0], x - centre[1]) <= radius


def _ground(random, channels):
    """A background that knows nothing of the label: its own colour, slope, coarse texture and noise."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
    slope = random.uniform(-0.1, 0.1) * y + random.uniform(-0.1, 0.1) * x
    texture = ndimage.gaussian_filter(random.standard_normal((SIZE, SIZE)), 2.0)
    colour = random.uniform(0.15, 0.3, channels)
    return colour[:, None, None] + slope + 0.1 * texture + 0.02 * random.standard_normal((channels, SIZE, SIZE))


def _cells(label_of, *, count=40, seed=0, channels=1, classes=2, groups=None):
    """Draw centred bright cells; `label_of(random, label)` says which traits a class has.

    Traits: radius, brightness, spot (brightness), tint (of the background), tag (brightness of a corner patch).
    """
    random = np.random.default_rng(seed)
    labels = [row % classes for row in range(count)]
    pixels, outlines = [], []
    for label in labels:
        traits = {"radius": 7.0, "brightness": 0.7, "spot": 0.0, "tint": 0.0, "tag": 0.0} | label_of(random, label)
        image = _ground(random, channels)
        inside = _disc((SIZE / 2 - 0.5, SIZE / 2 - 0.5), traits["radius"])
        image[0] += traits["tint"] * ~inside
        image[:, :4, -4:] += traits["tag"]
        image = np.where(inside, traits["brightness"] + 0.02 * random.standard_normal(image.shape), image)
        image = image + traits["spot"] * _disc(SIZE / 2 + random.uniform(-3, 3, 2), 1.5)
        pixels.append(torch.from_numpy(image).float())
        outlines.append(torch.from_numpy(inside).long())
    return _image_set(torch.stack(pixels), outlines, labels, groups=groups)


def _two(value):
    """Logits of two classes from one number an image: positive speaks for class 1."""
    return torch.stack([-value, value], 1) / 2


MIDDLE = slice(SIZE // 2 - 2, SIZE // 2 + 2)
MODELS = {
    "background colour": lambda x: _two(60 * (x[:, 0, -3:, :].mean((1, 2)) - 0.3)),
    "corner tag": lambda x: _two(20 * (x[:, :, :4, -4:].mean((1, 2, 3)) - 0.4)),
    "object brightness": lambda x: _two(60 * (x[:, :, MIDDLE, MIDDLE].mean((1, 2, 3)) - 0.7)),
    "object area": lambda x: _two(0.1 * (torch.sigmoid(40 * (x.mean(1) - 0.5)).sum((1, 2)) - 155)),
    "spot": lambda x: _two(20 * (torch.logsumexp(40 * x.mean(1).flatten(1), 1) / 40 - 1.0)),
}
"""What each model reads, and nothing else."""

TRAITS = {
    "background colour": lambda random, label: {"tint": 0.15 * label},
    "corner tag": lambda random, label: {"tag": 0.4 * label},
    "object brightness": lambda random, label: {"brightness": (0.62, 0.78)[label] + random.normal(0, 0.01)},
    "object area": lambda random, label: {"radius": (6.0, 8.0)[label] + random.normal(0, 0.2)},
    "spot": lambda random, label: {"spot": 0.2 + 0.2 * label},
}
"""What tells the classes apart in images that fit the model of that name."""


def _evidence(model, images, **more):
    model = Model.of(model)
    with torch.no_grad():
        logits = model.network(*model.prepare(images.tensor()))
    predicted = logits.argmax(1) if logits.shape[1] > 1 else (logits[:, 0] > 0).long()
    table = pa.table({
        "image": list(images.ids),
        "label": pa.array(images.labels, pa.int64()),
        "predicted": predicted.tolist(),
    })  # fmt: skip
    given = {
        "model": model, "images": images, "ids": images.ids, "predictions": table, "methods": (),
        "maps": lambda method, ids: torch.zeros(len(ids), 1, *images.shape[1:]), "scores": SCHEMA.empty_table(),
        "ranking": RANKING.empty_table(), "object_mask": "object",
        "group": "smear" if images.metadata.num_columns else None,
    }  # fmt: skip
    return Evidence(**given | more)


@pytest.fixture(scope="session")
def lab():
    """Draw images, take a model that reads one thing, and put both before the finders."""
    return SimpleNamespace(
        SIZE=SIZE,
        MODELS=MODELS,
        TRAITS=TRAITS,
        cells=_cells,
        disc=_disc,
        evidence=_evidence,
        image_set=_image_set,
        two=_two,
    )
