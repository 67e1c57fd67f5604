"""Which pairs of image and counterfactual the report shows, and the smallest part of each change that still flips the answer."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import torch

from pellucid.counterfactual import MinimalMask, minimal_mask
from pellucid.interpretation import Evidence
from pellucid.intervals import Interval, mean_interval
from pellucid.models import Model
from pellucid.study.counterfactual_search import Sought, in_turn
from pellucid.study.setup import Setup

__all__ = ["MASKS", "MASK_SCORES", "mask_intervals", "masks_of", "shown_pairs"]

MASKS = "counterfactual/masks.safetensors"
"""``masks`` ``(M, *S)`` and ``hybrids`` ``(M, C, *S)``, by the number in the column ``mask`` of the chosen rows."""

MASK_SCORES: Mapping[str, str] = {
    "mask_size": "smallest part of the image in which the change alone flips the answer; 1 where only the whole does",
    "mask_area": "area under the answer's change against the part of the image that is changed; 1 is best",
}
"""What each score of the masks is."""

_TABLE = "interpretation/counterfactual_masks.parquet"
_SHOWN = 16


def shown_pairs(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the rows of the table of counterfactuals that are drawn as pairs: valid ones, the pairs of classes in turn."""
    return in_turn(rows, [place for place, row in enumerate(rows) if row["status"] == "reached"], _SHOWN)


def masks_of(setup: Setup, evidence: Evidence, found: Sequence[Sought], rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Find the minimal mask of each pair that is shown, at least one, or read those that are kept.

    Parameters
    ----------
    setup, evidence
        The study and its model.
    found
        The counterfactuals.
    rows
        The table of counterfactuals, in the order of `found`.

    Returns
    -------
    pyarrow.Table
        The table of `MinimalMask` with ``source``, ``target`` and the number ``mask`` of the chosen rows in `MASKS`.
    """
    kept = setup.store.read_table(_TABLE)
    if kept is not None:
        return kept
    shown, start, made = set(shown_pairs(rows)), 0, []
    for one in found:
        chosen = [row for row in range(len(one.found.ids)) if start + row in shown]
        start += len(one.found.ids)
        if chosen:
            made.append((one, _minimal(evidence, one, chosen)))
    masks, hybrids = (torch.cat([getattr(found, name) for _, found in made]) for name in ("masks", "hybrids"))
    setup.store.write_tensors(MASKS, {"masks": masks.cpu(), "hybrids": hybrids.cpu()})
    number = iter(range(len(masks)))
    table = pa.Table.from_pylist([
        {"source": one.source, "target": one.target} | row | {"mask": next(number) if row["chosen"] else None}
        for one, found in made for row in found.table.to_pylist()
    ])  # fmt: skip
    setup.store.write_table(_TABLE, table)
    return table


def _minimal(evidence: Evidence, one: Sought, rows: list[int]) -> MinimalMask:
    real, changed = (images[rows].cpu() for images in (one.found.images, one.found.changed))
    return minimal_mask(
        evidence.model, real, changed, ids=[one.found.ids[row] for row in rows], seed=evidence.seed,
        batch_size=evidence.batch_size, progress=evidence.progress, **_maps(evidence.model),
    )  # fmt: skip


def _maps(model: Model) -> dict[str, Any]:
    """Return the candidate maps: those of `minimal_mask`, or for a model without derivatives the change alone."""
    return {} if model.capabilities.gradients else {"maps": ("difference",)}


def mask_intervals(table: pa.Table, evidence: Evidence) -> dict[str, Interval]:
    """Return the mean of each of `MASK_SCORES` over the shown pairs, with its interval over groups."""
    rows = [row for row in table.to_pylist() if row["chosen"]]
    groups = evidence.groups([row["image"] for row in rows])
    sizes = [1.0 if row["size"] is None else row["size"] for row in rows]
    areas = [row["area"] for row in rows]
    return {
        "mask_size": mean_interval(sizes, groups=groups, bounds=(0.0, 1.0), seed=evidence.seed),
        "mask_area": mean_interval(areas, groups=groups, seed=evidence.seed),
    }
