"""What a metric must hold to: a complete profile, scores inside its range, images that do not know each other."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.attribution import Explanation, explain
from pellucid.evaluation import FAMILIES, METRICS, Metric, Scores, evaluate
from pellucid.testing.nets import small_images, small_masks, small_net
from pellucid.testing.untouched import interrupted, untouched

__all__ = ["check_metric"]

METHODS_SCORED = ("input_x_gradient", "integrated_gradients(steps=4)", "random_map")
NEEDS = {"masks", "method", "models", "regions", "weights"}

Row = dict[str, Any]


def check_metric(
    metric: str | Metric,
    *,
    net: nn.Module | None = None,
    x: Tensor | None = None,
    masks: Tensor | Sequence[Tensor | None] | None = None,
    regions: Tensor | None = None,
    models: Sequence[nn.Module] | None = None,
    methods: Sequence[str] = METHODS_SCORED,
    tolerance: float = 1e-4,
) -> Scores:
    """Prove that a metric is a well-behaved value and scores every image by itself.

    Parameters
    ----------
    metric
        A registered metric's text or value; give a sampling one few samples.
    net, x, masks
        What was explained and where the evidence is expected, two rows or more; default: a small residual net on
        small 2-D images of a disc each.
    regions
        Labels ``(*S)`` for all images; default: eight slices of the first axis.
    models
        Networks that learnt the same task again; default: a second small net, with the small net, else a copy of `net`
        with other weights.
    methods
        Methods whose maps are scored, two or more.
    tolerance
        How far two scores of the same map may differ: part of their size, of 1 for those below 1; the metric's own resolution
        where that is coarser.

    Returns
    -------
    Scores
        Of all maps, for further checks.

    Raises
    ------
    AssertionError
        With the promise that does not hold.
    """
    recipe = METRICS.parse(metric)
    models = _learnt_again(net) if models is None else models
    net = small_net() if net is None else net
    if x is None:
        x, masks = small_images(), small_masks() if masks is None else masks
    regions = _slices(tuple(x.shape[2:])) if regions is None else regions
    ids = [f"image {row}" for row in range(len(x))]
    _is_a_value(recipe)
    _says_what_it_is(recipe)
    maps = [explain(net, x, method, ids=ids) for method in methods]

    def score(rows: Sequence[int], chosen: Sequence[Explanation] = maps, batch_size: int | None = None) -> Scores:
        own = None if masks is None else [masks[row] for row in rows]
        cut = [explanation[rows] for explanation in chosen]
        return evaluate(
            net, x[list(rows)], cut, [recipe], own, regions=regions, models=models, batch_size=batch_size
        )  # fmt: skip

    tolerance = max(tolerance, recipe.profile.resolution)
    every = list(range(len(x)))
    whole = untouched(net, lambda: score(every))
    _in_range(recipe, whole)
    _close("two runs", whole, score(every), 0.0)
    _close("image 1 alone and among others", score([1]), whole, tolerance)
    _close("images in another order", score(every[::-1]), whole, tolerance)
    _close("one row a pass", score(every, batch_size=1), whole, tolerance)
    if recipe.profile.family != "agreement":  # which is agreement with the company
        _close("a method alone and beside others", score(every, maps[:1]), whole, tolerance)
    untouched(net, lambda: interrupted(net, lambda: score(every), call=1))
    return whole


def _learnt_again(net: nn.Module | None) -> list[nn.Module]:
    if net is None:
        return [small_net(seed=1)]
    other, random = copy.deepcopy(net), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in other.parameters():
            noise = torch.randn(value.shape, generator=random).to(value)
            value.add_(0.1 * noise * value.double().std(correction=0).to(value))
    return [other]


def _slices(space: tuple[int, ...]) -> Tensor:
    places = torch.arange(space[0] if space else 1) * 8 // max(1, space[0] if space else 1)
    return (1 + places).view(-1, *[1] * (len(space) - 1)).expand(space)


def _is_a_value(recipe: Metric) -> None:
    same = METRICS.parse(str(recipe))
    assert same == recipe, f"{recipe} does not parse back to the equal value"
    assert same.definition == recipe.definition, f"{recipe}: equal values have two definitions"
    assert " at 0x" not in repr(recipe.settings), f"{recipe}: a setting prints its address, so its definition wanders"
    assert type(recipe).__doc__, f"{recipe.name} has no docstring"


def _says_what_it_is(recipe: Metric) -> None:
    about = recipe.profile
    for fact in ("measures", "cost", "failure", "reference"):
        assert getattr(about, fact), f"{recipe.name}: its profile does not state its {fact}"
    assert about.family in FAMILIES, f"{recipe.name}: there is no family {about.family!r}"
    assert about.direction in {"higher", "lower"}, f"{recipe.name}: {about.direction!r} is no direction"
    assert about.range[0] < about.range[1], f"{recipe.name}: its range {about.range} is empty"
    assert set(about.needs) <= NEEDS, f"{recipe.name}: needs {about.needs} are not all of {sorted(NEEDS)}"
    assert 0 <= about.resolution < math.inf, f"{recipe.name}: resolution {about.resolution}"


def _rows(scores: Scores) -> dict[tuple[str, str], Row]:
    return {(row["image"], row["method"]): row for row in scores.table.to_pylist()}


def _in_range(recipe: Metric, scores: Scores) -> None:
    low, high = recipe.profile.range
    slack = 1e-6 * max([abs(bound) for bound in (low, high) if math.isfinite(bound)], default=1.0)
    for (image, method), row in _rows(scores).items():
        where = f"{recipe} of {method} on {image}"
        value, reason = row["value"], row["reason"]
        assert (value is None) == bool(reason), f"{where}: score {value} with the reason {reason!r}"
        for number in (value, row["chance"]):
            fits = number is None or low - slack <= number <= high + slack
            assert fits, f"{where}: {number} lies outside {low:g} to {high:g}"
    assert any(value is not None for value in scores.table["value"].to_pylist()), f"{recipe} scores no map at all"


def _close(what: str, some: Scores, whole: Scores, tolerance: float) -> None:
    known = _rows(whole)
    for (image, method), row in _rows(some).items():
        other = known[image, method]
        assert row["reason"] == other["reason"], f"{row['metric']} of {method}: {what} have other reasons"
        for column in ("value", "chance"):
            one, two = (0.0 if found[column] is None else found[column] for found in (row, other))
            most = tolerance * max(1.0, abs(two))
            assert abs(one - two) <= most, f"{row['metric']} of {method}: {what} have the {column}s {one:g} and {two:g}"
