"""The model comes back exactly as it went in: weights, buffers, modes, hooks and gradients."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from pellucid.errors import PellucidError

__all__ = ["interrupted", "untouched"]

T = TypeVar("T")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def untouched(net: nn.Module, work: Callable[[], T]) -> T:
    """Do `work` with a net in the middle of its training, and prove that it leaves no trace.

    Parameters
    ----------
    net
        For the time of the work it is in training mode, with a gradient and a frozen parameter; then as it was.
    work
        What uses the net.

    Returns
    -------
    T
        What `work` returns.

    Raises
    ------
    AssertionError
        With what changed.
    """
    with _in_training(net):
        before = _state(net)
        done = work()
        after = _state(net)
        assert list(before) == list(after), f"the model's parts changed: {sorted(set(before) ^ set(after))}"
        for fact, value in before.items():
            assert _same(value, after[fact]), f"the model's {fact} changed"
    return done


@contextmanager
def _in_training(net: nn.Module) -> Iterator[None]:
    """Hold the net as a user may have left it: training, one parameter with a gradient, the last one frozen."""
    modes = [(part, part.training) for part in net.modules()]
    parameters = [(parameter, parameter.requires_grad, parameter.grad) for parameter in net.parameters()]
    try:
        net.train()
        for parameter, _, _ in parameters[:1]:
            parameter.grad = torch.ones_like(parameter)
        for parameter, _, _ in parameters[1:][-1:]:
            parameter.requires_grad_(False)  # noqa: FBT003
        yield
    finally:
        for part, mode in modes:
            part.training = mode
        for parameter, needed, gradient in parameters:
            parameter.requires_grad_(needed)
            parameter.grad = gradient


def _state(net: nn.Module) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for name, parameter in net.named_parameters():
        facts[name] = (id(parameter), parameter.detach().clone())
        facts[f"{name}.requires_grad"] = parameter.requires_grad
        gradient = parameter.grad
        facts[f"{name}.grad"] = None if gradient is None else (id(gradient), gradient.detach().clone())
    for name, buffer in net.named_buffers():
        facts[name] = (id(buffer), buffer.detach().clone())
    for name, part in net.named_modules():
        facts[f"mode of {name or 'the net'}"] = part.training
        facts[f"hooks of {name or 'the net'}"] = tuple(tuple(getattr(part, kind)) for kind in _HOOKS)
    return facts


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(_same(left, right) for left, right in zip(one, other, strict=True))
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    return bool(one == other)


class _Stop(BaseException):
    """Ends a pass half-way, as a user's interruption does."""


def interrupted(net: nn.Module, work: Callable[[], Any], *, call: int) -> None:
    """Do `work` with a net that stops at one of its calls, and prove that the interruption passes.

    Parameters
    ----------
    net
        What the work calls.
    work
        May call the net fewer times: then nothing stops.
    call
        From 0, the first call that stops.

    Raises
    ------
    AssertionError
        When the interruption was swallowed or turned into another error.
    """
    calls = 0

    def stop(_part: nn.Module, _inputs: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > call:
            raise _Stop

    hook = net.register_forward_pre_hook(stop)
    try:
        work()
    except _Stop:
        return
    except PellucidError as error:
        message = f"an interruption was turned into {error!r}"
        raise AssertionError(message) from error
    finally:
        hook.remove()
    assert calls <= call, "an interruption was swallowed"
