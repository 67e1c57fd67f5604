"""The books of an LRP pass: what reached each input and what biases, normalisation shifts and stabilisers took."""

from typing import Any

import torch
from torch import Tensor

from pellucid.errors import GuardError

__all__ = ["Enter", "Leave", "Ledger"]


class Ledger:
    """Per-row accounts of one pass.

    Attributes
    ----------
    taken
        ``(N,)`` relevance that was absorbed so far.
    started
        ``(N,)`` relevance that the target put into the outputs.
    direct
        Relevance that first-layer rules sent straight to an input, by the input's place.
    """

    def __init__(self, inputs: tuple[Tensor, ...]) -> None:
        self.rows = len(inputs[0])
        self.taken = torch.zeros(self.rows, dtype=torch.float64, device=inputs[0].device)
        self.started = torch.zeros_like(self.taken)
        self.direct: dict[int, Tensor] = {}

    def take(self, relevance: Tensor, name: str) -> None:
        """Book relevance that an operation keeps for itself."""
        self.taken += self._by_row(relevance, name)

    def start(self, relevance: Tensor) -> None:
        """Book relevance that the target puts in."""
        self.started += self._by_row(relevance, "the target")

    def send(self, place: int, relevance: Tensor) -> None:
        """Give an input relevance that needs no multiplying by the input."""
        self.direct[place] = self.direct.get(place, 0) + relevance

    def _by_row(self, relevance: Tensor, name: str) -> Tensor:
        if relevance.ndim == 0 or len(relevance) % self.rows:
            raise GuardError(
                f"lrp: {name} works on shape {tuple(relevance.shape)}, whose first axis does not hold the {self.rows} "
                "rows; keep the row axis first, or use integrated_gradients"
            )
        return relevance.detach().reshape(len(relevance), -1).sum(1).double().reshape(self.rows, -1).sum(1)


class Enter(torch.autograd.Function):
    """Where the images enter: what arrives per unit of input becomes relevance, and the ledger is closed."""

    @staticmethod
    def forward(ctx: Any, ledger: Ledger, _account: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Let the inputs in, as copies of their own."""
        ctx.ledger, ctx.inputs = ledger, tuple(tensor.detach() for tensor in inputs)
        return tuple(tensor.clone() for tensor in inputs)

    @staticmethod
    def backward(ctx: Any, *arrived: Tensor) -> tuple[Tensor | None, ...]:
        """Multiply by the input, add what was sent directly, and hand the accounts to the row's account."""
        ledger = ctx.ledger
        values = (c * x + ledger.direct.get(place, 0)
                  for place, (c, x) in enumerate(zip(arrived, ctx.inputs, strict=True)))  # fmt: skip
        accounts = torch.stack([ledger.taken, ledger.started], 1).to(ctx.inputs[0])
        return (None, accounts, *values)


class Leave(torch.autograd.Function):
    """Where outputs leave to be read: relevance starts here."""

    @staticmethod
    def forward(ctx: Any, ledger: Ledger, output: Tensor) -> Tensor:
        """Let an output out."""
        ctx.ledger, ctx.output = ledger, output.detach()
        return output.clone()

    @staticmethod
    def backward(ctx: Any, arrived: Tensor) -> tuple[None, Tensor]:
        """Book what the target puts in."""
        ctx.ledger.start(arrived * ctx.output)
        return None, arrived
