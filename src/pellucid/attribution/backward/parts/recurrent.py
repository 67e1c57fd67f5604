"""Recurrent nets taken apart: gates and states, one step of the sequence after another."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pellucid.errors import GuardError

__all__ = ["gru", "gru_cell", "lstm", "lstm_cell", "rnn_relu", "rnn_relu_cell", "rnn_tanh", "rnn_tanh_cell"]

State = tuple[Tensor, ...]
"""Hidden state, and for an LSTM its cell state."""

Step = Callable[[Tensor, State, Sequence[Tensor | None]], State]
"""From the projected input, the state before and the recurrent weights to the state after."""


def _lstm_step(entering: Tensor, state: State, weights: Sequence[Tensor | None]) -> State:
    hidden, cell = state
    keep_in, keep, candidate, out = (entering + functional.linear(hidden, *weights[:2])).chunk(4, -1)  # type: ignore[arg-type]
    cell = torch.add(torch.mul(torch.sigmoid(keep), cell), torch.mul(torch.sigmoid(keep_in), torch.tanh(candidate)))
    hidden = torch.mul(torch.sigmoid(out), torch.tanh(cell))
    return (hidden if weights[2] is None else functional.linear(hidden, weights[2])), cell


def _gru_step(entering: Tensor, state: State, weights: Sequence[Tensor | None]) -> State:
    (hidden,) = state
    ours, theirs = entering.chunk(3, -1), functional.linear(hidden, *weights[:2]).chunk(3, -1)  # type: ignore[arg-type]
    reset, update = (torch.sigmoid(ours[place] + theirs[place]) for place in (0, 1))
    fresh = torch.tanh(ours[2] + torch.mul(reset, theirs[2]))
    return (torch.add(fresh, torch.mul(update, hidden - fresh)),)


def _plain_step(bend: Callable[[Tensor], Tensor], entering: Tensor, state: State, weights: Sequence[Any]) -> State:
    return (bend(entering + functional.linear(state[0], *weights[:2])),)


_tanh_step: Step = partial(_plain_step, torch.tanh)
_relu_step: Step = partial(_plain_step, torch.relu)


def _grouped(params: Sequence[Tensor], per_cell: int, *, biases: bool) -> Iterator[tuple[Tensor | None, ...]]:
    """Yield (input weight, input bias, recurrent weight, recurrent bias, projection) of every cell."""
    for start in range(0, len(params), per_cell):
        into, again, *more = params[start : start + per_cell]
        own = more[:2] if biases else [None, None]
        rest = more[2:] if biases else more
        yield into, own[0], again, own[1], rest[0] if rest else None


def _along(step: Step, sequence: Tensor, state: State, weights: Sequence[Any], order: int) -> tuple[Tensor, State]:
    """Run one cell along ``(L, N, E)``, forwards or backwards."""
    into, bias, again, again_bias, projection = weights
    outputs = []
    for entering in functional.linear(sequence.transpose(0, 1), into, bias).unbind(1)[::order]:  # rows first: LRP books
        state = step(entering, state, (again, again_bias, projection))
        outputs.append(state[0])
    return torch.stack(outputs[::order]), state


def _recurrent(
    step: Step, sequence: Tensor, start: State, cells: Sequence[Any], directions: int
) -> tuple[Tensor, list[State]]:
    ends = []
    for layer in range(0, len(cells), directions):
        ran = [_along(step, sequence, tuple(part[layer + way] for part in start), cells[layer + way], 1 - 2 * way)
               for way in range(directions)]  # fmt: skip
        sequence = torch.cat([outputs for outputs, _ in ran], -1) if directions > 1 else ran[0][0]
        ends += [end for _, end in ran]
    return sequence, ends


def _network(step: Step, name: str, input: Tensor, hx: Any, *settings: Any) -> tuple[Tensor, State]:  # noqa: A002
    if isinstance(hx, Tensor) and not hx.is_floating_point():
        raise GuardError(
            f"{name} runs on a packed sequence, which has no rule; give padded sequences, or use integrated_gradients"
        )
    params, biases, layers, dropout, training, both_ways, rows_first = settings
    if dropout and training:
        raise GuardError(f"{name} drops states at random here (dropout={dropout:g}); put it into eval mode")
    directions = 2 if both_ways else 1
    cells = list(_grouped(params, len(params) // (layers * directions), biases=biases))
    start = (hx,) if isinstance(hx, Tensor) else tuple(hx)
    outputs, ends = _recurrent(step, input.transpose(0, 1) if rows_first else input, start, cells, directions)
    finals = tuple(torch.stack(parts) for parts in zip(*ends, strict=True))
    return outputs.transpose(0, 1) if rows_first else outputs, finals


def lstm(_state: Any, input: Tensor, hx: Any, *settings: Any) -> tuple[Tensor, ...]:  # noqa: A002
    """Run a long short-term memory; returns outputs, last hidden states, last cell states."""
    outputs, finals = _network(_lstm_step, "lstm", input, hx, *settings)
    return outputs, *finals


def gru(_state: Any, input: Tensor, hx: Any, *settings: Any) -> tuple[Tensor, ...]:  # noqa: A002
    """Run gated recurrent units; returns outputs and last hidden states."""
    outputs, finals = _network(_gru_step, "gru", input, hx, *settings)
    return outputs, *finals


def rnn_tanh(_state: Any, input: Tensor, hx: Any, *settings: Any) -> tuple[Tensor, ...]:  # noqa: A002
    """Run a plain recurrent net with tanh; returns outputs and last hidden states."""
    outputs, finals = _network(_tanh_step, "rnn_tanh", input, hx, *settings)
    return outputs, *finals


def rnn_relu(_state: Any, input: Tensor, hx: Any, *settings: Any) -> tuple[Tensor, ...]:  # noqa: A002
    """Run a plain recurrent net with ReLU; returns outputs and last hidden states."""
    outputs, finals = _network(_relu_step, "rnn_relu", input, hx, *settings)
    return outputs, *finals


def _cell(step: Step, input: Tensor, start: State, weights: Sequence[Any]) -> State:  # noqa: A002
    into, again, bias, again_bias = (*weights, None, None)[:4]
    return step(functional.linear(input, into, bias), start, (again, again_bias, None))


def lstm_cell(_state: Any, input: Tensor, hx: Sequence[Tensor], *weights: Any) -> tuple[Tensor, ...]:  # noqa: A002
    """Take one step of a long short-term memory."""
    return _cell(_lstm_step, input, tuple(hx), weights)


def gru_cell(_state: Any, input: Tensor, hx: Tensor, *weights: Any) -> Tensor:  # noqa: A002
    """Take one step of gated recurrent units."""
    return _cell(_gru_step, input, (hx,), weights)[0]


def rnn_tanh_cell(_state: Any, input: Tensor, hx: Tensor, *weights: Any) -> Tensor:  # noqa: A002
    """Take one step of a plain recurrent net with tanh."""
    return _cell(_tanh_step, input, (hx,), weights)[0]


def rnn_relu_cell(_state: Any, input: Tensor, hx: Tensor, *weights: Any) -> Tensor:  # noqa: A002
    """Take one step of a plain recurrent net with ReLU."""
    return _cell(_relu_step, input, (hx,), weights)[0]
