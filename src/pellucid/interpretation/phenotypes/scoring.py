"""The numbers of the model that phenotypes are held against."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pellucid.errors import CannotExplain
from pellucid.models import Model, Passes
from pellucid.models.predict import two_columns

__all__ = ["Scorer"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scorer:
    """Reads one score a target: the log-odds of a class under the calibrated model, or an output of a regression.

    Attributes
    ----------
    passes
        The open way through the model.
    names
        Of the targets.
    columns
        Outputs that they read.
    """

    passes: Passes
    names: tuple[str, ...]
    columns: tuple[int, ...]

    @classmethod
    def of(cls, passes: Passes, images: Tensor, targets: Sequence[str | int] | None = None) -> "Scorer":
        """Choose targets: those named, else the second of two classes, else all of them.

        Raises
        ------
        CannotExplain
            When the model gives no ``(N, K)``, or there is no such target.
        """
        model = passes.model
        outputs = passes.outputs(model.prepare(images[:1]))
        if outputs.ndim != 2:
            raise CannotExplain(
                f"phenotypes are held against outputs (N, K); this model returns {tuple(outputs.shape)}"
            )
        count = outputs.shape[1] if model.task == "regression" else two_columns(outputs).shape[1]
        known = model.classes if len(model.classes) == count else tuple(f"output {at}" for at in range(count))
        if targets is None:
            chosen = [1] if count == 2 and model.task != "regression" else list(range(count))
        else:
            chosen = [_column(target, known) for target in targets]
        return cls(passes, tuple(known[at] for at in chosen), tuple(chosen))

    def __call__(self, images: Tensor) -> Array:
        """Return scores ``(N, T)``."""
        model = self.passes.model
        outputs = self.passes.outputs(model.prepare(images)).cpu().double()
        if model.task == "regression":
            return np.asarray(outputs[:, list(self.columns)].numpy())
        return np.stack([log_odds(model, outputs, column).numpy() for column in self.columns], 1)

    def read(self, target: int) -> Callable[[Tensor, Tensor], Tensor]:
        """Return what reads one target from outputs, differentiable, as `ReadOut` takes it."""
        model, column = self.passes.model, self.columns[target]
        if model.task == "regression":
            return lambda outputs, _rows: outputs[:, column]
        return lambda outputs, _rows: log_odds(model, outputs, column)

    @property
    def unit(self) -> str:
        """What a score is measured in."""
        return "output" if self.passes.model.task == "regression" else "log-odds"


def log_odds(model: Model, outputs: Tensor, column: int) -> Tensor:
    """Return log p / (1 − p) of a class, calibrated."""
    logits = two_columns(outputs) / model.temperature
    others = [at for at in range(logits.shape[1]) if at != column]
    return logits[:, column] - logits[:, others].logsumexp(1)


def _column(target: str | int, known: Sequence[str]) -> int:
    if isinstance(target, int) and 0 <= target < len(known):
        return target
    if isinstance(target, str) and target in known:
        return known.index(target)
    raise CannotExplain(f"there is no target {target!r}; there are {', '.join(known)}")
