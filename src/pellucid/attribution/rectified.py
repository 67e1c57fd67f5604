"""Deconvnet and guided backpropagation: sharp pictures of edges, nearly the same whatever the class."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from pellucid.attribution.backward import relu_rules
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy

__all__ = ["deconvnet", "guided_backprop"]

_WARNING = (
    "It is nearly class-independent: it mostly shows edges, and a randomised network gives almost the same picture, "
    "so it must be expected to fail parameter_randomisation. Never read it as what the class depends on."
)


@dataclass(frozen=True, kw_only=True, repr=False)
class _Rectified(Method):
    """A gradient that passes ReLUs in a way of its own."""

    at: str | None = None

    kind: ClassVar[Literal["deconvnet", "guided"]]

    def attribute(self, call: Call) -> Attribution:
        """Pull the target back with rectified signals."""
        rules = relu_rules(self.kind)
        return Attribution(call.passes.gradient(call.inputs, call.read, rules=rules, known=call.output, at=self.at)[2])


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class deconvnet(_Rectified):
    """Which image structures excite the units behind the output, followed back through positive signals only.

    Every ReLU lets back the positive part of what arrives, whether it was on or not; all other operations pass their
    plain gradient. Nearly class-independent: expect it to fail parameter randomisation.

    Attributes
    ----------
    at
        Name of a layer: what arrives at that layer's output instead of the image.

    Raises
    ------
    CannotExplain
        When the network calls no ReLU.
    GuardError
        When a nonlinearity is hidden from the rules (scripted, a custom Function, checkpointed).
    """

    kind: ClassVar[Literal["deconvnet", "guided"]] = "deconvnet"

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="backpropagation",
        question="Which structures excite the units behind the output?",
        needs=("gradients",),
        cost="1 forward, 1 backward",
        reference="Zeiler & Fergus 2014, ECCV",
        warning=_WARNING,
        kind="visualisation",
    )


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class guided_backprop(_Rectified):
    """Which image structures excite the units behind the output, through units that were on and signals that add.

    Every ReLU lets back the positive part of what arrives where it was on; all other operations pass their plain
    gradient. Nearly class-independent: expect it to fail parameter randomisation.

    Attributes
    ----------
    at
        Name of a layer: what arrives at that layer's output instead of the image.

    Raises
    ------
    CannotExplain
        When the network calls no ReLU.
    GuardError
        When a nonlinearity is hidden from the rules (scripted, a custom Function, checkpointed).
    """

    kind: ClassVar[Literal["deconvnet", "guided"]] = "guided"

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="backpropagation",
        question="Which structures excite the active units behind the output?",
        needs=("gradients",),
        cost="1 forward, 1 backward",
        reference="Springenberg et al. 2015, ICLR workshop",
        warning=_WARNING,
        kind="visualisation",
    )
