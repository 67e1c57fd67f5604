"""Ranking: methods in order with intervals, and every other reading of the same places."""

from pellucid.evaluation.ranking.consensus import EXACT
from pellucid.evaluation.ranking.friedman import Friedman
from pellucid.evaluation.ranking.rank import CONTROLS, rank
from pellucid.evaluation.ranking.ranking import RANKING, Ranking

__all__ = ["CONTROLS", "EXACT", "RANKING", "Friedman", "Ranking", "rank"]
