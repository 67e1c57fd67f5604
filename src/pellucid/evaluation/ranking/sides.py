"""The two overall rankings: which metrics they rest on, and what each weighs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pellucid.evaluation.metric import FAMILIES
from pellucid.evaluation.ranking.average import Branch, tree
from pellucid.evaluation.ranking.redundancy import agreement, clusters
from pellucid.evaluation.ranking.standings import Standings

__all__ = ["SIDES", "Side", "metric_places", "sides", "single"]

SIDES = tuple(dict.fromkeys(side for side in FAMILIES.values() if side))

_LEVELS = ("side", "family", "cluster", "metric", "setting")


@dataclass(frozen=True, eq=False)
class Side:
    """What an overall ranking is made of.

    Attributes
    ----------
    name
        ``"faithfulness-side"`` or ``"plausibility"``.
    branch
        The average that gives its places.
    metrics
        Names of the metrics that count.
    taus
        ``(M, M)`` their agreement, Kendall's τ over real methods; see `redundancy.agreement`.
    cluster
        Metric to family and number of the cluster within it.
    leaves
        Metric to the positions of its standings.
    """

    name: str
    branch: Branch
    metrics: tuple[str, ...]
    taus: np.ndarray
    cluster: Mapping[str, tuple[str, int]]
    leaves: Mapping[str, frozenset[int]]

    def weight(self, metric: str) -> float:
        """Return the metric's share of the overall ranking."""
        own = self.cluster[metric]
        families = {family for family, _ in self.cluster.values()}
        within = {label for label in self.cluster.values() if label[0] == own[0]}
        mates = [label for label in self.cluster.values() if label == own]
        return 1 / (len(families) * len(within) * len(mates))

    def without(self, metric: str) -> Branch:
        """Return the average without a metric; where it was the last of its cluster or family, that goes too."""
        return self.branch.without(self.leaves[metric])


def metric_places(found: Standings, metric: str) -> np.ndarray:
    """Return ``(N, K)`` places under one metric, over all its settings and seeds."""
    own = [entry for entry in found.entries if entry.name == metric]
    keys = [(entry.metric,) for entry in own]
    return tree(own, keys, ("metric", "setting")).mean([entry.places for entry in own])


def sides(found: Standings, left_out: Mapping[str, str], redundant: float) -> list[Side]:
    """Return the overall rankings that the scores allow, without the settings in `left_out`."""
    built = []
    for name in SIDES:
        own = [FAMILIES.get(entry.family) == name and entry.metric not in left_out for entry in found.entries]
        if any(own):
            built.append(_side(name, found, own, redundant))
    return built


def _side(name: str, found: Standings, own: list[bool], redundant: float) -> Side:
    family = {entry.name: entry.family for entry, counts in zip(found.entries, own, strict=True) if counts}
    metrics = tuple(family)
    taus = agreement([metric_places(found, metric)[:, _judged(found)] for metric in metrics])
    cluster: dict[str, tuple[str, int]] = {}
    for one in dict.fromkeys(family.values()):
        members = [at for at, metric in enumerate(metrics) if family[metric] == one]
        labels = clusters(taus[np.ix_(members, members)], redundant)
        cluster |= {metrics[at]: (one, label) for at, label in zip(members, labels, strict=True)}
    counted = list(zip(found.entries, own, strict=True))
    keys = [(*cluster[entry.name], entry.name, entry.metric) if counts else () for entry, counts in counted]
    leaves = {
        metric: frozenset(at for at, (entry, counts) in enumerate(counted) if counts and entry.name == metric)
        for metric in metrics
    }
    return Side(name, tree(found.entries, keys, _LEVELS), metrics, taus, cluster, leaves)


def _judged(found: Standings) -> list[int]:
    """Return the real methods, of which metrics are to agree: all put the controls last, which makes none redundant."""
    real = [column for column, control in enumerate(found.controls) if not control]
    return real if len(real) > 2 else list(range(len(found.methods)))


def single(found: Standings) -> list[tuple[Branch, str, str]]:
    """Return a branch, family and label for every setting of a metric, and for a metric over all of several settings."""
    places: dict[str, dict[str, list[int]]] = {}
    for place, entry in enumerate(found.entries):
        places.setdefault(entry.name, {}).setdefault(entry.metric, []).append(place)
    branches = []
    for name, settings in places.items():
        parts = tuple(Branch("setting", tuple(seeds)) for seeds in settings.values())
        family = found.entries[parts[0].leaves()[0]].family
        branches += [(part, family, metric) for part, metric in zip(parts, settings, strict=True)]
        if len(parts) > 1:
            branches.append((Branch("metric", parts), family, f"{name}(*)"))
    return branches
