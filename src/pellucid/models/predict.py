"""What a classifier says of every image of a set, batch by batch; unreadable images are listed, not fatal."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import torch
from rich.progress import Progress
from torch import Tensor

from pellucid.errors import BadImage, CannotExplain, ShapeError
from pellucid.images import ImageSet
from pellucid.models.model import Model
from pellucid.models.passes import Passes
from pellucid.models.pixels import Failure

__all__ = ["Predictions", "calibrated_logits", "predict", "two_columns"]


@dataclass(frozen=True)
class Predictions:
    """What a model says of images.

    Attributes
    ----------
    table
        One row a readable image: image, label (class number or null), predicted (class number), confidence
        (calibrated probability of the predicted class), margin (calibrated probability of it less that of the next),
        and one raw ``logit_<class>`` an output.
    logits
        ``(N, K)`` raw, in the order of the rows.
    failures
        Images that could not be read, and why.
    """

    table: pa.Table
    logits: Tensor
    failures: tuple[Failure, ...]


def two_columns(logits: Tensor) -> Tensor:
    """Return logits ``(N, K)`` with K of 2 or more: a one-logit net is the log-odds of its second class."""
    return torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits


def calibrated_logits(passes: Passes, images: Tensor) -> Tensor:
    """Return calibrated logits ``(N, K)``, float64, for images in their own units; a one-logit net has two columns.

    Raises
    ------
    CannotExplain
        When the model is no classifier.
    """
    model = passes.model
    outputs = passes.outputs(model.prepare(images)).cpu()
    if outputs.ndim != 2 or model.task == "regression":
        raise CannotExplain(f"the model is no classifier: its outputs have shape {tuple(outputs.shape)}")
    logits: Tensor = two_columns(outputs).double() / model.temperature
    return logits


def predict(
    model: Model,
    images: ImageSet,
    ids: Sequence[str] | None = None,
    *,
    batch_size: int | None = None,
    progress: bool = False,
) -> Predictions:
    """Classify images of any number; memory is bounded by one batch.

    Parameters
    ----------
    model
        A classifier; its `temperature` calibrates the confidence and leaves the logits raw.
    images, ids
        Which images; all when `ids` is None.
    batch_size
        Images a pass; default automatic.
    progress
        Whether to show a bar.

    Raises
    ------
    ShapeError
        When the model does not take these images, or is no classifier.
    BadImage
        When no image could be read.
    """
    chosen = images.ids if ids is None else tuple(ids)
    read: list[str] = []
    failures: list[Failure] = []
    logits = torch.empty(0)
    with Passes(model, batch_size=batch_size) as passes, Progress(transient=True, disable=not progress) as bar:
        task = bar.add_task("predicting", total=len(chosen))
        size = passes.batch_size((torch.empty(1, *images.shape),))
        for start in range(0, len(chosen), size):
            names = chosen[start : start + size]
            known, tensors = _readable(images, names, failures)
            if tensors:
                found = _classified(passes.outputs(model.prepare(torch.stack(tensors)))).cpu()
                if not read:  # one block from the start: a small one a batch, kept, would hold memory apart all over
                    logits = found.new_empty(len(chosen), found.shape[1])
                logits[len(read) : len(read) + len(known)] = found
                read += known
            bar.advance(task, len(names))
    if not read:
        why = f": {failures[0].reason}" if failures else ""
        raise BadImage(f"none of the {len(chosen)} images could be read{why}")
    logits = logits[: len(read)]
    return Predictions(_table(model, images, read, logits), logits, tuple(failures))


def _readable(images: ImageSet, names: Sequence[str], failures: list[Failure]) -> tuple[list[str], list[Tensor]]:
    known, tensors = [], []
    for name in names:
        try:
            tensors.append(images.load(name))
        except BadImage as error:
            failures.append(Failure(name, str(error)))
        else:
            known.append(name)
    return known, tensors


def _classified(outputs: Tensor) -> Tensor:
    if outputs.ndim != 2:
        raise ShapeError(f"predict takes a classifier with outputs (N, K); this model returns {tuple(outputs.shape)}")
    return outputs


def _table(model: Model, images: ImageSet, read: Sequence[str], logits: Tensor) -> pa.Table:
    both = two_columns(logits)
    best = (both / model.temperature).double().softmax(1).topk(2, dim=1)
    names = model.classes if len(model.classes) == logits.shape[1] else tuple(map(str, range(logits.shape[1])))
    labels = images.label(read) if images.labels is not None else (None,) * len(read)
    columns: dict[str, pa.Array] = {
        "image": pa.array(read, pa.string()),
        "label": pa.array(labels, pa.int64()),
        "predicted": pa.array(both.argmax(1).tolist(), pa.int64()),
        "confidence": pa.array(best.values[:, 0].numpy()),
        "margin": pa.array((best.values[:, 0] - best.values[:, 1]).numpy()),
    }
    return pa.table(columns | {f"logit_{name}": pa.array(logits[:, place].numpy()) for place, name in enumerate(names)})
