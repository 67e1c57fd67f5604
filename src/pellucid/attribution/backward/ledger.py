"""The books of an LRP pass: what reached each input and what biases, normalisation shifts and stabilisers took."""

from typing import Any

import torch
from torch import Tensor

from pellucid.attribution.backward.rows import moved

__all__ = ["Books", "Enter", "Leave", "Ledger"]


class Books:
    """What became of every row's relevance, over all batches of one explanation.

    Attributes
    ----------
    started
        ``(N,)`` relevance that the target put into the outputs.
    taken
        ``(N,)`` relevance that each kind of operation absorbed, by its name.
    """

    def __init__(self, rows: int, device: torch.device) -> None:
        self.started = torch.zeros(rows, dtype=torch.float64, device=device)
        self.taken: dict[str, Tensor] = {}

    @property
    def absorbed(self) -> Tensor:
        """``(N,)`` what all operations took together."""
        return sum(self.taken.values(), torch.zeros_like(self.started))

    def clear(self, rows: slice) -> None:
        """Forget rows: a batch that failed for lack of memory is sent again."""
        for account in (self.started, *self.taken.values()):
            account[rows] = 0


class Ledger:
    """The accounts of one batch.

    Attributes
    ----------
    rows
        Which rows of the books the batch holds: a run of them.
    direct
        Relevance that first-layer rules sent straight to an input, by the input's place.
    """

    def __init__(self, books: Books, rows: Tensor) -> None:
        start = int(rows[0])
        self.books, self.rows = books, slice(start, start + len(rows))
        self.direct: dict[int, Tensor] = {}
        books.clear(self.rows)

    def __len__(self) -> int:
        return self.rows.stop - self.rows.start

    def take(self, relevance: Tensor, name: str) -> None:
        """Book relevance that an operation keeps for itself."""
        account = self.books.taken.setdefault(name, torch.zeros_like(self.books.started))
        account[self.rows] += self._by_row(relevance, name)

    def start(self, relevance: Tensor) -> None:
        """Book relevance that the target puts in."""
        self.books.started[self.rows] += self._by_row(relevance, "the target")

    def send(self, place: int, relevance: Tensor) -> None:
        """Give an input relevance that needs no multiplying by the input."""
        self.direct[place] = self.direct.get(place, 0) + relevance

    def _by_row(self, relevance: Tensor, name: str) -> Tensor:
        if relevance.ndim == 0 or len(relevance) % len(self):
            if len(self) == 1:
                return relevance.detach().sum().double()[None]
            raise moved(name, relevance.shape, len(self))
        given = relevance.detach()
        return given.reshape(len(given), -1).sum(1).double().reshape(len(self), -1).sum(1)


class Enter(torch.autograd.Function):
    """Where the images enter: what arrives per unit of input becomes relevance."""

    @staticmethod
    def forward(ctx: Any, ledger: Ledger, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Let the inputs in, as copies of their own."""
        ctx.ledger, ctx.inputs = ledger, tuple(tensor.detach() for tensor in inputs)
        return tuple(tensor.clone() for tensor in inputs)

    @staticmethod
    def backward(ctx: Any, *arrived: Tensor) -> tuple[Tensor | None, ...]:
        """Multiply by the input and add what was sent directly."""
        direct = ctx.ledger.direct
        values = (c * x + direct.get(place, 0) for place, (c, x) in enumerate(zip(arrived, ctx.inputs, strict=True)))
        return (None, *values)


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
