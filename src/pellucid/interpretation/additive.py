"""Glass boxes on measured features: every model here is a formula or a few questions that a person can read."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import QuantileTransformer, SplineTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from pellucid.errors import ShapeError

__all__ = ["CLASSIFIERS", "Classifier", "classifier", "matrix", "regressor"]

Array = NDArray[np.float64]
Classifier = Literal["linear", "tree", "additive"]
CLASSIFIERS: tuple[Classifier, ...] = ("linear", "tree", "additive")

_DEPTH = 3
"""Questions that a tree may ask in a row."""
_KNOTS = 4
_RANKS = 50


def matrix(measures: Mapping[str, Sequence[float | None]] | pa.Table) -> tuple[Array, tuple[str, ...]]:
    """Return the numeric columns of measures ``(N, F)``, missing values NaN, and their names.

    Raises
    ------
    ShapeError
        When there is no column of numbers, or columns differ in length.
    """
    if isinstance(measures, pa.Table):
        chosen = [
            field.name
            for field in measures.schema
            if pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
        ]
        columns = {name: measures[name].to_pylist() for name in chosen if name != "object"}
    else:
        columns = {name: list(values) for name, values in measures.items()}
    if not columns or len({len(values) for values in columns.values()}) > 1:
        raise ShapeError(f"measures need columns of numbers of one length; there are {', '.join(columns) or 'none'}")
    values = np.array([[np.nan if cell is None else float(cell) for cell in column] for column in columns.values()]).T
    return values, tuple(columns)


def _filled() -> list[Any]:
    return [SimpleImputer(strategy="median", keep_empty_features=True, add_indicator=True), VarianceThreshold(1e-24)]


def _curves(rows: int) -> list[Any]:
    """Return a smooth curve for each feature: ranks, so that outliers do not bend it, then splines."""
    ranks = QuantileTransformer(n_quantiles=min(_RANKS, rows), random_state=0)
    return [ranks, SplineTransformer(n_knots=_KNOTS, degree=3, include_bias=False)]


def classifier(kind: Classifier, rows: int, *, seed: int = 0) -> Pipeline:
    """Return an untrained classifier of measured features.

    Parameters
    ----------
    kind
        ``"linear"``: logistic regression on standardised features; ``"tree"``: a decision tree of three questions in a
        row; ``"additive"``: logistic regression on one smooth curve a feature (Hastie & Tibshirani 1986).
    rows
        Images it will be trained on.
    seed
        Of ties.
    """
    steps: dict[str, list[Any]] = {
        "linear": [StandardScaler(), LogisticRegression(C=1.0, max_iter=2000, class_weight="balanced")],
        "tree": [
            DecisionTreeClassifier(max_depth=_DEPTH, min_samples_leaf=5, class_weight="balanced", random_state=seed)
        ],
        "additive": [*_curves(rows), LogisticRegression(C=1.0, max_iter=2000, class_weight="balanced")],
    }
    return make_pipeline(*_filled(), *steps[kind])


def regressor(kind: Classifier, rows: int, *, seed: int = 0) -> Pipeline:
    """Return an untrained regressor of a score on measured features; kinds as for `classifier`, ridge for the formulas."""
    steps: dict[str, list[Any]] = {
        "linear": [StandardScaler(), Ridge(1.0)],
        "tree": [DecisionTreeRegressor(max_depth=_DEPTH, min_samples_leaf=5, random_state=seed)],
        "additive": [*_curves(rows), Ridge(0.3)],
    }
    return make_pipeline(*_filled(), *steps[kind])
