"""Edit and test: change the image as an interpretation says, and see whether the model answers to it and not to a null."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from rich.progress import track
from scipy.stats import false_discovery_control
from torch import Tensor

from pellucid.errors import BadRecipe, CannotExplain, ShapeError
from pellucid.hashing import hash_seed
from pellucid.interpretation.evidence import Case, Evidence
from pellucid.interpretation.realism import Realism
from pellucid.interpretation.sign_flips import mean_p_value
from pellucid.intervals import Interval, mean_interval, or_null
from pellucid.measure import EDITS, Edit

__all__ = ["EditTests", "Score", "class_score", "edit_and_test", "edit_and_test_each", "edited_pairs"]

Array = NDArray[np.float64]

Score = Callable[[Tensor], Tensor]
"""From images ``(N, C, *S)`` in their own units to one number each: what is to be explained."""

_LEAST = 5
"""Fewest images on which an edit must be possible before anything is said of it."""

_EFFECTS = pa.schema(
    [("edit", pa.string()), ("moves", pa.string()), ("null", pa.string()),
     *((name + end, pa.float64()) for name in ("change", "null_change", "beyond") for end in ("", "_low", "_high")),
     ("p", pa.float64()), ("q", pa.float64()), ("realistic", pa.float64()), ("n", pa.int64()), ("groups", pa.int64())]
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class EditTests:
    """What edits did to a score.

    Attributes
    ----------
    table
        One row an image and edit: image, group, edit, change (of the score under the edit), null_change (under its null),
        beyond (size of the first less that of the second, no score counting for more than the surest of the untouched
        images, see `beyond_null`), realistic (whether the edited image looks real; null where nothing told).
    effects
        One row an edit, strongest first: edit, moves (phenotypes), null (what it controls for); change, null_change and
        beyond with their 95 % intervals over groups; p (of beyond: that it is above 0 by chance, sign flips of groups), q
        (Benjamini and Hochberg over the edits); realistic (share), n, groups.
    """

    table: pa.Table
    effects: pa.Table

    def effect(self, edit: str | Edit) -> Interval:
        """Return how far an edit moves the score, with sign."""
        return self._interval(edit, "change")

    def beyond(self, edit: str | Edit) -> Interval:
        """Return how much further than its null an edit moves the score."""
        return self._interval(edit, "beyond")

    def _interval(self, edit: str | Edit, name: str) -> Interval:
        rows = [row for row in self.effects.to_pylist() if row["edit"] == str(EDITS.parse(edit))]
        if not rows:
            raise BadRecipe(f"{edit} was not tested; there are {', '.join(self.effects['edit'].to_pylist())}")
        value, low, high = (
            float("nan") if rows[0][name + end] is None else rows[0][name + end] for end in ("", "_low", "_high")
        )
        return Interval(value, low, high, rows[0]["n"], rows[0]["groups"])


def class_score(evidence: Evidence, label: int) -> Score:
    """Return the model's log-odds of one class."""
    return lambda images: evidence.log_odds(images, torch.full((len(images),), label))


def edit_and_test(
    score: Score,
    cases: Sequence[Case],
    edits: Sequence[str | Edit],
    *,
    realism: Realism | None = None,
    seed: int = 0,
    progress: bool = False,
) -> EditTests:
    """Apply every edit and its null to every image and measure the paired change of the score.

    A model that answers to the edit and not to the null uses what the edit moves. An edit that does not fit an object (no
    spot to remove) leaves that image out of its row.

    Parameters
    ----------
    score
        What is explained, such as `class_score`.
    cases
        Images with the outline of their object and their independent group.
    edits
        Texts or values of `pellucid.measure.EDITS`.
    realism
        Of real images, to say which edited images still look like them.
    seed
        Draws of an edit derive from it and the image's id, and are shared with the null.
    progress
        Whether to show a bar.

    Raises
    ------
    CannotExplain
        When there are no images.
    """
    return edit_and_test_each({"": score}, cases, edits, realism=realism, seed=seed, progress=progress)[""]


def edit_and_test_each(
    scores: Mapping[str, Score],
    cases: Sequence[Case],
    edits: Sequence[str | Edit],
    *,
    realism: Realism | None = None,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, EditTests]:
    """Test the same edited images for several scores, such as one a class or one a model; see `edit_and_test`."""
    if not cases:
        raise CannotExplain("edit_and_test needs images with the outline of an object; there are none")
    asked = [EDITS.parse(edit) for edit in edits]
    untouched = torch.stack([case.image for case in cases])
    before = {name: _numbers(score, untouched) for name, score in scores.items()}
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in scores}
    for edit in track(list(dict.fromkeys(asked)), "editing images", transient=True, disable=not progress):
        kept, changed, idle = edited_pairs(cases, edit, seed)
        if not kept:
            continue
        names = [cases[row].id for row in kept]
        real = [None] * len(kept) if realism is None else (realism.distance(changed, names) <= 1).tolist()
        for score_name, score in scores.items():
            start = before[score_name]
            after, after_null = (_numbers(score, images) for images in (changed, idle))
            further = beyond_null(start[kept], after, after_null, limit=float(np.abs(start).max()))
            rows[score_name] += [
                {"image": name, "group": cases[row].group, "edit": str(edit), "change": float(change),
                 "null_change": float(null_change), "beyond": float(beyond), "realistic": looks}
                for row, name, change, null_change, beyond, looks in zip(
                    kept, names, after - start[kept], after_null - start[kept], further, real, strict=True
                )
            ]  # fmt: skip
    return {name: EditTests(_table(own), _effects(own, asked, seed)) for name, own in rows.items()}


def beyond_null(before: Array, after: Array, after_null: Array, *, limit: float) -> Array:
    """Return how much further than its null an edit moves each score ``(N,)``.

    No score counts for more than `limit`, the furthest from 0 of any untouched image: a null that makes a sure call surer than any
    has not answered, however large the number.
    """
    moved, idle = (np.abs(np.clip(scores, -limit, limit) - before) for scores in (after, after_null))
    return np.asarray(moved - idle)


def _numbers(score: Score, images: Tensor) -> Array:
    return np.asarray(score(images).double().cpu().numpy(), dtype=np.float64)


def edited_pairs(cases: Sequence[Case], edit: Edit, seed: int) -> tuple[list[int], Tensor, Tensor]:
    """Return the rows that the edit fits, the edited images and their nulls."""
    kept, pairs = [], []
    for row, case in enumerate(cases):
        stream = hash_seed(seed, str(edit), case.id)
        try:
            pairs.append([verb(case.image, case.outline, generator=torch.Generator().manual_seed(stream)).image
                          for verb in (edit, edit.null)])  # fmt: skip
        except ShapeError:  # too small or too large for it, or without spots or colour
            continue
        kept.append(row)
    if not kept:
        return [], torch.empty(0), torch.empty(0)
    changed, idle = (torch.stack(list(images)) for images in zip(*pairs, strict=True))
    return kept, changed, idle


def _table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    schema = pa.schema(
        [("image", pa.string()), ("group", pa.string()), ("edit", pa.string()), ("change", pa.float64()),
         ("null_change", pa.float64()), ("beyond", pa.float64()), ("realistic", pa.bool_())]
    )  # fmt: skip
    return pa.Table.from_pylist(list(rows), schema=schema)


def _effects(rows: Sequence[dict[str, Any]], edits: Sequence[Edit], seed: int) -> pa.Table:
    found = []
    for edit in dict.fromkeys(edits):
        own = [row for row in rows if row["edit"] == str(edit)]
        if len(own) >= _LEAST:
            found.append(_effect(edit, own, seed))
    told = [row for row in found if row["p"] is not None]
    for row, q in zip(told, false_discovery_control([row["p"] for row in told]) if told else [], strict=True):
        row["q"] = float(q)
    return pa.Table.from_pylist(sorted(found, key=lambda row: -row["beyond"]), schema=_EFFECTS)


def _effect(edit: Edit, own: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    groups = [str(row["group"]) for row in own]
    numbers = {name: np.array([row[name] for row in own], dtype=float) for name in ("change", "null_change", "beyond")}
    row: dict[str, Any] = {"edit": str(edit), "moves": ", ".join(edit.moves), "null": edit.controls, "q": None}
    for name, values in numbers.items():
        interval = mean_interval(values, groups=groups, seed=seed)
        row |= {name: interval.value, f"{name}_low": or_null(interval.low), f"{name}_high": or_null(interval.high)}
    real = [row["realistic"] for row in own]
    return row | {
        "p": or_null(mean_p_value(numbers["beyond"], groups=groups, side="above", seed=seed)),
        "realistic": None if None in real else float(np.mean([bool(one) for one in real])),
        "n": len(own), "groups": len(set(groups)),
    }  # fmt: skip
