"""What makes a study this study and no other: its choices, its images, the versions it began with."""

import hashlib
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pellucid.errors import BadStudy
from pellucid.images import ImageSet
from pellucid.study.config import StudyConfig, table_defaults
from pellucid.study.store import Store

__all__ = ["has_begun", "manifest_digest", "refuse_changes", "resolved", "versions"]

_VERSIONS = ("pellucid", "torch", "numpy", "scipy", "scikit-image", "pyarrow", "zarr")

_PLACES = frozenset({"images.path", "model.weights", "model.path", "model.trust"})


def versions() -> dict[str, str]:
    """Return the versions of what decides the numbers."""
    return {"python": platform.python_version()} | {name: version(name) for name in _VERSIONS}


def resolved(config: StudyConfig, root: Path) -> dict[str, Any]:
    """Return what the study file will say; a path inside the study stays relative, so that the study can be moved."""
    values = config.resolved()
    for table, key in (("images", "path"), ("model", "weights"), ("model", "path"), ("slide", "path")):
        told = values.get(table, {}).get(key)
        if told is not None and Path(told).is_relative_to(root.resolve()):
            values[table][key] = Path(told).relative_to(root.resolve()).as_posix()
    return {key: value for key, value in values.items() if value != {}}


def manifest_digest(images: ImageSet) -> str:
    """Return the hash of what the study knows of its images without opening them."""
    known = (images.ids, images.labels, images.classes, images.shape, images.record.axes, images.record.channels,
             sorted(images.masks), images.split_column, images.group_column)  # fmt: skip
    columns = [images.column(name) for name in (images.split_column, images.group_column) if name is not None]
    return hashlib.sha256(repr((known, columns)).encode()).hexdigest()


def has_begun(store: Store, settings: Mapping[str, Any]) -> bool:
    """Say whether the directory holds results that other choices would not fit."""
    return "plan" in settings or (store.root / "model").exists() or (store.root / "predictions.parquet").exists()


def refuse_changes(root: Path, begun: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a study file that would give other numbers than those that the directory already holds."""
    for key, was, now in _differences(_choices(begun), _choices(wanted)):
        raise BadStudy(
            f"{root} was begun with {key} = {was!r} and the study file now says {now!r}; choose another --out"
        )
    if begun["provenance"]["images"] != wanted["provenance"]["images"]:
        raise BadStudy(f"the images or labels changed since {root} began; choose another --out")


def _choices(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return every choice by its dotted key; where files lie is no choice, their content is checked by its hash."""
    flat = {"seed": values["seed"]}
    for table in ("images", "model", "fit", "explain", "evaluate", "pipeline", "stability", "run", "store"):
        asked = values.get(table, {})
        known = table_defaults(table) if asked else {}  # of keys that a study began without, which this version added
        flat |= {f"{table}.{key}": value for key, value in (known | asked).items()}
    return {key: value for key, value in flat.items() if key not in _PLACES}


def _differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    return [(key, was.get(key), now.get(key)) for key in {**was, **now} if was.get(key) != now.get(key)]
