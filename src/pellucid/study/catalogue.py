"""What methods and metrics there are, as plain values for tables and machines."""

from dataclasses import asdict, fields
from typing import Any

from pellucid.attribution import METHODS
from pellucid.evaluation import METRICS
from pellucid.recipes import Recipe

__all__ = ["method_catalogue", "metric_catalogue"]


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value in {float("inf"), float("-inf")}:
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _settings(recipe: type[Recipe]) -> dict[str, Any]:
    return {field.name: _plain(field.default) for field in fields(recipe)}


def _entry(name: str, recipe: type[Recipe], told: Any) -> dict[str, Any]:
    described = {key: _plain(value) for key, value in asdict(told).items()}
    return {"name": name, "settings": _settings(recipe), **described}


def method_catalogue() -> list[dict[str, Any]]:
    """Return every method by name: its settings with their defaults, and its taxonomy."""
    return [_entry(name, METHODS[name], METHODS[name].taxonomy) for name in sorted(METHODS)]


def metric_catalogue() -> list[dict[str, Any]]:
    """Return every metric by name: its settings with their defaults, and its profile (no bound is null)."""
    return [_entry(name, METRICS[name], METRICS[name].profile) for name in sorted(METRICS)]
