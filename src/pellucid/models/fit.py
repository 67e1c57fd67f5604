"""Train the reference network on labelled images: resumable, deterministic, judged on groups it never saw."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch

from pellucid.errors import BadImage
from pellucid.images import ImageSet
from pellucid.models.augment import Augment
from pellucid.models.calibrate import calibrated_temperature
from pellucid.models.model import Model, Source
from pellucid.models.performance import Performance, performance
from pellucid.models.pixels import Failure, read_pixels
from pellucid.models.predict import predict
from pellucid.models.split import Split, split_images
from pellucid.models.training import Part, Plan, Run, started, train

__all__ = ["Fitted", "fit"]

_FACTORY = "pellucid.models.networks:residual_net"
_SMALL = 48


@dataclass(frozen=True)
class Fitted:
    """A trained model and how it came about.

    Attributes
    ----------
    model
        With its preprocessing, classes, calibration temperature and source.
    history
        One row an epoch: learning rate, training loss, validation loss and accuracy.
    performance
        On the test images (on the validation images where there are none; `judged_on` says which).
    split
        Which images trained, stopped and judged.
    failures
        Images that could not be read.
    """

    model: Model
    history: pa.Table
    performance: Performance
    judged_on: str
    split: Split
    failures: tuple[Failure, ...]


def fit(
    images: ImageSet,
    *,
    epochs: int = 20,
    seed: int = 0,
    width: int = 16,
    depth: int = 4,
    split: str | None = None,
    group: str | None = None,
    checkpoint: Path | str | None = None,
    progress: bool = False,
    batch_size: int = 32,
    learning_rate: float = 3e-3,
    weight_decay: float = 0.05,
    augment: Augment | bool = True,
    balance: bool = True,
    patience: int = 10,
    device: str | None = None,
) -> Fitted:
    """Train a small residual network to tell the classes of images apart, and say how well it does.

    Parameters
    ----------
    images
        A labelled set; bring it to a modest size first (``read_images(..., size=(80, 160))``).
    epochs
        Passes over the training images; the learning rate rises, then falls to nothing over them.
    seed
        Of the split, the first weights, the order of the images and their augmentation.
    width, depth
        Of `residual_net`.
    split, group
        Metadata columns, see `split_images`; a group is never in two parts and is the unit of the intervals.
    checkpoint
        A file that is rewritten after every epoch; an interrupted run continues from it and ends bitwise equal to an
        uninterrupted one on the same machine, a finished one is only read.
    progress
        Whether to show bars.
    batch_size, learning_rate, weight_decay
        Of AdamW.
    augment
        What may be changed without changing the label; True is ``Augment()``, whose flips assume that orientation
        carries no meaning; False changes nothing.
    balance
        Whether rare classes weigh as much as common ones.
    patience
        Epochs without a better validation loss before training stops; the best weights are kept in any case.
    device
        Default: a CUDA device where there is one.

    Raises
    ------
    BadImage
        When there are no labels, a class has no training image, or the split would leak.
    BadStudy
        When a setting is out of range, the checkpoint belongs to another run, or training diverges.
    """
    parts = split_images(images, split=split, group=group, seed=seed)
    plan = Plan(
        epochs=epochs, seed=seed, batch_size=batch_size, learning_rate=learning_rate, weight_decay=weight_decay,
        patience=patience, balance=balance, network=_network(images, width, depth), images=_digest(images, parts),
        augment=(Augment() if augment else None) if isinstance(augment, bool) else augment,
        device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
    )  # fmt: skip
    training, val, failures = _parts(images, parts, progress=progress)
    run = started(plan, training.labels)
    train(run, training, val, images.record.spatial, Path(checkpoint) if checkpoint else None, progress=progress)
    model = _model(run, training, val, images)
    judged, unread = _judged(
        model, images, parts.test or val.ids, group or images.group_column, seed, progress=progress
    )
    history = pa.Table.from_pylist(run.history)
    return Fitted(model, history, judged, "test" if parts.test else "val", parts, (*failures, *unread))


def _model(run: Run, training: Part, val: Part, images: ImageSet) -> Model:
    """Return what was trained, calibrated on the validation images."""
    return Model(
        run.network, classes=images.classes, preprocess=training.normalise, task="classification", embedding="pool",
        temperature=calibrated_temperature(run.logits(val), val.labels),
        source=Source(factory=_FACTORY, settings=run.plan.network, shape=tuple(images.shape)),
    )  # fmt: skip


def _network(images: ImageSet, width: int, depth: int) -> dict[str, int]:
    if len(images.classes) < 2:
        raise BadImage(f"fit needs two classes or more; these images have {len(images.classes)}")
    dims = len(images.record.spatial)
    if "T" in images.record.spatial and dims > 3:
        raise BadImage(f"fit takes up to three axes after the channel; these images have {images.record.spatial}")
    stem_stride = 2 if min(images.shape[1:]) >= _SMALL else 1
    return {"classes": len(images.classes), "channels": images.shape[0], "dims": dims, "width": width,
            "depth": depth, "stem_stride": stem_stride}  # fmt: skip


def _digest(images: ImageSet, parts: Split) -> str:
    labels = dict(zip(images.ids, images.label(), strict=True))
    told = repr([[(name, labels[name]) for name in ids] for ids in (parts.train, parts.val)] + [images.shape])
    return hashlib.sha256(told.encode()).hexdigest()


def _parts(images: ImageSet, parts: Split, *, progress: bool) -> tuple[Part, Part, tuple[Failure, ...]]:
    """Read the images that train and validate; the preprocessing is that of the training images."""
    pixels, failures = read_pixels(images, (*parts.train, *parts.val), progress=progress)
    training, val = (tuple(name for name in ids if name in pixels.rows) for ids in (parts.train, parts.val))
    _refuse_untrainable(images, training, val)
    normalise = pixels.normalise(training)
    first, second = (Part(pixels, ids, torch.tensor(images.label(ids)), normalise) for ids in (training, val))
    return first, second, failures


def _refuse_untrainable(images: ImageSet, train: Sequence[str], val: Sequence[str]) -> None:
    if not val:
        raise BadImage("there is no readable validation image; early stopping and calibration need some")
    present = set(images.label(train))
    for number, name in enumerate(images.classes):
        if number not in present:
            raise BadImage(f"the class {name!r} has no readable training image; leave it out or move some to train")
    if len(train) < 2 * len(images.classes):
        raise BadImage(f"{len(train)} training images are too few for {len(images.classes)} classes")


def _judged(
    model: Model, images: ImageSet, ids: Sequence[str], group: str | None, seed: int, *, progress: bool
) -> tuple[Performance, tuple[Failure, ...]]:
    predicted = predict(model, images, ids, progress=progress)
    read = predicted.table["image"].to_pylist()
    found = performance(
        images.label(read), predicted.logits, classes=images.classes, temperature=model.temperature, seed=seed,
        groups=images.column(group, read) if group is not None else None,
    )  # fmt: skip
    return found, predicted.failures
