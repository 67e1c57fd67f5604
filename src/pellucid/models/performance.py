"""How good the model is, with intervals: what stands before every explanation of it."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.errors import ShapeError
from pellucid.intervals import share_interval
from pellucid.models.predict import two_columns
from pellucid.models.resampling import Estimate, clusters_of, percentile, resamples, unbiased

__all__ = ["Performance", "performance"]

Array = NDArray[np.float64]

_BINS = 15
_FEW_GROUPS = 10


@dataclass(frozen=True)
class Performance:
    """What a classifier achieves on images it was not trained on.

    Attributes
    ----------
    accuracy, balanced_accuracy
        Fraction right; the mean of the classes' recalls.
    auc
        One against the rest, averaged over the classes.
    calibration_error
        Expected calibration error: mean distance of confidence and accuracy over 15 equal bins.
    brier
        Squared distance of the probabilities from the truth, summed over classes: 0 is best, 2 worst.
    baseline
        Accuracy of always naming the commonest class of these images.
    images, groups
        How many; `groups` is None where every image stands for itself.
    confusion
        ``(K, K)`` counts: rows are the labels, columns the predictions.
    classes
        Class names.
    interval
        How the intervals were made.
    table
        Long: metric, class (null where it is over all), value, low, high (null where nothing can be said), images.
    warnings
        What a reader must know.
    """

    accuracy: Estimate
    balanced_accuracy: Estimate
    auc: Estimate
    calibration_error: Estimate
    brier: Estimate
    baseline: float
    images: int
    groups: int | None
    confusion: NDArray[np.int64]
    classes: tuple[str, ...]
    interval: str
    table: pa.Table
    warnings: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """One sentence for a report."""
        of = f" from {self.groups} groups" if self.groups is not None else ""
        return (
            f"The model names the right one of {len(self.classes)} classes in {100 * self.accuracy.value:.1f} % of "
            f"{self.images} images{of} (95 % interval {100 * self.accuracy.low:.1f} to {100 * self.accuracy.high:.1f} %, "
            f"{self.interval}; always naming the commonest class gives {100 * self.baseline:.1f} %)."
        )


def performance(
    labels: Sequence[int],
    logits: Tensor,
    *,
    classes: Sequence[str] = (),
    groups: Sequence[Hashable] | None = None,
    temperature: float = 1.0,
    seed: int = 0,
) -> Performance:
    """Measure a classifier on held-out images, every number with a 95 % interval.

    Parameters
    ----------
    labels
        One class number an image.
    logits
        ``(N, K)`` raw outputs; one column is the log-odds of class 1.
    classes
        Class names; default: their numbers.
    groups
        One value an image (patient, smear, plate); whole groups are then resampled. Without, images are taken as
        independent: accuracy gets Wilson's interval and the rest a bootstrap over images.
    temperature
        Calibration: probabilities are ``softmax(logits / temperature)``.
    seed
        Of the resampling.

    Raises
    ------
    ShapeError
        When labels, logits, groups and classes do not fit each other.

    References
    ----------
    Field and Welsh, Bootstrapping clustered data, J. R. Stat. Soc. B 2007.
    """
    outputs = two_columns(logits.detach().double().cpu())
    truth, names = _checked(labels, outputs, classes, groups)
    chance = (outputs / temperature).softmax(1).numpy()
    cluster, clusters = clusters_of(groups, len(truth))
    measured = _Measured(truth, chance, outputs.argmax(1).numpy())
    estimates = _estimates(measured, cluster, clusters, seed)
    interval = f"bootstrap over {clusters} groups"
    correct = estimates["accuracy", -1].value
    if groups is None or correct in {0.0, 1.0}:  # where every group is alike a bootstrap knows no doubt
        interval = "Wilson" if groups is None else f"Wilson over {clusters} groups"
        share = share_interval(round(correct * clusters), clusters)
        estimates["accuracy", -1] = Estimate(correct, share.low, share.high)
    confusion = np.zeros((len(names), len(names)), np.int64)
    np.add.at(confusion, (truth, measured.predicted), 1)
    return Performance(
        **{name: estimates[name, -1] for name in _OVERALL},
        baseline=float(np.bincount(truth).max() / len(truth)),
        images=len(truth),
        groups=clusters if groups is not None else None,
        confusion=confusion,
        classes=names,
        interval=interval,
        table=_table(estimates, names, truth),
        warnings=_warnings(clusters if groups is not None else None, truth, names),
    )


_OVERALL = ("accuracy", "balanced_accuracy", "auc", "calibration_error", "brier")


def _checked(
    labels: Sequence[int], outputs: Tensor, classes: Sequence[str], groups: Sequence[Hashable] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    truth = np.asarray(labels, dtype=np.int64)
    if outputs.ndim != 2 or len(outputs) != len(truth) or not len(truth):
        raise ShapeError(
            f"{len(truth)} labels do not fit logits of shape {tuple(outputs.shape)}; give (N, K), N above 0"
        )
    width = outputs.shape[1]
    if not torch.isfinite(outputs).all():
        raise ShapeError("the logits hold NaN or infinity, so no accuracy can be stated")
    if truth.min() < 0 or truth.max() >= width:
        raise ShapeError(f"the labels run from {truth.min()} to {truth.max()}; the model has outputs 0 to {width - 1}")
    if classes and len(classes) != width:
        raise ShapeError(f"{len(classes)} class names were given for {width} outputs")
    if groups is not None and len(groups) != len(truth):
        raise ShapeError(f"{len(groups)} groups were given for {len(truth)} images")
    return truth, tuple(classes) or tuple(map(str, range(width)))


def _ratio(above: Array, below: Array) -> Array:
    unknown: Array = np.full(np.broadcast(above, below).shape, np.nan)
    return np.divide(above, below, out=unknown, where=below > 0)


def _estimates(
    measured: "_Measured", cluster: NDArray[np.int64], clusters: int, seed: int
) -> dict[tuple[str, int], Estimate]:
    value = measured(np.ones((1, len(cluster))))
    resampled = [measured(weights) for weights in resamples(cluster, clusters, seed)]
    estimates = {}
    for name, (found,) in value.items():
        drawn = np.concatenate([part[name] for part in resampled])
        make = unbiased if name[0] == "calibration_error" else percentile
        estimates[name] = make(float(found), drawn)
    return estimates


class _Measured:
    """All metrics of weighted images at once: `weights` ``(B, N)`` to ``{(metric, class): (B,)}``, −1 for overall."""

    def __init__(self, truth: NDArray[np.int64], chance: Array, predicted: NDArray[np.int64]) -> None:
        self.truth, self.chance, self.predicted = truth, chance, predicted
        self.width = chance.shape[1]
        rows = np.arange(len(truth))
        self.right = (predicted == truth).astype(np.float64)
        self.is_class = np.eye(self.width)[truth]
        self.said_class = np.eye(self.width)[predicted]
        self.brier = ((chance - self.is_class) ** 2).sum(1)
        confidence = chance[rows, predicted]
        self.excess = _binned(np.minimum((confidence * _BINS).astype(int), _BINS - 1), confidence - self.right)
        self.auc = [_auc(chance[:, place], self.is_class[:, place]) for place in range(self.width)]

    def __call__(self, weights: Array) -> dict[tuple[str, int], Array]:
        total = weights.sum(1)
        hits = weights @ (self.is_class * self.said_class)
        recall = _ratio(hits, weights @ self.is_class)
        precision = _ratio(hits, weights @ self.said_class)
        area = np.stack([auc(weights) for auc in self.auc], 1)
        found = {
            ("accuracy", -1): weights @ self.right / total,
            ("balanced_accuracy", -1): _mean(recall),
            ("auc", -1): _mean(area),
            ("calibration_error", -1): np.abs(self.excess(weights)).sum(1) / total,
            ("brier", -1): weights @ self.brier / total,
        }
        by_class = {"recall": recall, "precision": precision, "auc": area}
        return found | {
            (name, place): block[:, place] for name, block in by_class.items() for place in range(self.width)
        }


def _mean(block: Array) -> Array:
    """Return the mean over the classes that occur."""
    known = ~np.isnan(block)
    return _ratio(np.where(known, block, 0).sum(1), known.sum(1).astype(np.float64))


def _binned(bins: NDArray[np.int64], values: Array) -> Callable[[Array], Array]:
    """Return the weighted sum of the values in every bin that holds any, as a function of the weights."""
    order = np.argsort(bins, kind="stable")
    starts = np.flatnonzero(np.diff(bins[order], prepend=-1))
    own = values[order]
    return lambda weights: np.add.reduceat(weights[:, order] * own, starts, axis=1)


def _auc(score: Array, positive: Array) -> Callable[[Array], Array]:
    """Return the weighted area under the ROC curve, ties counted half, as a function of the weights."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])
    own = positive[order]

    def area(weights: Array) -> Array:
        sorted_weights = weights[:, order]
        up = np.add.reduceat(sorted_weights * own, starts, axis=1)
        down = np.add.reduceat(sorted_weights * (1 - own), starts, axis=1)
        below = down.cumsum(1) - down / 2
        return _ratio((up * below).sum(1), up.sum(1) * down.sum(1))

    return area


def _table(estimates: dict[tuple[str, int], Estimate], names: tuple[str, ...], truth: NDArray[np.int64]) -> pa.Table:
    counts = np.bincount(truth, minlength=len(names))
    return pa.Table.from_pylist(
        [
            {
                "metric": metric,
                "class": names[place] if place >= 0 else None,
                **{name: None if np.isnan(number) else number for name, number in vars(found).items()},
                "images": int(counts[place]) if place >= 0 else len(truth),
            }
            for (metric, place), found in estimates.items()
        ],
        schema=pa.schema(
            [("metric", pa.string()), ("class", pa.string()), ("value", pa.float64()),
             ("low", pa.float64()), ("high", pa.float64()), ("images", pa.int64())]
        ),
    )  # fmt: skip


def _warnings(groups: int | None, truth: NDArray[np.int64], names: tuple[str, ...]) -> tuple[str, ...]:
    warnings = []
    if groups is not None and groups < _FEW_GROUPS:
        warnings.append(f"the intervals come from {groups} groups only; under {_FEW_GROUPS} they are too narrow")
    missing = [name for place, name in enumerate(names) if place not in truth]
    if missing:
        warnings.append(f"no image shows {', '.join(missing)}, so nothing can be said of it")
    return tuple(warnings)
