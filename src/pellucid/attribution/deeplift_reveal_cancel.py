"""DeepLIFT with RevealCancel: what cancels within a layer is shared out too."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch

from pellucid.attribution.backward import REVEAL, Comparison, Kind, Revealing
from pellucid.attribution.deeplift import compared
from pellucid.attribution.fills import Fill, reference
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy

__all__ = ["deeplift_reveal_cancel"]

Rule = Literal["reveal_cancel", "rescale"]


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class deeplift_reveal_cancel(Method):
    """How much each pixel's difference from a baseline image adds to the output's, with what cancels told apart.

    What raises a unit and what lowers it are followed as two parts from each convolution or linear layer through sums and
    BatchNorm to the next nonlinearity; each part's effect there is the mean of its effects before and after the other's
    comes in. Where no parts are known (past a maximum, a product, a softmax), `deeplift`'s slopes serve. The values add up
    all the same. The original's "genomics default" is ``convolution="rescale"``.

    Attributes
    ----------
    baseline
        What "absent" looks like: a fill's name, a number, or one number a channel, in model space.
    convolution, dense
        The rule of nonlinearities after convolutions, and after linear layers: ``"reveal_cancel"`` or ``"rescale"``.

    Raises
    ------
    GuardError
        When the network holds an operation without such a rule; the sentence names it.
    """

    baseline: Fill = "zero"
    convolution: Rule = "reveal_cancel"
    dense: Rule = "reveal_cancel"

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="backpropagation",
        question="What does each pixel add to the output, compared with the baseline image, also where others cancel it?",
        needs=("gradients",),
        complete="exact",
        cost="3 forwards, 1 backward, and two more passes through each layer with weights",
        reference="Shrikumar et al. 2017, ICML",
        warning="The values speak of the difference from this baseline; another baseline gives other values.",
    )

    def attribute(self, call: Call) -> Attribution:
        """Pull the multipliers of both parts back through the network."""
        settings: dict[Kind, Rule] = {"convolution": self.convolution, "dense": self.dense}
        kinds = frozenset(kind for kind, rule in settings.items() if rule == "reveal_cancel")
        pair = Comparison(REVEAL, len(call.inputs), partial(Revealing, reveal=kinds))
        baselines = reference(self.baseline, call.inputs, call.seeds)
        values, before = compared(call, baselines, torch.arange(len(call)), pair)
        return Attribution(values, reference_output=before)
