"""A finished study run anew from its own directory, and its scores held against the recorded ones."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from pellucid.errors import BadStudy
from pellucid.study.config import RESOLVED_TABLES
from pellucid.study.store import Store
from pellucid.study.study import Study
from pellucid.study.toml import spelt_toml

__all__ = ["Replayed", "compare_scores", "replay"]

_KEYS = ("image", "method", "metric", "step", "seed")


@dataclass(frozen=True)
class Replayed:
    """How the scores of two runs compare.

    Attributes
    ----------
    scores
        How many the first holds.
    equal
        How many of them the second has with the same bits.
    largest
        The largest relative difference of the others; NaN where one of the two has no value.
    missing
        How many only one of the two holds.
    """

    scores: int
    equal: int
    largest: float
    missing: int

    @property
    def same(self) -> bool:
        """Whether every score came back, within what another machine's rounding explains (1e-5)."""
        return not self.missing and self.largest <= _ROUNDING


_ROUNDING = 1e-5


def replay(root: str | Path, out: str | Path, *, data: str | Path | None = None, trust: bool = False) -> Replayed:
    """Run a study again with the batch size, threads and shards of its plan and the model that it holds.

    Parameters
    ----------
    root
        A finished study.
    out
        Directory of the new one.
    data
        Folder of the images, where they lie elsewhere now.
    trust
        Consent to execute what the model's file or factory holds.

    Raises
    ------
    BadStudy
        When `root` holds no finished study, or `out` something else.
    """
    store, again = Store(Path(root)), Path(out)
    first = Study(store.root, trust=trust).scores.table
    settings = store.settings()
    if again.exists() and any(again.iterdir()) and not (again / _FILE).is_file():
        raise BadStudy(f"{again} is not empty; choose another --out")
    again.mkdir(parents=True, exist_ok=True)
    (again / _FILE).write_text(spelt_toml(_asked(settings, store.root)), encoding="utf-8")
    study = Study.create(again / _FILE, again, data=data, trust=trust)
    if store.weights.is_file() and not Store(again).weights.is_file():  # a trained net is not trained again
        shutil.copytree(store.weights.parent, again / "model", dirs_exist_ok=True)
    study.run(progress=False)
    return compare_scores(first, study.scores.table)


_FILE = "replay.toml"


def _asked(settings: dict[str, Any], root: Path) -> dict[str, Any]:
    """Return the study file of the same study, with what the plan fixed as its choices."""
    plan = settings["plan"]
    values = {
        name: dict(value) if isinstance(value, dict) else value
        for name, value in settings.items()
        if name not in RESOLVED_TABLES
    }
    values["run"] = values.get("run", {}) | {name: plan[name] for name in ("batch_size", "threads", "shard")}
    if not plan["device"].startswith("cuda") or torch.cuda.is_available():
        values["run"]["device"] = plan["device"]
    for table, key in (("images", "path"), ("model", "weights")):
        if key in values.get(table, {}):
            values[table][key] = str(root.resolve() / values[table][key])
    return values


def compare_scores(first: pa.Table, second: pa.Table) -> Replayed:
    """Compare two score tables row by row, whatever their order."""
    mine, theirs = _values(first), _values(second)
    both = mine.keys() & theirs.keys()
    pairs = np.array([(mine[key], theirs[key]) for key in both], dtype=float).reshape(-1, 2)
    same = (pairs[:, 0] == pairs[:, 1]) | np.isnan(pairs).all(1)
    other = pairs[~same]
    apart = np.abs(other[:, 0] - other[:, 1]) / np.maximum(np.abs(other).max(1, initial=0), 1e-12)
    largest = float(apart.max()) if len(apart) else 0.0
    return Replayed(len(mine), int(same.sum()), largest, len(mine.keys() ^ theirs.keys()))


def _values(table: pa.Table) -> dict[tuple[Any, ...], float]:
    columns = [table[name].to_pylist() for name in (*_KEYS, "value")]
    return {
        key: float("nan") if value is None else value
        for *key_, value in zip(*columns, strict=True)
        for key in (tuple(key_),)
    }
