"""PatternNet and PatternAttribution: the signal in the image, without the distractor that the weights cancel."""

import hashlib
from dataclasses import dataclass
from typing import ClassVar, Literal

from pellucid.attribution.backward.outset import from_values
from pellucid.attribution.backward.patterned import pattern_rules
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.patterns import Fitted, Patterns
from pellucid.errors import CannotExplain

__all__ = ["PATTERNS", "asks_for_patterns", "pattern_attribution", "pattern_net"]

PATTERNS = "patterns"
"""Name under which a `Model` holds the patterns that were fitted for it, in ``Model.fitted``."""

_REFERENCE = "Kindermans et al. 2018, Learning how to explain neural networks, ICLR"


@dataclass(frozen=True, kw_only=True, repr=False)
class _Patterned(Method):
    """A backward pass by patterns fitted on data."""

    patterns: Fitted | None = None
    at: str | None = None

    kind: ClassVar[Literal["net", "attribution"]]

    @property
    def definition(self) -> str:
        """The recipe's definition, the content of its patterns included, whatever file they lie in."""
        own = super().definition
        return (
            own if self.patterns is None else hashlib.sha256(f"{own}{self.patterns.digest}".encode()).hexdigest()[:16]
        )

    def attribute(self, call: Call) -> Attribution:
        """Pull the target back by patterns."""
        known = self.patterns or call.passes.model.fitted.get(PATTERNS)
        if not isinstance(known, Patterns):
            raise CannotExplain(
                f"{self.name} needs patterns, which are fitted on images like those that the model was trained on: "
                f"{self.name}(patterns=pellucid.fit_patterns(model, images)); a study fits them by itself"
            )
        silent: list[int] = []
        rules = pattern_rules(tuple(known.tensors.values()), self.kind, silent.append)
        read = from_values(call.read) if self.kind == "attribution" else call.read
        values = call.passes.gradient(call.inputs, read, rules=rules, known=call.output, at=self.at)[2]
        details = {"patterns": f"sha256:{known.digest[:16]}", "silent_units": silent[-1]}
        return Attribution(values, warnings=_warnings(silent[-1]), details=details)


def _warnings(silent: int) -> tuple[str, ...]:
    if not silent:
        return ()
    return (
        f"{silent} unit(s) have no pattern, since no image that they were fitted on moved them: they hand nothing back",
    )


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class pattern_net(_Patterned):
    """What in the image the model's units respond to, in the image's own terms: the signal, not the filter.

    As the gradient, but each convolution and linear layer passes back its pattern, the direction in which its input
    varies with its response over real images, in the place of its weight. Weights also point where the model subtracts
    what it must ignore; patterns do not.

    Attributes
    ----------
    patterns
        From `pellucid.fit_patterns`, or the path of a saved file; None takes the model's own, which a study fits on its
        training images.
    at
        Name of a layer: the signal in that layer's output instead of the image.

    Raises
    ------
    CannotExplain
        When there are no patterns, or they were fitted for other weights.
    GuardError
        When the network holds an operation without a pattern; the sentence names it.
    """

    kind: ClassVar[Literal["net", "attribution"]] = "net"

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="backpropagation",
        question="What does the signal look like that the output responds to?",
        needs=("gradients",),
        cost="1 forward, 1 backward and 1 pass more through each layer with weights; patterns: 1 forward an image, once",
        reference=_REFERENCE,
        warning="It shows a direction, not shares of the output; patterns hold for images like those they were fitted on.",
        kind="visualisation",
        mechanism="signal",
    )


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class pattern_attribution(_Patterned):
    """How much each pixel's signal, apart from the distractor that the weights cancel, drives the output.

    As `pattern_net`, with pattern × weight passed back, from the output's value: a root point is sought along each unit's
    signal. A unit hands on what it is given in full; what reaches units that a ReLU switched off is dropped.

    Attributes
    ----------
    patterns, at
        As for `pattern_net`.

    Raises
    ------
    CannotExplain, GuardError
        As `pattern_net`.
    """

    kind: ClassVar[Literal["net", "attribution"]] = "attribution"

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="backpropagation",
        question="Which pixels carry the signal that the output was computed from?",
        needs=("gradients",),
        cost="1 forward, 1 backward and 1 pass more through each layer with weights; patterns: 1 forward an image, once",
        reference=_REFERENCE,
        warning="Shares of each unit's response as it is on average; the image's own values count through ReLUs only.",
        mechanism="signal",
    )


def asks_for_patterns(recipe: Method) -> bool:
    """Say whether a method, or the one that it averages, takes the patterns that the model was given."""
    inner = getattr(recipe, "base", recipe)
    return isinstance(inner, _Patterned) and inner.patterns is None
