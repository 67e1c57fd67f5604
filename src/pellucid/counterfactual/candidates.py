"""Candidate maps of a pair: where the counterfactual differs from the real image, and where that matters to the model."""

from abc import abstractmethod
from dataclasses import dataclass, fields
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator
from torch import Tensor

from pellucid.attribution import METHODS, explain
from pellucid.counterfactual.pairs import Pairs
from pellucid.errors import BadRecipe
from pellucid.recipes import Recipe, Registry

__all__ = ["CANDIDATES", "Candidate", "difference", "discriminative", "gradient_x_difference"]


@dataclass(frozen=True, repr=False)
class Candidate(Recipe):
    """A way to rank the pixels of a pair; a value that prints and parses like a method."""

    @abstractmethod
    def values(self, pairs: Pairs, *, seed: int, batch_size: int | None) -> Tensor:
        """Return values ``(N, C, *S)``: positive where the change of the pixel speaks for the counterfactual's answer."""


CANDIDATES: Registry[Candidate] = Registry("candidate map", Candidate, "pellucid.candidates")  # type: ignore[type-abstract]
"""Candidate maps by name; other packages add theirs by the entry point group ``pellucid.candidates``."""


@CANDIDATES.register
@dataclass(frozen=True, kw_only=True, repr=False)
class difference(Candidate):
    """How much each pixel changed, in the units of the image; knows nothing of the model."""

    def values(self, pairs: Pairs, *, seed: int, batch_size: int | None) -> Tensor:  # noqa: ARG002
        """Return |counterfactual − real|."""
        return (pairs.counterfactual - pairs.real).abs()


def _with_baseline(text: Any) -> Any:
    if isinstance(text, str) and "baseline" not in {field.name for field in fields(METHODS.parse(text))}:
        raise BadRecipe(f"discriminative(method={text!r}): the method compares with no baseline; "
                        "give integrated_gradients, deeplift or another that has one")  # fmt: skip
    return str(METHODS.parse(text)) if isinstance(text, str) else text


@CANDIDATES.register
@dataclass(frozen=True, kw_only=True, repr=False)
class discriminative(Candidate):
    """What each pixel's change adds to the change of the score: a method that compares, with the real image as its baseline.

    Attributes
    ----------
    method
        Text of a method that has a ``baseline``; its own baseline is replaced.

    References
    ----------
    Eckstein et al. 2021, Discriminative attribution from counterfactuals, arXiv 2109.13412.
    """

    method: Annotated[str, BeforeValidator(_with_baseline)] = "integrated_gradients(steps=32)"

    def values(self, pairs: Pairs, *, seed: int, batch_size: int | None) -> Tensor:
        """Explain every counterfactual against its real image; one call a pair, so that no row depends on another."""
        method, found = METHODS.parse(self.method), []
        for row, name in enumerate(pairs.ids):
            target, sign = pairs.asked(row)
            (start,) = pairs.model.prepare(pairs.real[row : row + 1])
            explained = explain(
                pairs.model, pairs.counterfactual[row : row + 1], method.replace(baseline=start[0].cpu()), target,
                ids=[name], seed=seed, batch_size=batch_size,
            )  # fmt: skip
            assert isinstance(explained.values, Tensor)  # noqa: S101  # one input
            found.append(sign * explained.values)
        return torch.cat(found)


@CANDIDATES.register
@dataclass(frozen=True, kw_only=True, repr=False)
class gradient_x_difference(Candidate):
    """What each pixel's change would add if the model went on as it begins: gradient at the real image × change."""

    def values(self, pairs: Pairs, *, seed: int, batch_size: int | None) -> Tensor:
        """Return the first-order part of the change of the score."""
        found = []
        (start,), (stop,) = (pairs.model.prepare(images) for images in (pairs.real, pairs.counterfactual))
        for row in range(len(pairs)):
            target, sign = pairs.asked(row)
            image = pairs.real[row : row + 1]
            slope = explain(pairs.model, image, "gradient", target, seed=seed, batch_size=batch_size).values
            assert isinstance(slope, Tensor)  # noqa: S101  # one input
            found.append(sign * slope * (stop - start)[row : row + 1].cpu())
        return torch.cat(found)
