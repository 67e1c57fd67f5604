"""Train the reference network on labelled images: resumable, deterministic, judged on groups it never saw."""

import hashlib
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional

from pellucid.errors import BadImage, BadStudy
from pellucid.images import ImageSet
from pellucid.models.augment import Augment
from pellucid.models.calibrate import calibrated_temperature
from pellucid.models.checkpoint import read_checkpoint, write_checkpoint
from pellucid.models.model import Model, Normalise, Source
from pellucid.models.networks import ResidualNet, residual_net
from pellucid.models.performance import Performance, performance
from pellucid.models.pixels import Failure, Pixels, read_pixels
from pellucid.models.predict import predict
from pellucid.models.split import Split, split_images

__all__ = ["Fitted", "fit"]

_FACTORY = "pellucid.models.networks:residual_net"
_SMALL = 48
_WARM_UP = 0.2


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


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """All that decides the outcome; a checkpoint of another plan is not resumed."""

    epochs: int
    seed: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    patience: int
    balance: bool
    augment: Augment | None
    network: dict[str, int]
    device: str
    images: str = ""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience", "learning_rate"):
            if not getattr(self, name) > 0:
                raise BadStudy(f"fit({name}={getattr(self, name)}): {name} must be above 0")

    def stream(self, epoch: int) -> int:
        """Return the seed of an epoch (0 draws the weights): nothing random outlives an epoch, so any can be resumed."""
        return int.from_bytes(hashlib.sha256(f"{self.seed}:epoch {epoch}".encode()).digest()[:7])

    def rate(self, progress: float) -> float:
        """Return the learning rate after this fraction of the run: a linear warm-up, then a cosine to nothing."""
        if progress < _WARM_UP:
            return self.learning_rate * (0.04 + 0.96 * progress / _WARM_UP)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP)))


@dataclass
class _Part:
    """Images of one part of the split with their labels."""

    pixels: Pixels
    ids: tuple[str, ...]
    labels: Tensor
    normalise: Normalise

    def batches(self, size: int, generator: torch.Generator | None = None) -> list[Tensor]:
        count = len(self.ids)
        order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
        return list(torch.tensor_split(order, math.ceil(count / size)))

    def read(self, rows: Tensor, device: str) -> tuple[Tensor, Tensor]:
        x = self.pixels.batch([self.ids[row] for row in rows])
        return self.normalise(x).to(device), self.labels[rows].to(device)


@dataclass
class _Run:
    """The state of a training run: what a checkpoint holds."""

    plan: _Plan
    network: ResidualNet
    optimiser: torch.optim.Optimizer
    weights: Tensor
    epoch: int = 0
    stale: int = 0
    best_loss: float = math.inf
    best: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        return self.epoch >= self.plan.epochs or self.stale >= self.plan.patience

    def state(self) -> dict[str, Any]:
        kept = {name: getattr(self, name) for name in ("epoch", "stale", "best_loss", "best", "history")}
        return kept | {
            "settings": asdict(self.plan), "network": self.network.state_dict(), "optimiser": self.optimiser.state_dict(),
        }  # fmt: skip

    def resume(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        for name in ("epoch", "stale", "best_loss", "best", "history"):
            setattr(self, name, state[name])

    def advance(self, train: _Part, val: _Part, spatial: str) -> None:
        """Train for one epoch, then look at the validation images."""
        loss = self._train(train, spatial)
        logits = self.logits(val)
        val_loss = float(functional.cross_entropy(logits, val.labels, weight=self.weights.cpu()))
        accuracy = float((logits.argmax(1) == val.labels).double().mean())
        self.epoch += 1
        self.stale += 1
        if val_loss < self.best_loss:
            self.best_loss, self.stale = val_loss, 0
            self.best = {name: tensor.detach().cpu().clone() for name, tensor in self.network.state_dict().items()}
        self.history.append(
            {"epoch": self.epoch, "learning_rate": self.optimiser.param_groups[0]["lr"], "train_loss": loss,
             "val_loss": val_loss, "val_accuracy": accuracy}
        )  # fmt: skip

    def _train(self, part: _Part, spatial: str) -> float:
        generator = torch.Generator().manual_seed(self.plan.stream(self.epoch + 1))
        batches = part.batches(self.plan.batch_size, generator)
        self.network.train()
        total = 0.0
        for step, rows in enumerate(batches):
            for group in self.optimiser.param_groups:
                group["lr"] = self.plan.rate((self.epoch + (step + 1) / len(batches)) / self.plan.epochs)
            x, labels = part.read(rows, self.plan.device)
            if self.plan.augment is not None:
                x = self.plan.augment(x, spatial, generator)
            self.optimiser.zero_grad(set_to_none=True)
            loss = functional.cross_entropy(self.network(x), labels, weight=self.weights)
            torch.autograd.backward(loss)
            self.optimiser.step()
            total += float(loss.detach()) * len(rows)
        return total / len(part.ids)

    def logits(self, part: _Part) -> Tensor:
        """Return the network's outputs ``(N, K)`` on the CPU."""
        self.network.eval()
        with torch.inference_mode():
            parts = [
                self.network(part.read(rows, self.plan.device)[0]).cpu() for rows in part.batches(self.plan.batch_size)
            ]
        return torch.cat(parts).clone()


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
    plan = _Plan(
        epochs=epochs, seed=seed, batch_size=batch_size, learning_rate=learning_rate, weight_decay=weight_decay,
        patience=patience, balance=balance, augment=(Augment() if augment else None) if isinstance(augment, bool) else augment, network=_network(images, width, depth),
        device=device or ("cuda" if torch.cuda.is_available() else "cpu"), images=_digest(images, parts),
    )  # fmt: skip
    pixels, failures = read_pixels(images, (*parts.train, *parts.val), progress=progress)
    train_ids, val_ids = (tuple(name for name in ids if name in pixels.rows) for ids in (parts.train, parts.val))
    _refuse_untrainable(images, train_ids, val_ids)
    normalise = pixels.normalise(train_ids)
    train, val = (_Part(pixels, ids, torch.tensor(images.label(ids)), normalise) for ids in (train_ids, val_ids))
    run = _started(plan, train.labels)
    with _repeatable():
        _train_to_the_end(
            run, train, val, images.record.spatial, Path(checkpoint) if checkpoint else None, progress=progress
        )
        logits = run.logits(val)
    model = Model(
        run.network, classes=images.classes, preprocess=normalise, task="classification", embedding="pool",
        temperature=calibrated_temperature(logits, val.labels),
        source=Source(factory=_FACTORY, settings=plan.network, shape=tuple(images.shape)),
    )  # fmt: skip
    judged_on = "test" if parts.test else "val"
    judged, unread = _judged(model, images, parts.test or val_ids, group, seed, progress=progress)
    history = pa.Table.from_pylist(run.history)
    return Fitted(model, history, judged, judged_on, parts, (*failures, *unread))


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


def _refuse_untrainable(images: ImageSet, train: Sequence[str], val: Sequence[str]) -> None:
    if not val:
        raise BadImage("there is no readable validation image; early stopping and calibration need some")
    present = set(images.label(train))
    for number, name in enumerate(images.classes):
        if number not in present:
            raise BadImage(f"the class {name!r} has no readable training image; leave it out or move some to train")
    if len(train) < 2 * len(images.classes):
        raise BadImage(f"{len(train)} training images are too few for {len(images.classes)} classes")


def _started(plan: _Plan, labels: Tensor) -> _Run:
    with torch.random.fork_rng():
        torch.manual_seed(plan.stream(0))
        network = residual_net(**plan.network).to(plan.device)
    decayed = [tensor for tensor in network.parameters() if tensor.ndim > 1]
    plain = [tensor for tensor in network.parameters() if tensor.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": plan.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=plan.learning_rate,
    )
    counts = torch.bincount(labels, minlength=plan.network["classes"])
    weights = len(labels) / (len(counts) * counts) if plan.balance else torch.ones(len(counts))
    return _Run(plan, network, optimiser, weights.to(plan.device))


def _repeatable() -> AbstractContextManager[None]:
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return flags


def _train_to_the_end(
    run: _Run, train: _Part, val: _Part, spatial: str, checkpoint: Path | None, *, progress: bool
) -> None:
    state = read_checkpoint(checkpoint, asdict(run.plan)) if checkpoint is not None else None
    if state is not None:
        run.resume(state)
    with Progress(transient=True, disable=not progress) as bar:
        task = bar.add_task("training", total=run.plan.epochs, completed=run.epoch)
        while not run.finished:
            run.advance(train, val, spatial)
            if checkpoint is not None:
                write_checkpoint(checkpoint, run.state())
            accuracy = run.history[-1]["val_accuracy"]
            bar.update(task, advance=1, description=f"training (validation accuracy {accuracy:.2f})")
    if not run.best:
        raise BadStudy(
            f"training diverged: no epoch had a finite validation loss; lower learning_rate={run.plan.learning_rate}"
        )
    run.network.load_state_dict(run.best)
    run.network.eval()


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
