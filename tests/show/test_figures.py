"""Figures that explanations, scores and rankings draw of themselves."""

import matplotlib as mpl
import numpy as np
import pyarrow.compute as pc
import pytest
import torch
from torch import nn

from pellucid.attribution import explain
from pellucid.errors import BadStudy, ShapeError
from pellucid.evaluation import Scores, rank
from pellucid.images import ImageRecord
from pellucid.intervals import mean_interval
from pellucid.show import plot_ranking, plot_scores
from pellucid.show.charts import ranking_chart
from pellucid.show.svg import inline_svg
from pellucid.study import Study


def net(channels: int, axes: int) -> nn.Module:
    torch.manual_seed(0)
    convolution = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[axes]
    return nn.Sequential(convolution(channels, 2, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.LazyLinear(2)).eval()


def written(figure: mpl.figure.Figure) -> str:
    return str(inline_svg(figure, "f"))


@pytest.mark.parametrize(("shape", "channels"), [((12,), 4), ((8, 9), 3), ((8, 9), 2), ((4, 6, 6), 1)])
def test_maps_of_any_rank_are_drawn_with_and_without_images(shape: tuple[int, ...], channels: int) -> None:
    x = torch.rand(3, channels, *shape)
    model = net(channels, len(shape))
    model(x)
    found = explain(model, x, "input_x_gradient", target=1)
    for figure in (found.plot(x), found.plot(), found.plot(x, rows=[2])):
        text = written(figure)
        assert "input_x_gradient" in text
        assert "red speaks for the target" in text
    assert "3 of 3 images (the first rows)" in written(found.plot())
    assert "1 of 3 images (chosen rows)" in written(found.plot(rows=[2]))


def test_the_colours_of_a_figure_end_at_the_99th_percentile_of_the_channel_sum() -> None:
    x = torch.rand(1, 3, 20, 20)
    model = net(3, 2)
    model(x)
    found = explain(model, x, "input_x_gradient", target=0)
    shown = found.plot(x).axes[1].images[0]
    expected = np.percentile(found.values.sum(1).abs().numpy(), 99)
    assert shown.get_clim() == pytest.approx((-expected, expected))
    assert np.allclose(shown.get_array(), found.values[0].sum(0).numpy(), atol=1e-6)


def test_magnitudes_are_drawn_in_grey() -> None:
    x = torch.rand(1, 1, 8, 8)
    model = net(1, 2)
    model(x)
    figure = explain(model, x, "saliency", target=0).plot(x)
    assert "magnitudes without sign" in written(figure)
    red, green, blue, _ = figure.axes[1].images[0].cmap(0.9)
    assert abs(red - green) < 0.05
    assert abs(red - blue) < 0.05


def test_a_figure_has_a_bar_in_micrometres_where_the_size_is_known() -> None:
    x = torch.rand(1, 1, 10, 10)
    model = net(1, 2)
    model(x)
    found = explain(model, x, "gradient", target=0)
    record = ImageRecord("CYX", ("grey",), spacing=(2.0, 2.0))
    assert "5 µm" in written(found.plot(x, record=record))
    assert "2 px" in written(found.plot(x))


def test_images_of_other_rows_are_refused() -> None:
    x = torch.rand(2, 1, 8, 8)
    model = net(1, 2)
    model(x)
    with pytest.raises(ShapeError, match="1 images do not fit 2 maps"):
        explain(model, x, "gradient", target=0).plot(x[:1])


def test_scores_are_drawn_as_means_with_their_intervals(study: Study) -> None:
    figure = study.scores.plot(["relevance_mass"])
    rows = [row for row in study.scores.table.to_pylist()
            if row["metric"] == "relevance_mass" and row["method"] == "saliency" and row["value"] is not None]  # fmt: skip
    expected = mean_interval([row["value"] for row in rows], groups=[row["group"] for row in rows])
    axes = figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert set(labels) == set(study.methods)
    drawn = [line for line in axes.lines if line.get_ydata()[0] == labels.index("saliency")]
    assert drawn[0].get_xdata() == pytest.approx([expected.low, expected.high])
    assert drawn[1].get_xdata()[0] == pytest.approx(expected.value)


def test_every_metric_has_a_panel(study: Study) -> None:
    titles = [axes.get_title(loc="left") for axes in plot_scores(study.scores).axes if axes.get_visible()]
    assert set(titles) == set(study.metrics)


def test_scores_without_a_value_are_refused(study: Study) -> None:
    with pytest.raises(BadStudy, match="no score to plot"):
        plot_scores(study.scores, ["deletion"])


def test_the_two_rankings_stand_apart(study: Study) -> None:
    figure = study.ranking.plot()
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert [title.split(",")[0] for title in titles] == ["Faithfulness side", "Plausibility"]
    assert "random_map (control)" in written(figure)


def test_ranks_are_drawn_best_first_at_their_place(study: Study) -> None:
    figure = ranking_chart(study.ranking.table, "faithfulness-side")
    assert figure is not None
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    order = [row for row in study.ranking.table.to_pylist()
             if row["metric"] == "overall" and row["family"] == "faithfulness-side"]  # fmt: skip
    assert [float(dot.get_xdata()[0]) for dot in dots] == pytest.approx([row["rank"] for row in order])


def test_a_ranking_without_overall_is_refused(study: Study) -> None:
    kept = pc.equal(study.scores.table["family"], "complexity")
    with pytest.raises(BadStudy, match="no overall ranking"):
        plot_ranking(rank(Scores(study.scores.table.filter(kept))))
    assert ranking_chart(study.ranking.table.slice(0, 0), "plausibility") is None


def test_figures_leave_matplotlib_as_it_was(study: Study) -> None:
    before = dict(mpl.rcParams)
    study.ranking.plot()
    assert dict(mpl.rcParams) == before


def test_a_figure_in_the_page_is_only_its_shapes(study: Study) -> None:
    text = str(inline_svg(study.ranking.plot(), "one"))
    assert text.startswith("<svg")
    for part in ("http", "<style", "<metadata", "<!DOCTYPE", "font-family"):
        assert part not in text
    assert str(inline_svg(study.ranking.plot(), "one")) == text
