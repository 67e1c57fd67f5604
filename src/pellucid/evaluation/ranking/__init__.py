"""Ranking: methods in order with intervals, and every other reading of the same places."""

from pellucid.evaluation.ranking.friedman import Friedman
from pellucid.evaluation.ranking.rank import CONTROLS, rank
from pellucid.evaluation.ranking.ranking import RANKING, Ranking

__all__ = ["CONTROLS", "RANKING", "Friedman", "Ranking", "rank"]
