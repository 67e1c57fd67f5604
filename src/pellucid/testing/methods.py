"""What a method must hold to: finite maps, rows that do not depend on each other, a model given back untouched."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pellucid.attribution import METHODS, Explanation, Method, explain
from pellucid.testing.nets import small_images, small_net, small_vit
from pellucid.testing.untouched import interrupted, untouched

__all__ = ["check_method"]

_GAP = {"exact": 1e-3, "tolerance": 0.05}
"""Part of |f(x)| + |f(reference)| that the values of a method may miss, by what it promises."""


def check_method(
    method: str | Method, *, net: nn.Module | None = None, x: Tensor | None = None, tolerance: float = 1e-4
) -> Explanation:
    """Prove that a method is a well-behaved value and explains every row by itself.

    Parameters
    ----------
    method
        A registered method's text or value; give a sampling one few samples.
    net, x
        What to explain, two rows or more; default: a small residual net on small 2-D images, a small vision transformer
        for a method that needs attention.
    tolerance
        Relative to the largest value of a row's map.

    Returns
    -------
    Explanation
        Of `x`, for further checks.

    Raises
    ------
    AssertionError
        With the promise that does not hold.
    """
    recipe = METHODS.parse(method)
    if net is None:
        net = small_vit() if "attention" in recipe.needs else small_net()
    x = small_images() if x is None else x
    ids = [f"image {row}" for row in range(len(x))]
    _is_a_value(recipe)
    kept = x.clone()
    whole = untouched(net, lambda: explain(net, x, recipe, ids=ids))
    assert torch.equal(x, kept), f"{recipe} wrote into the images"
    _sound(whole, x)
    _close("two runs", whole, explain(net, x, recipe, ids=ids), 0.0)
    alone = explain(net, x[1:2], recipe, ids=ids[1:2])
    _close("row 1 alone and row 1 in the batch", whole[[1]], alone, tolerance)
    turned = explain(net, x.flip(0), recipe, ids=ids[::-1])
    _close("rows in another order", whole, turned[list(range(len(x)))[::-1]], tolerance)
    _close("one row a pass", whole, explain(net, x, recipe, ids=ids, batch_size=1), tolerance)
    for call in range(3):
        untouched(net, lambda: interrupted(net, lambda: explain(net, x, recipe, batch_size=len(x)), call=call))  # noqa: B023
    return whole


def _is_a_value(recipe: Method) -> None:
    same = METHODS.parse(str(recipe))
    assert same == recipe, f"{recipe} does not parse back to the equal value"
    assert same.definition == recipe.definition, f"{recipe}: equal values have two definitions"
    about = recipe.taxonomy
    for fact in ("family", "question", "cost", "reference"):
        assert getattr(about, fact), f"{recipe.name}: its taxonomy does not state its {fact}"
    assert type(recipe).__doc__, f"{recipe.name} has no docstring"


def _sound(found: Explanation, x: Tensor) -> None:
    for values in found.tensors:
        assert len(values) == len(x), f"{found.name}: {len(values)} maps for {len(x)} images"
        assert values.isfinite().all(), f"{found.name}: NaN or infinity in the map"
    assert isinstance(found.method, Method)
    about = found.method.taxonomy
    if about.sign != "signed":
        negative = any(bool((values < 0).any()) for values in found.tensors)
        assert not negative, f"{found.name} says that its values are {about.sign}, and has negative ones"
    if found.gap is not None:
        before = torch.zeros_like(found.output) if found.reference_output is None else found.reference_output
        most = _GAP[about.complete] * (found.output.abs() + before.abs()) + 1e-4
        assert bool((found.gap <= most).all()), f"{found.name}: completeness gap {found.gap.tolist()}"


def _close(what: str, one: Explanation, two: Explanation, tolerance: float) -> None:
    errors = zip(_tensors(one.error) or one.tensors, _tensors(two.error) or two.tensors, strict=True)
    for values, other, (error, other_error) in zip(one.tensors, two.tensors, errors, strict=True):
        size = values.abs().flatten(1).amax(1).clamp(min=1e-12)
        for kind, left, right in (("values", values, other), ("errors", error, other_error)):
            assert left.shape == right.shape, f"{one.name}: {what} have {kind} of other shapes"
            worst = float(((left - right).abs().flatten(1).amax(1) / size).max())
            assert worst <= tolerance, f"{one.name}: the {kind} of {what} differ by {worst:.2g} of the largest value"


def _tensors(values: Tensor | Sequence[Tensor] | None) -> tuple[Tensor, ...]:
    if values is None:
        return ()
    return (values,) if isinstance(values, Tensor) else tuple(values)
