"""Rules for rectifiers: deconvnet and guided backpropagation change what a ReLU lets back, and nothing else."""

from typing import Literal

from torch import Tensor

from pellucid.attribution.backward.functions import RECTIFIERS
from pellucid.attribution.backward.graph import CURVED, LINEAR, PEAKS, WEIGHTED
from pellucid.attribution.backward.intercept import Entry, RuleSet, entries, intercepted
from pellucid.attribution.backward.operation import Operation, Pullback
from pellucid.errors import CannotExplain
from pellucid.models import Forward, Model, Rules

__all__ = ["relu_rules"]


def _deconvnet(operation: Operation, met: list[str]) -> tuple[Tensor, Pullback]:
    met.append(operation.name)
    return operation.run(*operation.active), lambda arrived: (arrived.clamp(min=0),)


def _guided(operation: Operation, met: list[str]) -> tuple[Tensor, Pullback]:
    met.append(operation.name)
    output: Tensor = operation.run(*operation.active)
    (entering,) = operation.active
    open_ = output > 0
    if operation.name == "relu6":
        open_ &= entering < 6
    return output, lambda arrived: (arrived.clamp(min=0).mul_(open_),)


_SETS = {
    kind: RuleSet(name, entries(RECTIFIERS, Entry(rule)), LINEAR | WEIGHTED | PEAKS | CURVED, products=True)
    for kind, name, rule in (("deconvnet", "deconvnet", _deconvnet), ("guided", "guided_backprop", _guided))
}


def relu_rules(kind: Literal["deconvnet", "guided"], method: str | None = None) -> Rules:
    """Return rules for `Passes.gradient` that let only positive signals back through each ReLU.

    Parameters
    ----------
    kind
        ``"deconvnet"`` stops negative signals; ``"guided"`` stops them and everything at units that were off.
    method
        Who asks, for messages; None: the method of that kind itself.

    Raises
    ------
    CannotExplain
        In the pass, when the network has no ReLU: the rules would change nothing and the map be the plain gradient.
    """
    rules = _SETS[kind] if method is None else _SETS[kind].named(method)

    def change(model: Model, forward: Forward) -> Forward:
        def changed(*inputs: Tensor) -> tuple[Tensor, ...]:
            met: list[str] = []
            outputs = intercepted(rules, met, model, forward, inputs)
            if not met:
                raise CannotExplain(
                    f"{rules.name} changes what a ReLU lets back, and this network calls none; "
                    "use gradient, integrated_gradients, deeplift or lrp"
                )
            return outputs

        return changed

    return change
