"""What conclusions rest on: the first images in the order of a hash, so that a study of any size ends in the same memory.

A mean needs sums alone, so means are those of all images; what is resampled or compared image by image is not.
"""

import heapq
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pellucid.evaluation import Scores
from pellucid.hashing import hash_key
from pellucid.study.setup import Setup
from pellucid.study.store import part_name
from pellucid.study.tables import in_shards

__all__ = ["MEANS", "ranked_images", "ranked_predictions", "ranked_scores", "score_means"]

MEANS = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("metric", "method")]
    + [
        pa.field("images", pa.int64(), nullable=False),
        pa.field("mean", pa.float64()),
        pa.field("deviation", pa.float64()),
    ]
)
"""Mean score of all explained images and the standard deviation between them, one line a metric and method."""

_KEYS = ("metric", "method")


def ranked_images(setup: Setup) -> int:
    """Return how many explained images, from the first, conclusions rest on: whole tasks, or all."""
    return in_shards(setup.config.evaluate.ranked, len(setup.plan.ids), setup.plan.shard)


def ranked_scores(setup: Setup) -> Scores:
    """Return the scores that conclusions rest on.

    Raises
    ------
    BadStudy
        When a part of them is missing.
    """
    tasks = -(-ranked_images(setup) // setup.plan.shard)
    return Scores.concat([Scores.read(_part(setup, task)) for task in range(tasks)])


def ranked_predictions(setup: Setup) -> pa.Table:
    """Return what the model says of the ranked images, filled up in the order of the same hash to `evaluate.ranked`."""
    table, most = setup.store.table("predictions.parquet"), setup.config.evaluate.ranked
    if not most or table.num_rows <= most:
        return table
    own = pc.is_in(table["image"], pa.array(setup.plan.ids[: ranked_images(setup)], pa.string()))
    others = table["image"].filter(pc.invert(own)).to_pylist()
    missing = max(0, most - pc.sum(own).as_py())
    more = heapq.nsmallest(missing, others, key=lambda image: hash_key(setup.config.seed, image))
    return table.filter(pc.or_(own, pc.is_in(table["image"], pa.array(more, pa.string()))))


def score_means(setup: Setup) -> pa.Table:
    """Return the mean score of every metric and method over all explained images, part by part; see `MEANS`."""
    sums: dict[tuple[str, str], np.ndarray] = {}
    for task in sorted(setup.store.done(setup.plan.tasks)):
        table = pq.read_table(_part(setup, task), columns=[*_KEYS, "value"])
        table = table.append_column("square", pc.multiply(table["value"], table["value"]))
        found = table.group_by(list(_KEYS)).aggregate([("value", "count"), ("value", "sum"), ("square", "sum")])
        for row in found.to_pylist():
            own = sums.setdefault((row["metric"], row["method"]), np.zeros(3))
            own += [row["value_count"], row["value_sum"] or 0.0, row["square_sum"] or 0.0]
    rows = [
        dict(zip(_KEYS, key, strict=True)) | _moments(*own.tolist()) for key, own in sorted(sums.items())
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=MEANS)


def _moments(count: float, total: float, squares: float) -> dict[str, float | int | None]:
    if not count:
        return {"images": 0, "mean": None, "deviation": None}
    mean = total / count
    spread = np.sqrt(max(0.0, squares - count * mean**2) / (count - 1)) if count > 1 else None
    return {"images": int(count), "mean": mean, "deviation": spread}


def _part(setup: Setup, task: int) -> Path:
    return setup.store.root / "scores" / part_name(task)
