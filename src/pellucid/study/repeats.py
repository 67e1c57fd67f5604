"""The task learnt again: nets of other seeds, and one of shuffled labels, held against the explained net's maps.

Every net is kept in the study as soon as it is trained and every shard's comparison as soon as it is made, so that a
killed study goes on where it stood.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.progress import track

from pellucid.attribution import METHODS
from pellucid.errors import BadStudy
from pellucid.evaluation import equally_accurate
from pellucid.evaluation.stability import REPEATED, box_atlas
from pellucid.hashing import hash_key
from pellucid.images import ImageSet
from pellucid.intervals import or_null
from pellucid.models import Model, fit, load_model, predict, save_model, split_images
from pellucid.study.failures import failure_row
from pellucid.study.setup import Setup, device_of
from pellucid.study.store import Store, part_name
from pellucid.study.task import Shard, fixed_arithmetic

__all__ = [
    "SHUFFLED", "ensure_nets", "ensure_repeats", "net_names", "net_weights", "read_repeats", "same_test",
    "shuffled_labels",
]  # fmt: skip

SHUFFLED = "shuffled"

_PART = "_part_of_repeats"


def net_names(setup: Setup) -> tuple[str, ...]:
    """Return the nets that the study trains beside the explained one."""
    asked = setup.config.stability
    if asked is None:
        return ()
    return (*(f"seed {setup.config.seed + 1 + number}" for number in range(asked.seeds)), *[SHUFFLED] * asked.shuffled)


def same_test(images: ImageSet, seed: int) -> ImageSet:
    """Return the images with the split that `seed` draws as a column: the test images stay those of the first net.

    Training and validation images are put together, so that another seed cuts them in another way; where there are no
    test images the validation images judge the net and stay as they are.
    """
    parts = split_images(images, seed=seed)
    held = set(parts.test or parts.val)
    names = ["train" if image not in held else "test" if parts.test else "val" for image in images.ids]
    metadata = images.metadata if images.metadata.num_columns else pa.table({"image": list(images.ids)})
    kept = metadata.drop_columns([_PART]) if _PART in metadata.column_names else metadata
    return replace(images, metadata=kept.append_column(_PART, pa.array(names)), split_column=_PART)


def shuffled_labels(images: ImageSet, seed: int) -> ImageSet:
    """Return the images with the labels dealt out anew: each class keeps its number, in every part of the split."""
    labels, column = list(images.label()), images.column(images.split_column or _PART)
    dealt = list(labels)
    for part in sorted(set(map(str, column))):
        rows = [row for row, own in enumerate(column) if str(own) == part]
        turned = sorted(rows, key=lambda row: hash_key(seed, "shuffled", images.ids[row]))
        for row, giver in zip(rows, turned, strict=True):
            dealt[row] = labels[giver]
    return replace(images, labels=tuple(dealt))


def ensure_nets(setup: Setup, *, progress: bool = False) -> None:
    """Train the nets that are not there yet, each as the explained one was but from another seed."""
    config, store = setup.config, setup.store
    for number, name in enumerate(net_names(setup)):
        path = net_weights(setup, name)
        if path.is_file() or config.fit is None:
            continue
        images, seed = same_test(setup.images, config.seed), config.seed + 1 + number
        fitted = fit(
            shuffled_labels(images, config.seed) if name == SHUFFLED else images, seed=seed, split=images.split_column,
            group=images.group_column, progress=progress, checkpoint=path.with_suffix(".checkpoint.pt"),
            device=device_of(config), **config.fit.model_dump(),
        )  # fmt: skip
        store.write_table(f"model/{path.stem}_history.parquet", fitted.history)
        save_model(fitted.model, path)


def net_weights(setup: Setup, name: str) -> Path:
    """Return where the weights of a net that was trained again lie."""
    return setup.store.root / "model" / f"repeat_{name.replace(' ', '_')}.safetensors"


def ensure_repeats(setup: Setup, *, progress: bool = False) -> None:
    """Judge every net on the held-out images, and explain the first explained images with each of them."""
    names, store = net_names(setup), setup.store
    if not names or store.read_table("stability/nets.parquet") is not None:
        return
    with fixed_arithmetic(setup.plan.threads):
        nets = {name: load_model(net_weights(setup, name), device=setup.plan.device) for name in names}
        rows = [_judged(setup, name, net, progress=progress) for name, net in nets.items()]
        for task in track(range(_shards(setup)), "explaining other nets", transient=True, disable=not progress):
            _compare(setup, task, nets)
    store.write_table("stability/nets.parquet", pa.Table.from_pylist(rows))
    store.forget("findings.json", "report.html")


def read_repeats(store: Store) -> pa.Table:
    """Return every comparison that is on disk, see `pellucid.evaluation.compare_models`."""
    parts = [table for name, table in store.tables("stability").items() if name.startswith("part-")]
    return pa.concat_tables(parts) if parts else pa.table({})


def _shards(setup: Setup) -> int:
    """Return how many shards hold the images that are compared."""
    if setup.config.stability is None:
        raise BadStudy("this study trains no net again; give a table [stability]")
    most = setup.config.stability.images or len(setup.plan.ids)
    return min(setup.plan.tasks, -(-most // setup.plan.shard))


def _judged(setup: Setup, name: str, net: Model, *, progress: bool) -> dict[str, Any]:
    """Return how accurate a net is beside the explained one, on the same images."""
    table = setup.store.table("predictions.parquet")
    ids, labels, own = (table[column].to_pylist() for column in ("image", "label", "predicted"))
    found = predict(net, setup.images, ids, batch_size=setup.plan.batch_size, progress=progress).table
    called = dict(zip(found["image"].to_pylist(), found["predicted"].to_pylist(), strict=True))
    right = np.array([label == mine for label, mine in zip(labels, own, strict=True)], dtype=float)
    other = np.array([label == called.get(image) for label, image in zip(labels, ids, strict=True)], dtype=float)
    column = setup.images.group_column
    groups = None if column is None else [str(value) for value in setup.images.column(column, ids)]
    difference, equal = equally_accurate(right, other, groups=groups, seed=setup.config.seed)
    return {"model": name, "shuffled": name == SHUFFLED, "accuracy": float(other.mean()), "difference": difference.value,
            "low": or_null(difference.low), "high": or_null(difference.high), "equal": equal, "images": len(ids)}  # fmt: skip


def _compare(setup: Setup, task: int, nets: dict[str, Model]) -> None:
    """Write how far the maps of one shard's images lie from those of each net."""
    name, store = f"stability/{part_name(task)}", setup.store
    if (store.root / name).is_file():
        return
    shard = Shard.read(setup, setup.plan.images(task))
    methods = [text for text in setup.plan.methods if not METHODS.parse(text).taxonomy.is_control]
    explanations = [found for method in methods if (found := shard.explain(method)) is not None]
    tables = [_beside(shard, net, model, explanations) for net, model in nets.items()]
    store.write_failures(f"stability-{task:05d}", [
        failure_row("stability", row["sentence"], image=row["image"], method=row["method"], metric=row["metric"])
        for row in shard.failures if row["stage"] == "evaluate"  # the others were told when the image was explained
    ])  # fmt: skip
    store.write_table(name, pa.concat_tables(tables))


def _beside(shard: Shard, name: str, net: Model, explanations: Sequence[Any]) -> pa.Table:
    beside = replace(shard, models=(net,), regions=box_atlas(shard.x.shape[2:]))
    table = beside.score(explanations, REPEATED)
    return table.append_column("model", pa.array([name] * table.num_rows, pa.string()))
