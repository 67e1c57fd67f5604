"""Glass boxes next to the black one: what accuracy is lost by reading measured features instead, and what they copy of it."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import Tensor

from pellucid.errors import CannotExplain, ShapeError
from pellucid.interpretation.additive import CLASSIFIERS, Array, Classifier, classifier, matrix, regressor
from pellucid.intervals import Interval, mean_interval, or_null
from pellucid.models import Model, Passes

__all__ = ["GlassBoxes", "Held", "embedded", "glass_boxes", "support_margins", "surrogates"]

_SCHEMA = pa.schema(
    [("model", pa.string()), *((name + end, pa.float64()) for name in ("accuracy", "gap") for end in ("", "_low", "_high")),
     ("n", pa.int64()), ("groups", pa.int64()), ("trained_on", pa.int64())]
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Held:
    """Measured images: some to learn from, others, of groups not learnt from, to judge on.

    Attributes
    ----------
    train, test
        Measures, one row an image, with the same columns.
    train_labels, test_labels
        Class numbers.
    test_groups
        The independent unit of each judged image.
    """

    train: pa.Table
    test: pa.Table
    train_labels: Sequence[int]
    test_labels: Sequence[int]
    test_groups: Sequence[Hashable] | None = None

    def __post_init__(self) -> None:
        if self.train.column_names != self.test.column_names:
            raise ShapeError("the measures of the images learnt from and judged on differ in their columns")
        for table, labels, what in (
            (self.train, self.train_labels, "learnt from"),
            (self.test, self.test_labels, "judged on"),
        ):
            if table.num_rows != len(labels):
                raise ShapeError(f"{table.num_rows} rows of measures and {len(labels)} labels of the images {what}")
        if len(set(self.train_labels)) < 2 or not len(self.test_labels):
            raise CannotExplain("a glass box needs images of two classes to learn from and images to be judged on")


@dataclass(frozen=True, eq=False)
class GlassBoxes:
    """How well readable models do next to the black box, on the same images.

    Attributes
    ----------
    table
        One row a model, ``black box`` first, then linear, tree and additive and ``commonest class``: model, accuracy and
        gap (the black box's accuracy less its own) with 95 % intervals over groups, n, groups, trained_on.
    fitted
        The trained models by name.
    features
        What they read.
    """

    table: pa.Table
    fitted: dict[str, Pipeline] = field(repr=False)
    features: tuple[str, ...]

    def gap(self, model: str) -> Interval:
        """Return how much more accurate the black box is."""
        row = next(row for row in self.table.to_pylist() if row["model"] == model)
        low, high = (np.nan if row[f"gap_{end}"] is None else row[f"gap_{end}"] for end in ("low", "high"))
        return Interval(row["gap"], low, high, row["n"], row["groups"])

    def effects(self) -> pa.Table:
        """Return what the linear model reads: feature and weight (per standard deviation, towards the second class).

        Raises
        ------
        CannotExplain
            When there are more than two classes.
        """
        linear = self.fitted["linear"]
        weights = linear[-1].coef_
        if len(weights) > 1:
            raise CannotExplain("weights towards one class are told for two classes; ask for a pair of classes")
        names = linear[:-1].get_feature_names_out(self.features)
        order = np.argsort(-np.abs(weights[0]), kind="stable")
        return pa.table({"feature": [str(names[place]) for place in order], "weight": weights[0][order]})


def glass_boxes(held: Held, called: Sequence[int], *, seed: int = 0) -> GlassBoxes:
    """Train readable models on measured features and hold their accuracy against the black box's, image by image.

    Parameters
    ----------
    held
        Measures and labels.
    called
        The black box's class of each judged image.
    seed
        Of ties and intervals.

    References
    ----------
    Rudin 2019, Nature Machine Intelligence 1, 206-215.
    """
    if len(called) != len(held.test_labels):
        raise ShapeError(f"the black box called {len(called)} of {len(held.test_labels)} images")
    (x, names), (judged, _) = matrix(held.train), matrix(held.test)
    truth = np.asarray(held.test_labels)
    models: dict[str, Pipeline] = {k: classifier(k, len(x), seed=seed).fit(x, held.train_labels) for k in CLASSIFIERS}
    answers: dict[str, NDArray[Any]] = {kind: model.predict(judged) for kind, model in models.items()}
    common = np.bincount(held.train_labels).argmax()
    answers = {"black box": np.asarray(called), **answers, "commonest class": np.full(len(truth), common)}
    right = {name: (answer == truth).astype(float) for name, answer in answers.items()}
    rows = [_row(name, right[name], right["black box"], held, seed) for name in answers]
    return GlassBoxes(pa.Table.from_pylist(rows, schema=_SCHEMA), models, names)


def _row(name: str, right: Array, black: Array, held: Held, seed: int) -> dict[str, object]:
    accuracy = mean_interval(right, groups=held.test_groups, bounds=(0.0, 1.0), seed=seed)
    gap = mean_interval(black - right, groups=held.test_groups, bounds=(-1.0, 1.0), seed=seed)
    row: dict[str, object] = {"model": name, "n": gap.n, "groups": gap.groups, "trained_on": len(held.train_labels)}
    for what, found in (("accuracy", accuracy), ("gap", gap)):
        row |= {what: found.value, f"{what}_low": or_null(found.low), f"{what}_high": or_null(found.high)}
    return row


def surrogates(
    held: Held,
    train_called: Sequence[int],
    called: Sequence[int],
    train_score: ArrayLike,
    score: ArrayLike,
    *,
    seed: int = 0,
) -> pa.Table:
    """Train readable models to copy the black box and say how faithfully they do on held-out images.

    Parameters
    ----------
    held
        Measures; its labels play no part.
    train_called, called
        The black box's class of the images learnt from and judged on.
    train_score, score
        Its score of one class, for the explained variance.
    seed
        Of ties and intervals.

    Returns
    -------
    pyarrow.Table
        One row a model: model, fidelity (share of judged images that it calls as the black box does) with low and high,
        explained (share of the score's variance), n, groups.
    """
    (x, _), (judged, _) = matrix(held.train), matrix(held.test)
    wanted, told = np.asarray(train_score, dtype=float), np.asarray(score, dtype=float)
    rows = []
    for kind in CLASSIFIERS:
        same = (_copy(kind, x, train_called, judged, seed) == np.asarray(called)).astype(float)
        found = mean_interval(same, groups=held.test_groups, bounds=(0.0, 1.0), seed=seed)
        predicted = regressor(kind, len(x), seed=seed).fit(x, wanted).predict(judged)
        rest = float(((told - predicted) ** 2).sum() / max(((told - wanted.mean()) ** 2).sum(), np.finfo(float).tiny))
        rows.append({"model": kind, "fidelity": found.value, "low": or_null(found.low), "high": or_null(found.high),
                     "explained": 1 - rest, "n": found.n, "groups": found.groups})  # fmt: skip
    return pa.Table.from_pylist(rows)


def _copy(kind: Classifier, x: Array, called: Sequence[int], judged: Array, seed: int) -> NDArray[np.int64]:
    if len(set(called)) < 2:
        return np.full(len(judged), next(iter(called)))
    return np.asarray(classifier(kind, len(x), seed=seed).fit(x, called).predict(judged))


def embedded(model: Model, images: Tensor, *, layer: str | None = None, batch_size: int | None = None) -> Array:
    """Return what a layer of the model makes of images in their own units ``(N, F)``, averaged over space.

    Raises
    ------
    CannotExplain
        When the model names no embedding and no layer is given.
    """
    name = layer or model.embedding
    if name is None:
        raise CannotExplain("deep features need a layer: give layer=, or name it once with Model(..., embedding=)")
    with Passes(model, batch_size=batch_size) as passes:
        found = passes.outputs(model.prepare(images), name).double().cpu()
    return np.asarray(found.flatten(2).mean(2).numpy() if found.ndim > 2 else found.numpy())


def support_margins(
    train: Array,
    labels: Sequence[int],
    test: Array,
    test_labels: Sequence[int],
    *,
    groups: Sequence[Hashable] | None = None,
) -> tuple[pa.Table, Interval]:
    """Tell two classes apart by a support vector machine on deep features, and say how far each image lies from the border.

    Parameters
    ----------
    train, test
        ``(N, F)`` of `embedded`.
    labels, test_labels
        Of two classes.
    groups
        The independent unit of each judged image.

    Returns
    -------
    table
        One row a judged image: label, called, distance (to the border between the classes, in margins: beyond 1 the
        image lies outside the margin; signed, positive towards the higher class number).
    accuracy
        On the judged images.

    Raises
    ------
    CannotExplain
        When the labels are not of two classes.

    References
    ----------
    Cortes & Vapnik 1995, Machine Learning 20, 273-297.
    """
    if len(set(labels)) != 2:
        raise CannotExplain(
            f"the margin is told between two classes, not {len(set(labels))}; give the images of a pair"
        )
    machine = make_pipeline(StandardScaler(), SVC(kernel="linear", C=1.0, class_weight="balanced")).fit(train, labels)
    called = machine.predict(test)
    table = pa.table(
        {"label": list(test_labels), "called": called.tolist(), "distance": machine.decision_function(test)}
    )
    return table, mean_interval((called == np.asarray(test_labels)).astype(float), groups=groups, bounds=(0.0, 1.0))
