"""The question ``[strategies]``: in how many ways the model decides, and whether one of them hangs on an artefact."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pellucid.concepts import layer_features
from pellucid.errors import BadStudy
from pellucid.interpretation import Evidence, Interpretations, Strategies, find_strategies, linked_views
from pellucid.study.setup import Setup

__all__ = ["answer"]

_LEAST = 20
"""Images that a view needs."""


def answer(setup: Setup, evidence: Evidence) -> Interpretations:
    """Group the maps of one method, name the groups, and lay the images out by picture, layer and map."""
    asked = setup.config.strategies
    if asked is None:
        raise BadStudy("the study does not ask for strategies")
    method = asked.method or _best(evidence)
    if method is not None and method not in evidence.methods:
        raise BadStudy(
            f"strategies.method = {method!r} has no map of every image; there are {', '.join(evidence.judged)}"
        )
    findings, tables, found = find_strategies(evidence, method, frame=asked.frame)
    if found:
        tables["strategy_maps"] = _maps(found)
        views = _views(evidence, found, asked.view)
        if views is not None:
            tables["strategy_views"] = views
    return Interpretations(tuple(findings), tables)


def _best(evidence: Evidence) -> str | None:
    """Return the method that ranks first on the side of faithfulness, or the first there is."""
    ranking = evidence.ranking
    rows = ranking.filter(
        pc.and_(pc.equal(ranking["metric"], "overall"), pc.equal(ranking["family"], "faithfulness-side"))
    )
    ranked = [row["method"] for row in rows.to_pylist() if row["rank"] is not None and row["method"] in evidence.judged]
    return next(iter((*ranked, *evidence.judged)), None)


def _maps(found: dict[str, Strategies]) -> pa.Table:
    rows: list[dict[str, Any]] = [
        {"called": label, "strategy": one.group, "shape": list(one.mean.shape), "mean": one.mean.flatten().tolist(),
         "where": one.where.flatten().tolist()}
        for label, own in found.items() for one in own.named
    ]  # fmt: skip
    return pa.Table.from_pylist(rows)


def _views(evidence: Evidence, found: dict[str, Strategies], how: Any) -> pa.Table | None:
    """Lay the images out by their pixels, by the embedding and by their maps."""
    ids = [name for own in found.values() for name in own.ids]
    if len(ids) < _LEAST:
        return None
    spaces: dict[str, Any] = {
        "pictures": evidence.images.tensor(ids).flatten(1),
        "maps": np.concatenate([own.clusters.features for own in found.values()]),
    }
    layer = evidence.model.embedding
    if layer is not None:
        spaces["model"] = layer_features(
            evidence.model, evidence.images, [layer], ids=ids, batch_size=evidence.batch_size
        )[layer]
    return linked_views(spaces, ids, how, seed=evidence.seed)[1]
