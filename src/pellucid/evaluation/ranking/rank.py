"""Ranking: which methods are better here, how sure that is, and which cannot be told apart.

Methods are ranked within each image, metric, setting and seed. Seeds weigh equally in a setting, settings in a metric,
metrics in a cluster (metrics that order methods alike count as one), clusters in a family, families in a side.
Faithfulness-side families (faithfulness, robustness, randomisation) and plausibility (localisation) have an overall
ranking each and are never merged. Axioms, complexity and agreement are ranked per metric only: the first are tested on
methods that promise them alone, so that counting them would punish the promise, and the others do not say that a map is
right. Whole images (or groups of images), settings and seeds are resampled.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pellucid.errors import BadStudy
from pellucid.evaluation.metric import FAMILIES
from pellucid.evaluation.ranking.average import Branch, nanmean
from pellucid.evaluation.ranking.ranking import METRICS_RANKED, RANKING, Ranking
from pellucid.evaluation.ranking.resample import Draws, interval
from pellucid.evaluation.ranking.separation import CONTROL, first_places, level_with_best, named, not_better_than
from pellucid.evaluation.ranking.sides import Side, sides, single
from pellucid.evaluation.ranking.standings import Standings, standings
from pellucid.evaluation.scores import Scores
from pellucid.intervals import or_null

__all__ = ["CONTROLS", "rank"]

CONTROLS = (CONTROL, "edge_map")
"""Maps that know nothing of the model, which every method must beat."""


def rank(
    scores: Scores,
    *,
    seed: int = 0,
    draws: int = 2000,
    groups: Mapping[str, str] | None = None,
    redundant: float = 0.7,
    excluded: Mapping[str, str] | None = None,
) -> Ranking:
    """Rank methods for this model and these images, with how sure that is.

    Parameters
    ----------
    scores
        What `evaluate` gave, of any number of images, methods, metrics, settings of a metric and seeds.
    seed
        Of the bootstrap.
    draws
        Resamples of the images; in each, the settings of every metric and the seeds of every setting are drawn anew too.
    groups
        Image id to its unit (patient, plate): whole units are resampled; default: the groups given to `evaluate`.
    redundant
        Kendall's τ from which metrics of a family count as one (average linkage over their mean agreement).
    excluded
        Name or text of a metric to the reason why it has no say in the overall rankings, such as a failed self-test.

    Returns
    -------
    Ranking
        One row a metric and method, and one a method for each overall ranking.

    Raises
    ------
    BadStudy
        When an image has two scores of the same method, metric and seed, an image lacks a group, or `excluded` names no
        metric of the scores.
    """
    if draws < 1:
        raise BadStudy(f"draws={draws} must be at least 1")
    found = standings(scores, groups)
    left_out = _left_out(found, excluded or {})
    overall = sides(found, left_out, redundant)
    resampled = Draws.of(found.groups, draws=draws, seed=seed)
    means = [nanmean(entry.places) for entry in found.entries]
    drawn = [resampled.means(entry.places) for entry in found.entries]
    generator = np.random.default_rng([seed, 1])
    rows: list[dict[str, Any]] = []
    for branch, family, label in (*single(found), *((side.branch, side.name, "overall") for side in overall)):
        boot = branch.resampled(drawn, generator)
        rows += _rows(found, branch, branch.mean(means), boot, resampled.groups, {"family": family, "metric": label})
    return Ranking(
        table=pa.Table.from_pylist(rows, schema=RANKING),
        metrics=pa.Table.from_pylist(_metrics(found, overall, left_out), schema=METRICS_RANKED),
        standings=found,
        sides=tuple(overall),
        resampled=resampled,
        seed=seed,
        draws=draws,
    )


def _left_out(found: Standings, excluded: Mapping[str, str]) -> dict[str, str]:
    """Return the text of every metric that has no say, with the reason."""
    reasons: dict[str, str] = {}
    for told, reason in excluded.items():
        own = [entry.metric for entry in found.entries if told in {entry.metric, entry.name}]
        if not own:
            known = ", ".join(dict.fromkeys(entry.metric for entry in found.entries))
            raise BadStudy(f"excluded={told!r} names no metric of the scores; they hold {known or 'none'}")
        reasons |= dict.fromkeys(own, reason)
    return reasons


def _metrics(found: Standings, overall: Sequence[Side], left_out: Mapping[str, str]) -> list[dict[str, Any]]:
    rows = []
    for name in dict.fromkeys(entry.name for entry in found.entries):
        own = [entry for entry in found.entries if entry.name == name]
        side = next((side for side in overall if name in side.metrics), None)
        rows.append(
            {
                "metric": name, "family": own[0].family, "side": FAMILIES.get(own[0].family, ""),
                "cluster": None if side is None else side.cluster[name][1],
                "weight": 0.0 if side is None else side.weight(name),
                "settings": len({entry.metric for entry in own}), "seeds": len({entry.seed for entry in own}),
                "left_out": next((left_out[entry.metric] for entry in own if entry.metric in left_out), ""),
            }
        )  # fmt: skip
    return rows


def _rows(
    found: Standings, branch: Branch, place: np.ndarray, boot: np.ndarray, groups: int, which: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Turn places in [0, 1] into ranks with what the resamples say of them; best first."""
    entries = found.entries
    known = np.any([~np.isnan(entries[leaf].values) for leaf in branch.leaves()], axis=0)
    metrics = _behind(found, branch)
    placed = ~np.isnan(place)
    scale = max(int(placed.sum()) - 1, 0)
    mean = np.full(len(place), np.nan) if which["metric"] == "overall" else _score(found, branch)
    best = first_places(boot) if groups > 1 else np.full(len(place), np.nan)
    low, high = interval(place, boot, groups)
    tied = level_with_best(place, boot, groups)
    beaten = {
        control: not_better_than(column, place, boot, groups)
        for control in CONTROLS
        if (column := named(found.methods, control)) is not None and placed[column]
    }
    order = sorted(
        range(len(place)), key=lambda column: (np.nan_to_num(place[column], nan=np.inf), found.methods[column])
    )
    return [
        {
            **which, "method": found.methods[column],
            "rank": or_null(1 + scale * place[column]),
            "low": or_null(1 + scale * low[column]), "high": or_null(1 + scale * high[column]),
            "p_best": or_null(best[column]), "mean": or_null(mean[column]),
            "n": int(known[:, column].sum()), "missing": int((~known[:, column]).sum()), "metrics": int(metrics[column]),
            "tied_with_best": tied[column], "control": found.controls[column],
            "below_control": beaten[CONTROL][column] if CONTROL in beaten else None,
            "unbeaten": [control for control, verdicts in beaten.items() if verdicts[column]] if beaten else None,
        }
        for column in order
    ]  # fmt: skip


def _behind(found: Standings, branch: Branch) -> np.ndarray:
    """Return how many metrics stand behind each method's place."""
    names = dict.fromkeys(found.entries[leaf].name for leaf in branch.leaves())
    each = [
        np.any(
            [
                ~np.isnan(found.entries[leaf].places).all(0)
                for leaf in branch.leaves()
                if found.entries[leaf].name == name
            ],
            axis=0,
        )
        for name in names
    ]
    counts: np.ndarray = np.sum(each, axis=0)
    return counts


def _score(found: Standings, branch: Branch) -> np.ndarray:
    """Return the mean score over images, of a metric with one setting; several settings have no common scale."""
    settings = {found.entries[leaf].metric for leaf in branch.leaves()}
    values = branch.mean([nanmean(entry.values) for entry in found.entries])
    return values if len(settings) == 1 else np.full_like(values, np.nan)
