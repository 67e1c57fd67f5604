"""What changes in measured terms: objects of changed images are outlined anew, and their phenotypes are measured again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.errors import CannotExplain
from pellucid.interpretation import Evidence
from pellucid.interpretation.phenotypes import Cluster, clusters
from pellucid.intervals import or_null, resampled_interval
from pellucid.measure import Profiler
from pellucid.measure.profile import OBJECTS
from pellucid.study.counterfactual_search import Sought
from pellucid.study.counterfactual_tables import Strips
from pellucid.study.inquest import profiler_of
from pellucid.study.questions import PhenotypesConfig
from pellucid.study.setup import Setup

__all__ = ["MEASURES", "PHENOTYPES", "phenotypes_of"]

MEASURES = pa.schema([
    ("image", pa.string()), ("source", pa.string()), ("target", pa.string()), ("dose", pa.float64()), ("phenotype", pa.string()),
    ("same", pa.string()), ("unit", pa.string()), ("value", pa.float64()), ("change", pa.float64()),
])  # fmt: skip
"""One row an image, dose and phenotype: its value, and how far it lies from that of the image as it is, in standard
deviations over real images. `same` names those that it cannot be told from; null is what could not be measured."""

PHENOTYPES = pa.schema([
    ("source", pa.string()), ("target", pa.string()), ("phenotype", pa.string()), ("same", pa.string()), ("unit", pa.string()),
    ("spread", pa.float64()), ("median", pa.float64()), ("low", pa.float64()), ("high", pa.float64()), ("n", pa.int64()),
    ("groups", pa.int64()), ("unmeasured", pa.int64()),
])  # fmt: skip
"""One row a pair of classes and phenotype: the median change over valid counterfactuals in standard deviations
(`spread`) over real images, its 95 % interval over groups, and how many could not be measured."""

_KEPT = "counterfactual/phenotypes.safetensors"
_KNOWN = 0.5
"""Least share of the real images in which a phenotype is measured."""

Array = NDArray[np.float64]


def phenotypes_of(
    setup: Setup, evidence: Evidence, real: Tensor, found: Sequence[Sought], strips: Strips
) -> dict[str, pa.Table]:
    """Measure real images, every image of the kept strips, and all valid counterfactuals before and after.

    Objects are outlined and phenotypes chosen as in ``[phenotypes]``, or by its defaults where the study has no such table.

    Parameters
    ----------
    setup, evidence
        The study, its images and groups.
    real
        Real images ``(N, C, *S)``, whose spread is the yardstick.
    found, strips
        The counterfactuals, and the strips that are kept.

    Returns
    -------
    dict of str to pyarrow.Table
        ``counterfactual_measures`` (see `MEASURES`) and ``counterfactual_phenotypes`` (see `PHENOTYPES`).

    Raises
    ------
    CannotExplain
        When the images have no objects that could be outlined, or nothing varies over the real ones.
    """
    record = evidence.images.record
    if len(record.spatial) not in {2, 3}:
        raise CannotExplain(
            f"objects are outlined in two or three axes of space, and these images have {len(record.spatial)}"
        )
    profiler = profiler_of(setup.config.phenotypes or PhenotypesConfig(), record)
    values = _measured(setup, evidence, profiler, real, found, strips)
    yardstick = _Yardstick.of(profiler, values["real"])
    return {
        "counterfactual_measures": pa.Table.from_pylist(list(_measures(yardstick, values, found, strips)), schema=MEASURES),
        "counterfactual_phenotypes": pa.Table.from_pylist(_medians(yardstick, values, evidence, found), schema=PHENOTYPES),
    }  # fmt: skip


def _measured(
    setup: Setup, evidence: Evidence, profiler: Profiler, real: Tensor, found: Sequence[Sought], strips: Strips
) -> dict[str, Array]:
    """Return phenotypes ``(..., P)`` of ``real``, of ``before`` and ``after`` of the valid ones, and of ``strips``; kept once measured."""
    kept = setup.store.read_tensors(_KEPT)
    if kept is None:
        before, after = (
            torch.cat([getattr(one.found, name)[one.valid] for one in found]) for name in ("images", "changed")
        )
        parts = {"real": real, "before": before, "after": after, "strips": strips.images.flatten(0, 1)}
        kept = {name: torch.from_numpy(_whole(profiler, images, evidence)) for name, images in parts.items()}
        kept["strips"] = kept["strips"].reshape(*strips.images.shape[:2], -1)
        setup.store.write_tensors(_KEPT, kept)
    return {name: tensor.numpy() for name, tensor in kept.items()}


def _whole(profiler: Profiler, images: Tensor, evidence: Evidence) -> Array:
    """Return phenotypes ``(N, P)``; an image without an object has none, not even their number."""
    values = profiler(images.cpu(), progress=evidence.progress)
    if OBJECTS in profiler.names:
        values[values[:, profiler.names.index(OBJECTS)] == 0] = np.nan
    return values


@dataclass(frozen=True, eq=False)
class _Yardstick:
    """Phenotypes that vary over real images, those alike put together, and the standard deviation of each.

    Attributes
    ----------
    clusters, units
        What stands for itself and for others, and its unit.
    places
        Columns of the measured values.
    spread
        One standard deviation each.
    """

    clusters: tuple[Cluster, ...]
    units: tuple[str, ...]
    places: list[int]
    spread: Array

    @classmethod
    def of(cls, profiler: Profiler, real: Array) -> "_Yardstick":
        known = np.isfinite(real).mean(0) >= _KNOWN
        if not known.any():
            raise CannotExplain(
                f"{profiler.outline} outlines an object in fewer than half of {len(real)} real images; "
                "give phenotypes.segmentation another recipe"
            )
        size = np.nanmax(np.abs(real[:, known]), axis=0)
        varies = np.flatnonzero(known)[np.nanstd(real[:, known], axis=0) > 1e-9 * np.maximum(size, 1.0)]
        if not len(varies):
            raise CannotExplain(f"no phenotype varies over the {len(real)} real images")
        found = tuple(
            _first(one, profiler.names)
            for one in clusters([profiler.names[place] for place in varies], real[:, varies])
        )
        places = [profiler.names.index(one.name) for one in found]
        units = tuple(profiler.units[one.name] for one in found)
        return cls(found, units, places, np.nanstd(real[:, places], axis=0))

    def rows(self, told: dict[str, Any], values: Array, start: Array) -> Iterable[dict[str, Any]]:
        """Return a row of `MEASURES` for each phenotype of one image ``(P,)``, seen from that of the image as it is."""
        changes = (values - start)[self.places] / self.spread
        for one, unit, place, change in zip(self.clusters, self.units, self.places, changes, strict=True):
            yield told | {"phenotype": one.name, "same": ", ".join(one.others), "unit": unit,
                          "value": or_null(values[place]), "change": or_null(change)}  # fmt: skip


def _first(cluster: Cluster, names: Sequence[str]) -> Cluster:
    """Return a cluster that is called by the first of its phenotypes in the order of the panel, the plainest."""
    name, *others = sorted((cluster.name, *cluster.others), key=names.index)
    return Cluster(name, tuple(others))


def _measures(
    yardstick: _Yardstick, values: dict[str, Array], found: Sequence[Sought], strips: Strips
) -> Iterable[dict[str, Any]]:
    """Return every dose of the kept strips; of the other valid counterfactuals the image and what became of it."""
    for (pair, row), shown in zip(strips.kept, values["strips"], strict=True):
        start = shown[strips.doses.index(0)]
        for dose, one in zip(strips.doses, shown, strict=True):
            yield from yardstick.rows(_told(found[pair], row) | {"dose": dose}, one, start)
    valid = [(pair, row) for pair, one in enumerate(found) for row in one.valid]
    for (pair, row), before, after in zip(valid, values["before"], values["after"], strict=True):
        there = strips.doses if (pair, row) in strips.kept else ()
        for dose, one in ((0.0, before), (1.0, after)):
            if dose not in there:
                yield from yardstick.rows(_told(found[pair], row) | {"dose": dose}, one, before)


def _told(one: Sought, row: int) -> dict[str, Any]:
    return {"image": one.found.ids[row], "source": one.source, "target": one.target}


def _medians(
    yardstick: _Yardstick, values: dict[str, Array], evidence: Evidence, found: Sequence[Sought]
) -> list[dict[str, Any]]:
    changes = (values["after"] - values["before"])[:, yardstick.places] / yardstick.spread
    rows, start = [], 0
    for one in found:
        own = changes[start : start + len(one.valid)]
        start += len(one.valid)
        groups = evidence.groups([one.found.ids[row] for row in one.valid])
        for place, (cluster, unit) in enumerate(zip(yardstick.clusters, yardstick.units, strict=True)):
            rows.append(
                {"source": one.source, "target": one.target, "phenotype": cluster.name, "same": ", ".join(cluster.others),
                 "unit": unit, "spread": float(yardstick.spread[place])} | _median(own[:, place], groups, evidence.seed)
            )  # fmt: skip
    return rows


def _median(changes: Array, groups: Sequence[str], seed: int) -> dict[str, Any]:
    """Return the median change of those that could be measured, with its interval over groups."""
    known = np.flatnonzero(np.isfinite(changes))
    kept = changes[known]
    found = resampled_interval(
        lambda rows: float(np.median(kept[rows])) if len(rows) else np.nan,
        [groups[row] for row in known.tolist()],
        seed=seed,
    )
    return {"median": or_null(found.value), "low": or_null(found.low), "high": or_null(found.high), "n": found.n,
            "groups": found.groups, "unmeasured": len(changes) - len(known)}  # fmt: skip
