"""Pictures of what a ranking rests on show the numbers that it holds."""

import numpy as np
import pytest

from pellucid.errors import BadStudy
from pellucid.evaluation import Friedman, Scores, rank
from pellucid.show import plot_critical_difference
from pellucid.show.rank_charts import critical_difference_chart, pareto_chart, redundancy_chart, variance_chart
from pellucid.study import Study


def test_a_critical_difference_diagram_has_a_bar_for_every_clique() -> None:
    found = Friedman(("a", "b", "c", "d"), (1.2, 1.8, 3.0, 4.0), 20, 30.0, 0.001, 1.0)
    assert found.cliques == (("a", "b"), ("c", "d"))
    axes = critical_difference_chart(found).axes[0]
    bars = [line for line in axes.lines if line.get_linewidth() == 2.6]
    assert [tuple(bar.get_xdata()) for bar in bars] == [(1.2, 1.8), (3.0, 4.0)]
    assert [text.get_text().strip() for text in axes.texts] == ["critical difference 1.00", "a", "b", "c", "d"]


def test_a_critical_difference_needs_three_methods(study: Study) -> None:
    assert plot_critical_difference(study.ranking).axes
    two = study.scores.table.filter(np.isin(study.scores.table["method"].to_pylist(), ["saliency", "random_map"]))
    with pytest.raises(BadStudy, match="three methods"):
        plot_critical_difference(rank(Scores(two)))


def test_redundancy_shows_every_pair_and_the_front_every_method(study: Study) -> None:
    ranking = study.ranking
    side = ranking.sides[0]
    figure = redundancy_chart(ranking, side.name)
    assert figure is not None
    assert len(figure.axes[0].texts) == len(side.metrics) ** 2
    front = pareto_chart(ranking)
    assert front is not None
    assert len(front.axes[0].texts) == len(ranking.standings.methods)
    assert redundancy_chart(ranking, "nothing") is None


def test_variance_bars_stand_in_order_of_their_size() -> None:
    figure = variance_chart({"method": 0.2, "metric": 0.5, "rest": 0.3})
    assert figure is not None
    widths = [patch.get_width() for patch in figure.axes[0].patches]
    assert widths == pytest.approx([50, 30, 20])
    assert variance_chart({}) is None
