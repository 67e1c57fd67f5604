"""The blocks of a transformer: the layers that hand the whole state of the tokens on, one attention in each."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.attribution.attention.products import Arrange
from pellucid.attribution.attention.tap import Sheet
from pellucid.attribution.attention.watching import Layers, tapped
from pellucid.attribution.method import Call
from pellucid.attribution.packing import rows_of
from pellucid.errors import CannotExplain
from pellucid.models import Forward, Model, Rules

__all__ = ["block_names", "ending_early"]


class _Calls:
    """What modules were called with and returned, and which were being called at each attention."""

    def __init__(self) -> None:
        self.running: list[tuple[str, Tensor | None]] = []
        self.during: list[tuple[str, ...]] = []
        self.passed: dict[str, list[tuple[Tensor | None, Any]]] = {}

    @contextmanager
    def noted(self, module: nn.Module) -> Iterator[None]:
        """Note every call below `module`."""
        hooks = []
        for name, part in module.named_modules():
            hooks.append(part.register_forward_pre_hook(self._enter(name), with_kwargs=True))
            hooks.append(part.register_forward_hook(self._leave))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, name: str) -> Callable[..., None]:
        def enter(_module: nn.Module, args: Any, kwargs: Any) -> None:
            given = next((each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)), None)
            self.running.append((name, _copied(given)))

        return enter

    def _leave(self, _module: nn.Module, _args: Any, output: Any) -> None:
        name, given = self.running.pop()
        self.passed.setdefault(name, []).append((given, _copied(_state(output))))

    def see(self, _number: int, weights: Tensor, _arrange: Arrange) -> Tensor:
        """Note what is being called at an attention."""
        self.during.append(tuple(name for name, _ in self.running))
        return weights


def _state(output: Any) -> Any:
    """Return the tokens that a block returned, first of what else it returned."""
    return output[0] if isinstance(output, tuple) and output else output


def _copied(value: Any) -> Any:
    """Return a copy that what follows cannot write into."""
    return value.clone() if isinstance(value, Tensor) else value


def block_names(call: Call, layers: Layers) -> list[str]:
    """Return the name of the block round each attention, found on the first row.

    A block is the outermost module with one attention inside; each must be called once and be given what the one before
    returned, tokens ``(N, T, D)``.

    Raises
    ------
    CannotExplain
        When the network is not built so.
    """
    module = call.passes.model.module
    assert module is not None  # noqa: S101  # legrad needs layers
    calls, sheets = _Calls(), list[Sheet]()
    first = rows_of(call, torch.arange(1))
    with calls.noted(module):
        call.passes.outputs(first.inputs, rules=tapped(calls.see, sheets, len(first.inputs)))
    around = [name for running in calls.during for name in running]
    names = [next((name for name in running if name and around.count(name) == 1), "") for running in calls.during]
    _refuse_unchained(names, calls, layers)
    return names


def _refuse_unchained(names: Sequence[str], calls: _Calls, layers: Layers) -> None:
    before = None
    for name in names:
        if not name or len(calls.passed[name]) != 1:
            raise CannotExplain(
                f"legrad needs blocks called once each with one attention inside; {_SEEN} {list(names)}"
            )
        given, returned = calls.passed[name][0]
        if not isinstance(returned, Tensor) or returned.ndim != 3 or returned.shape[:2] != (1, layers.tokens.count):
            shape = tuple(returned.shape) if isinstance(returned, Tensor) else type(returned).__name__
            raise CannotExplain(
                f"legrad needs blocks that return their tokens (N, {layers.tokens.count}, D), and {name!r} returns {shape} for one "
                f"row; {_INSTEAD}"
            )
        if before is not None and not (
            given is not None and given.shape == before.shape and torch.equal(given, before)
        ):
            raise CannotExplain(
                f"legrad needs blocks that are given what the one before returned, and {name!r} is given something else: "
                f"attention and skip connection lie in different modules; {_INSTEAD}"
            )
        before = returned


_INSTEAD = "use chefer, attention_rollout or integrated_gradients"
_SEEN = f"{_INSTEAD}; round the attentions there were"


def ending_early(names: Sequence[str], taken: int) -> Rules:
    """Return the change of a forward by which a row's tokens skip the blocks above one of them.

    The forward takes, besides its `taken` images, ``(B, 1)`` the number of the block behind which each row goes straight to
    what follows the last block.
    """

    def rules(model: Model, forward: Forward) -> Forward:
        def run(*given: Tensor) -> tuple[Tensor, ...]:
            behind, kept = given[taken], dict[int, Tensor]()

            def leave(number: int) -> Callable[[nn.Module, Any, Any], Any]:
                def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
                    state = _state(output)
                    if number < len(names) - 1:
                        kept[number] = state.clone()  # what follows may write into it
                        return None
                    for early, tokens in kept.items():
                        state = torch.where(behind[:, :, None] == early, tokens, state)
                    return (state, *output[1:]) if isinstance(output, tuple) else state

                return hook

            hooks = [model.layer(name).register_forward_hook(leave(number)) for number, name in enumerate(names)]
            try:
                return forward(*given[:taken])
            finally:
                for hook in hooks:
                    hook.remove()

        return run

    return rules
