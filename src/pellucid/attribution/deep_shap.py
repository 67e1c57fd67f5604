"""Deep SHAP: DeepLIFT, averaged over a set of reference images."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from pellucid.attribution.backgrounds import Background, references
from pellucid.attribution.backward import RESCALE, Comparison
from pellucid.attribution.deeplift import compared
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.packing import packs

__all__ = ["deep_shap"]


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class deep_shap(Method):
    """How much each pixel adds to the output's difference from the mean output of a background set.

    DeepLIFT's Rescale rule against every background image, averaged after multiplying by the difference: values add up to
    f(x) less the mean of f over the background.

    Attributes
    ----------
    background
        A fill, several fills as a tuple, or images ``(M, C, *S)`` in model space, a tensor.

    Raises
    ------
    ShapeError
        When background images do not have the explained images' shape.
    GuardError
        When the network holds an operation without such a rule; the sentence names it.
    """

    background: Background = "zero"

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="backpropagation",
        question="What does each pixel add to the output, compared with the images of a background set?",
        needs=("gradients",),
        complete="exact",
        cost="3 forwards, 1 backward for every background image",
        reference="Lundberg and Lee 2017, NeurIPS; Chen et al. 2022, Nature Communications 13",
        warning="It speaks of the difference from this background, and approximates Shapley values layer by layer.",
    )

    def attribute(self, call: Call) -> Attribution:
        """Average DeepLIFT over the background of every row."""
        known = references(self.background, call)
        totals = tuple(torch.zeros_like(x, dtype=torch.float64) for x in call.inputs)
        before = torch.zeros_like(call.output, dtype=torch.float64)
        for pack in packs(call.passes, call.inputs, len(known)):
            pair = Comparison(RESCALE.named(self.name), len(call.inputs))
            values, scores = compared(call, known.of(pack.owner, pack.turn), pack.owner, pair)
            for total, part in zip((*totals, before), (*values, scores), strict=True):
                total.index_add_(0, pack.owner.to(total.device), part.double())
        means = tuple((total / len(known)).to(x) for total, x in zip(totals, call.inputs, strict=True))
        before = (before / len(known)).to(call.output)
        return Attribution(means, reference_output=before, details={"background": known.meaning})
