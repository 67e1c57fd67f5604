"""Results as plain values for JSON: what is not a number is null."""

import math
from typing import Any

from pellucid.models import Estimate, Performance

__all__ = ["plain_performance"]

_ESTIMATES = ("accuracy", "balanced_accuracy", "auc", "calibration_error", "brier")


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _estimate(found: Estimate) -> dict[str, float | None]:
    return {name: _number(getattr(found, name)) for name in ("value", "low", "high")}


def plain_performance(found: Performance | None) -> dict[str, Any]:
    """Return what ``performance.json`` holds; without labels nothing can be said, and it is empty."""
    if found is None:
        return {}
    rows = [
        {name: _number(value) if isinstance(value, float) else value for name, value in row.items()}
        for row in found.table.to_pylist()
    ]
    return {name: _estimate(getattr(found, name)) for name in _ESTIMATES} | {
        "baseline": found.baseline,
        "images": found.images,
        "groups": found.groups,
        "classes": list(found.classes),
        "confusion": found.confusion.tolist(),
        "interval": found.interval,
        "by_class": rows,
        "summary": found.summary,
        "warnings": list(found.warnings),
    }
