"""What a target is: a value that, frozen on the unperturbed outputs, reads one scalar a row."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from pellucid.models.model import Model
from pellucid.recipes import Recipe, Registry

__all__ = ["TARGETS", "ReadOut", "Target"]


@dataclass(frozen=True)
class ReadOut:
    """A target frozen for the explained rows.

    Call it with outputs ``(B, ...)`` and ``rows (B,)``, the explained row each output belongs to; it returns ``(B,)``.
    `layer` names the layer whose output it reads instead of the model's.
    """

    read: Callable[[Tensor, Tensor], Tensor]
    layer: str | None = None

    def __call__(self, outputs: Tensor, rows: Tensor) -> Tensor:
        """Return the target's value ``(B,)`` for outputs of the explained `rows`."""
        return self.read(outputs, rows)


@dataclass(frozen=True, repr=False)
class Target(Recipe):
    """Turns outputs into one scalar a row; a value that prints and parses like a method."""

    @abstractmethod
    def freeze(self, model: Model, outputs: Tensor) -> ReadOut:
        """Fix the target on the unperturbed `outputs` ``(N, K)`` or ``(N, K, *S)``.

        Raises
        ------
        BadTarget
            When it does not fit them.
        """


TARGETS: Registry[Target] = Registry("target", Target, "pellucid.targets")  # type: ignore[type-abstract]
