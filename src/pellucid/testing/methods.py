"""What a method must hold to: right shape, rows that do not depend on each other, a model given back untouched."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.attribution import METHODS, Explanation, Method, explain
from pellucid.errors import PellucidError
from pellucid.testing.nets import small_images, small_net

__all__ = ["check_method"]


def check_method(
    method: str | Method, *, net: nn.Module | None = None, x: Tensor | None = None, tolerance: float = 1e-4
) -> Explanation:
    """Prove that a method is a well-behaved value and explains every row by itself.

    Parameters
    ----------
    method
        A registered method's text or value.
    net, x
        What to explain; default: a small residual net on small 2-D images.
    tolerance
        Relative to the largest value of the map.

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
    net = small_net() if net is None else net
    x = small_images() if x is None else x
    ids = [f"image {row}" for row in range(len(x))]
    _is_a_value(recipe)
    whole = _untouched(net, lambda: explain(net, x, recipe, ids=ids))
    _shaped(whole, x)
    _close("explained twice", whole, explain(net, x, recipe, ids=ids), tolerance)
    alone = explain(net, x[1:2], recipe, target=[int(net(x[1:2]).argmax())], ids=ids[1:2])
    _close("row 1 alone and row 1 in the batch", whole[[1]], alone, tolerance)
    turned = explain(net, x.flip(0), recipe, ids=ids[::-1])
    _close("rows in another order", whole, turned[list(range(len(x)))[::-1]], tolerance)
    _close("one row a pass", whole, explain(net, x, recipe, ids=ids, batch_size=1), tolerance)
    _untouched(net, lambda: _fails(net, x, recipe))
    return whole


def _is_a_value(recipe: Method) -> None:
    assert METHODS.parse(str(recipe)) == recipe, f"{recipe} does not parse back to the equal value"
    about = recipe.taxonomy
    for fact in ("family", "question", "cost", "reference"):
        assert getattr(about, fact), f"{recipe.name}: its taxonomy does not state its {fact}"
    assert type(recipe).__doc__, f"{recipe.name} has no docstring"


def _shaped(found: Explanation, x: Tensor) -> None:
    for values in found.tensors:
        assert len(values) == len(x), f"{found.name}: {len(values)} maps for {len(x)} images"
        assert values.isfinite().all(), f"{found.name}: NaN or infinity in the map"
    sign = found.method.taxonomy.sign if isinstance(found.method, Method) else "signed"
    if sign != "signed":
        assert all((values >= 0).all() for values in found.tensors), f"{found.name} says {sign} and has negative values"
    if found.gap is not None:
        scale = found.output.abs() + (0 if found.reference_output is None else found.reference_output.abs())
        assert (found.gap <= 0.02 * scale + 1e-4).all(), f"{found.name}: completeness gap {found.gap.tolist()}"


def _close(when: str, one: Explanation, two: Explanation, tolerance: float) -> None:
    for first, second in zip(one.tensors, two.tensors, strict=True):
        scale = float(first.abs().max().clamp(min=1e-12))
        worst = float((first - second).abs().max()) / scale
        assert worst <= tolerance, f"{one.name}: {when} differ by {worst:.2g} of the largest value"


def _state(net: nn.Module) -> dict[str, Any]:
    return {
        "state": copy.deepcopy(net.state_dict()),
        "modes": [part.training for part in net.modules()],
        "gradients": [(parameter.requires_grad, parameter.grad) for parameter in net.parameters()],
        "hooks": [len(part._forward_hooks) + len(part._backward_hooks) for part in net.modules()],  # noqa: SLF001
    }


def _untouched(net: nn.Module, work: Callable[[], Any]) -> Any:
    net.train()
    before = _state(net)
    done = work()
    after = _state(net)
    net.eval()
    for fact in ("modes", "gradients", "hooks"):
        assert before[fact] == after[fact], f"the model's {fact} changed"
    for name, tensor in before["state"].items():
        assert torch.equal(tensor, after["state"][name]), f"the model's {name} changed"
    return done


def _fails(net: nn.Module, x: Tensor, recipe: Method) -> None:
    """Explain with a net that stops half-way: the exception must pass and leave no trace."""
    calls = 0

    def stop(_part: nn.Module, _inputs: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            message = "stopped on purpose"
            raise KeyboardInterrupt(message)

    hook = net.register_forward_pre_hook(stop)
    try:
        explain(net, x, recipe, batch_size=1)
    except KeyboardInterrupt:
        return
    except PellucidError as error:
        message = f"{recipe} turned an interruption into {error!r}"
        raise AssertionError(message) from error
    finally:
        hook.remove()
