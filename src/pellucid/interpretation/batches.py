"""Batches (years, scanners, stains) that classes are tied to, and where in the image a batch can be read from colour."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from pellucid.interpretation.confounding import classes_apart
from pellucid.interpretation.evidence import Case, Evidence
from pellucid.interpretation.swaps import grown, rim_of
from pellucid.intervals import Interval, mean_interval

__all__ = ["REGIONS", "Batches", "batch_probe", "find_batches", "mean_colour", "region_of"]

REGIONS = ("inside", "rim", "outside")
"""The object less its edge, the edge, and everything else."""

_FOLDS = 5
_STEPS = 1e5
"""Colour is told in so many steps of the display range: what a mean loses to rounding is no trace of a batch."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Batches:
    """How images fall into batches, and how far each class belongs to each of them.

    Attributes
    ----------
    name
        What tells them apart, in words.
    of
        Image to batch; images without one are left out.
    names
        The batches.
    shares
        ``(K, B)`` part of each class's images that lies in each batch.
    """

    name: str
    of: Mapping[str, str]
    names: tuple[str, ...]
    shares: Array

    def tie(self, own: str, other: str) -> Array:
        """Return how much more each class belongs to one batch than to another ``(K,)``, of range 1; 0 where none does."""
        more = self.shares[:, self.names.index(other)] - self.shares[:, self.names.index(own)]
        span = float(more.max() - more.min())
        return np.asarray(more / span if span > 0 else 0 * more)

    def span(self, own: str, other: str) -> float:
        """Return how far two batches are tied to classes: 0, every class is as often in both; 2, none is in both."""
        more = self.shares[:, self.names.index(other)] - self.shares[:, self.names.index(own)]
        return float(more.max() - more.min())


def find_batches(evidence: Evidence) -> Batches | None:
    """Return the batches that the user names or, where a class shares no group with the others, its groups and theirs."""
    if evidence.images.labels is None:
        return None
    ids = [str(image) for image in evidence.predictions["image"].to_pylist()]
    if evidence.batch is not None:
        values = zip(ids, evidence.images.column(evidence.batch, ids), strict=True)
        return _batches(
            evidence, evidence.batch, {image: str(value) for image, value in values if value not in {None, ""}}
        )
    apart = [evidence.images.classes[label] for label in classes_apart(evidence)]
    if not apart:
        return None
    named = [evidence.images.classes[label] for label in evidence.images.label(ids)]
    of = {image: f"of {name}" if name in apart else "of the others" for image, name in zip(ids, named, strict=True)}
    return _batches(evidence, f"{evidence.group}s", of)


def _batches(evidence: Evidence, name: str, of: Mapping[str, str]) -> Batches:
    names = tuple(sorted(set(of.values())))
    counts = Counter(zip(evidence.images.label(list(of)), of.values(), strict=True))
    table = np.array(
        [[counts[label, batch] for batch in names] for label in range(len(evidence.images.classes))], float
    )
    return Batches(name, of, names, table / np.maximum(table.sum(1, keepdims=True), 1))


def region_of(case: Case, region: str) -> Tensor:
    """Return the pixels of a region of `REGIONS` ``(*S)``; an object too thin to lose its edge is all inside."""
    eroded = torch.from_numpy(ndimage.binary_erosion(case.outline.numpy(), iterations=rim_of(case.outline)))
    core = eroded if bool(eroded.any()) else case.outline
    if region == "inside":
        return core
    return ~grown(case.outline) if region == "outside" else grown(case.outline) & ~core


def mean_colour(case: Case, region: str) -> Tensor:
    """Return the mean ``(C,)`` of a region, zero where the object leaves none."""
    pixels = case.image[:, region_of(case, region)].double()
    return pixels.mean(1) if pixels.shape[1] else pixels.new_zeros(len(pixels))


def batch_probe(cases: Sequence[Case], batches: Sequence[str], region: str, evidence: Evidence) -> Interval:
    """Return the balanced accuracy of the batch from a region's mean colour alone, with its interval by group.

    A logistic regression that judges groups it was not trained on. The interval joins those of the batches' recalls.
    """
    low, high = evidence.images.record.display_range
    colour = np.array([mean_colour(case, region).numpy() for case in cases])
    colour = np.round((colour - low) / (high - low) * _STEPS) / _STEPS
    truth, groups = np.array(batches), [case.group for case in cases]
    right = _predicted(colour, truth, _folds(batches, groups, evidence.random("batch folds"))) == truth
    recalls = [
        mean_interval(right[rows], groups=[groups[row] for row in rows], bounds=(0.0, 1.0), seed=evidence.seed)
        for rows in (np.flatnonzero(truth == name) for name in sorted(set(batches)))
    ]
    value, count = float(np.mean([recall.value for recall in recalls])), len(recalls)
    below = float(np.linalg.norm([recall.value - recall.low for recall in recalls])) / count
    above = float(np.linalg.norm([recall.high - recall.value for recall in recalls])) / count
    return Interval(value, max(0.0, value - below), min(1.0, value + above), len(cases), len(set(groups)))


def _predicted(colour: Array, truth: NDArray[np.str_], folds: NDArray[np.int64]) -> NDArray[np.str_]:
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced"))
    predicted = np.full_like(truth, "")
    for fold in np.unique(folds):
        learnt = folds != fold
        if len(set(truth[learnt])) > 1:  # else there is nothing to tell apart, and the fold counts as wrong
            predicted[~learnt] = probe.fit(colour[learnt], truth[learnt]).predict(colour[~learnt])
    return predicted


def _folds(batches: Sequence[str], groups: Sequence[str], random: np.random.Generator) -> NDArray[np.int64]:
    """Return a fold for each image: groups whole, those of every batch dealt out in turn."""
    pairs = sorted(set(zip(batches, groups, strict=True)))
    fewest = min(sum(batch == name for batch, _ in pairs) for name in set(batches))
    count, fold = min(_FOLDS, fewest), dict[str, int]()
    for name in sorted(set(batches)):
        own = [group for batch, group in pairs if batch == name and group not in fold]
        fold |= {own[place]: turn % count for turn, place in enumerate(random.permutation(len(own)))}
    return np.array([fold[group] for group in groups])
