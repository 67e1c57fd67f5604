"""What an attribution method is: a value with a taxonomy that turns a call into one number an input element."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import AfterValidator
from torch import Tensor

from pellucid.errors import BadTarget
from pellucid.hashing import hash_seed
from pellucid.models import Inputs, Model, Passes, ReadOut, Target
from pellucid.models.targets import Latent, resolve
from pellucid.recipes import Recipe, Registry

__all__ = ["METHODS", "Attribution", "Call", "Method", "Taxonomy", "methods", "row_seeds"]


@dataclass(frozen=True, kw_only=True)
class Taxonomy:
    """Where a method stands among explanation methods; every field is filterable in ``pellucid.methods()``.

    Attributes
    ----------
    family
        ``"gradient"``, ``"backpropagation"``, ``"path"``, ``"cam"``, ``"perturbation"``, ``"attention"``,
        or ``"control"`` for maps that know nothing of the model.
    question
        The question it can answer, in a biologist's words.
    needs
        What it asks of the model: ``"gradients"``, ``"layers"``, ``"attention"``.
    sign
        Whether values are ``"signed"``, ``"unsigned"`` magnitudes or ``"positive"`` evidence only.
    complete
        Whether Σ values = f(x) − f(reference): ``"exact"``, ``"tolerance"`` or ``"none"``.
    cost
        Passes a row, as a formula in the settings.
    reference
        The source, as it is to be cited.
    warning
        Known failure that a reader must be told, or "".
    scope, stage, kind, mechanism, data
        The remaining axes of the taxonomy.
    """

    family: str
    question: str
    needs: tuple[str, ...] = ()
    sign: Literal["signed", "unsigned", "positive"] = "signed"
    complete: Literal["exact", "tolerance", "none"] = "none"
    cost: str
    reference: str
    warning: str = ""
    scope: str = "local"
    stage: str = "post-model"
    kind: str = "attribution"
    mechanism: str = "gradient"
    data: str = "1-D, 2-D, 3-D, several channels"

    @property
    def is_control(self) -> bool:
        """Whether its maps know nothing of the model."""
        return self.family == "control"


def row_seeds(seed: int, ids: Sequence[str] | None, rows: int) -> tuple[int, ...]:
    """Return one seed a row, hash(seed, id): a row's random stream never depends on its place or its neighbours.

    Without `ids` every row has the same stream.
    """
    names = ids if ids is not None else ("",) * rows
    return tuple(hash_seed(seed, name) for name in names)


@dataclass(frozen=True)
class Call:
    """What a method is given.

    Attributes
    ----------
    passes
        The open way through the frozen model; counts passes and chooses the batch size.
    inputs
        One tensor ``(N, C, *S)`` an input, in model space, on the model's device.
    read
        The frozen target.
    output
        ``(N,)`` the target's value f(x); ``(N, T)`` where several targets are explained from the same forwards.
    seeds
        One a row.
    """

    passes: Passes
    inputs: Inputs
    read: ReadOut
    output: Tensor
    seeds: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.inputs[0])

    def generators(self) -> list[torch.Generator]:
        """Return one fresh CPU generator a row: sample there, then move to the device."""
        return [torch.Generator().manual_seed(seed) for seed in self.seeds]

    def gradient(self, at: str | None = None) -> tuple[Inputs, Inputs]:
        """Return the rows, or a layer's outputs there, and the plain gradient of the target by them."""
        return self.passes.gradient(self.inputs, self.read, at=at)[1:]


@dataclass(frozen=True)
class Attribution:
    """What a method returns.

    Attributes
    ----------
    values
        One tensor an input, of its shape, or one tensor of a layer's shape: signed, raw.
    reference_output
        ``(N,)`` f(reference) for methods that distribute a difference; None elsewhere.
    absorbed
        ``(N,)`` the part of f(x) that biases and normalisation shifts took (LRP); None elsewhere.
    error
        Standard errors of the values, of their shapes, where the method samples.
    warnings
        Sentences for the reader.
    details
        Further per-row results by name, such as ``"r2"`` of a surrogate.
    """

    values: Inputs
    reference_output: Tensor | None = None
    absorbed: Tensor | None = None
    error: Inputs | None = None
    warnings: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


def _unit(text: str) -> str:
    return Latent.named(text).spelt


@dataclass(frozen=True, kw_only=True, repr=False)
class Method(Recipe):
    """An attribution method with its settings, as a value: ``integrated_gradients(steps=64)``.

    To add one, subclass as a frozen keyword-only dataclass, give it a `taxonomy` and `attribute`, and register it with
    ``METHODS.register`` or an entry point of the group ``pellucid.methods``; prove it with `pellucid.testing`.

    Attributes
    ----------
    of
        What to explain instead of the model's output, with any method: one unit of a named layer, ``"layer3[12]"``
        (channel 12, averaged over space) or ``"layer3[12, 4, 5]"`` (its response at one place).
    """

    of: Annotated[str, AfterValidator(_unit)] | None = None

    taxonomy: ClassVar[Taxonomy]

    shares_forwards: ClassVar[bool] = False
    """Whether `attribute` explains several targets from the same forwards, when the read-out returns ``(B, T)``."""

    def planned_forwards(self, inputs: Inputs) -> int | None:  # noqa: ARG002  # most can only be tried
        """Return how many forwards a row it takes at most, without any; None where only a run can tell."""
        return None

    @property
    def needs(self) -> tuple[str, ...]:
        """What this method, with these settings, asks of the model."""
        return self.taxonomy.needs

    def target(self, given: Any, model: Model, outputs: Tensor) -> Target:
        """Return what a call explains: the unit that `of` names, else what the user's `given` target means.

        Raises
        ------
        BadTarget
            When both are given and differ, or the target does not fit.
        """
        if self.of is None:
            return resolve(given, model, outputs)
        unit = Latent.named(self.of)
        if given is not None and given != unit:
            raise BadTarget(
                f"{self} explains the unit {self.of!r}, and target={given!r} asks for another: leave one out"
            )
        return unit

    @abstractmethod
    def attribute(self, call: Call) -> Attribution:
        """Explain every row of the call; row i must not depend on row j."""


METHODS: Registry[Method] = Registry("method", Method, "pellucid.methods")  # type: ignore[type-abstract]


def methods() -> dict[str, Taxonomy]:
    """Return what each known method is and needs, by name."""
    return {name: recipe.taxonomy for name, recipe in METHODS.items()}
