"""How many rows go through a model at once, and fewer when memory runs out."""

from collections.abc import Iterator

import torch

from pellucid.errors import ShapeError
from pellucid.models.model import Inputs

__all__ = ["Batches", "out_of_memory"]

_ELEMENTS = {"cpu": 2**21, "cuda": 2**25}
_LARGEST = {"cpu": 64, "cuda": 1024}


def out_of_memory(error: Exception) -> bool:
    """Say whether an error is torch's lack of memory, on whichever device."""
    said = str(error)
    short = "can't allocate memory" in said or "out of memory" in said
    return isinstance(error, torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and short)


class Batches:
    """Cuts rows into batches of a size that is chosen once and shrinks with the memory.

    Parameters
    ----------
    device
        Where the model is.
    size
        Rows at once; None chooses it from the first rows.
    most
        More than these never go at once.

    Attributes
    ----------
    warnings
        A sentence for every batch that was halved.
    """

    def __init__(self, device: torch.device, size: int | None, *, most: int | None = None) -> None:
        if size is not None and size < 1:
            raise ShapeError(f"batch_size={size} must be at least 1")
        self.warnings: list[str] = []
        self._kind = device.type
        self._most = most
        self._size = size if size is None or most is None else min(size, most)

    def size(self, inputs: Inputs) -> int:
        """Return the number of rows to send at once for inputs like these."""
        if self._size is None:
            elements = sum(tensor[0].numel() for tensor in inputs) if len(inputs[0]) else 1
            fit = _ELEMENTS.get(self._kind, 2**21) // max(1, elements)
            largest = _LARGEST.get(self._kind, 64)
            self._size = max(1, min(fit, largest if self._most is None else min(largest, self._most)))
        return self._size

    def parts(self, inputs: Inputs) -> Iterator[slice]:
        """Yield the batches; one that was halved for lack of memory makes those after it smaller too.

        Raises
        ------
        ShapeError
            When there are no rows.
        """
        rows, start = len(inputs[0]), 0
        if not rows:
            raise ShapeError("there are no rows to send through the model: the batch is empty")
        while start < rows:
            size = self.size(inputs)
            yield slice(start, min(start + size, rows))
            start += size

    def halves(self, rows: int) -> tuple[slice, slice]:
        """Return the halves of a batch that memory did not suffice for."""
        if self._kind == "cuda":
            torch.cuda.empty_cache()
        half = rows // 2
        self._size = min(self._size or half, half)
        self.warnings.append(f"the batch was halved to {half} rows for lack of memory")
        return slice(0, half), slice(half, rows)
