"""What a study keeps of its counterfactuals: the images, one row an image, the doses of every strip, and the scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from pellucid.counterfactual import Exaggeration, score_counterfactuals, summarise
from pellucid.interpretation import Evidence
from pellucid.intervals import Interval, or_null
from pellucid.models import load_model
from pellucid.study.counterfactual_search import Sought
from pellucid.study.repeats import SHUFFLED, net_names, net_weights
from pellucid.study.setup import Setup

__all__ = ["IMAGES", "Strips", "score_row", "score_rows", "strips_of", "tables_of"]

IMAGES = "counterfactual/images.safetensors"
"""``images`` and ``changed`` ``(N, C, *S)`` by row of the table, ``strips`` ``(M, K, C, *S)`` of the rows with a strip."""

_STRIPS = 2
"""Strips kept of each pair of classes."""


@dataclass(frozen=True)
class Strips:
    """The strips of all pairs of classes, and where those that are kept come from.

    Attributes
    ----------
    doses
        Of every strip.
    all
        One a pair of classes.
    kept
        ``(place among the pairs, row)`` of each strip that is kept.
    images
        Of those ``(M, K, C, *S)``.
    """

    doses: tuple[float, ...]
    all: tuple[Exaggeration, ...]
    kept: tuple[tuple[int, int], ...]
    images: Tensor


def strips_of(found: Sequence[Sought], doses: Sequence[float]) -> Strips:
    """Show every image in doses; the first two of each pair of classes are kept."""
    made = tuple(one.found.exaggerate(doses) for one in found)
    kept = tuple((place, row) for place, one in enumerate(found) for row in range(len(one.found.ids))[:_STRIPS])
    return Strips(tuple(doses), made, kept, torch.stack([made[place].images[row] for place, row in kept]))


def tables_of(setup: Setup, found: Sequence[Sought], strips: Strips) -> dict[str, pa.Table]:
    """Keep the images and return one row an image, and one a dose of each."""
    place = {key: number for number, key in enumerate(strips.kept)}
    rows = [
        _row(one, row) | {"strip": place.get((pair, row))}
        for pair, one in enumerate(found) for row in range(len(one.found.ids))
    ]  # fmt: skip
    doses = [
        dose for one, strip in zip(found, strips.all, strict=True) for row, name in enumerate(one.found.ids)
        for dose in _doses(strip, row, name, one.target)
    ]  # fmt: skip
    images, changed = (torch.cat([getattr(one.found, which) for one in found]).cpu() for which in ("images", "changed"))
    setup.store.write_tensors(IMAGES, {"images": images, "changed": changed, "strips": strips.images.half().cpu()})
    return {"counterfactuals": pa.Table.from_pylist(rows), "counterfactual_doses": pa.Table.from_pylist(doses)}


def _row(one: Sought, row: int) -> dict[str, Any]:
    found = one.found
    return {
        "image": found.ids[row], "source": one.source, "target": one.target, "status": found.status[row],
        "start": float(found.scores[row, 0]), "score": float(found.scores[row, -1]), "goal": float(found.aim.goal[row]),
        "strain": float(found.strain[row, -1]), "length": float(found.move.length[row]), "reason": found.reasons[row],
    }  # fmt: skip


def _doses(strip: Exaggeration, row: int, image: str, target: str) -> list[dict[str, Any]]:
    return [
        {"image": image, "target": target, "dose": dose, "score": float(strip.scores[row, place]),
         "strain": float(strip.strain[row, place]), "spearman": or_null(float(strip.spearman[row]))}
        for place, dose in enumerate(strip.doses)
    ]  # fmt: skip


def score_rows(setup: Setup, evidence: Evidence, found: Sequence[Sought]) -> list[dict[str, Any]]:
    """Return every score with its interval over groups; nets that learnt the task again judge validity too."""
    others = _nets(setup)
    table = pa.concat_tables(
        [score_counterfactuals(one.found, others=others, batch_size=evidence.batch_size) for one in found]
    )
    ids = list(dict.fromkeys(table["image"].to_pylist()))
    groups = dict(zip(ids, evidence.groups(ids), strict=True)) if evidence.group is not None else None
    summary = summarise(table, groups=groups, seed=evidence.seed)
    return [score_row(score, model, interval) for (score, model), interval in summary.items()]


def score_row(score: str, model: str, interval: Interval) -> dict[str, Any]:
    """Return one row of the table of scores."""
    return {"score": score, "model": model, "value": or_null(interval.value), "low": or_null(interval.low),
            "high": or_null(interval.high), "n": interval.n, "groups": interval.groups}  # fmt: skip


def _nets(setup: Setup) -> Mapping[str, Any]:
    paths = {name: net_weights(setup, name) for name in net_names(setup) if name != SHUFFLED}
    return {name: load_model(path, device=setup.plan.device) for name, path in paths.items() if path.is_file()}
