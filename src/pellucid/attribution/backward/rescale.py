"""DeepLIFT's Rescale rules: each operation's slope between the image and the baseline.

What is pulled back is a multiplier m with Σ m·Δinput = Δoutput at every operation.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pellucid.attribution.backward import peaks, soft
from pellucid.attribution.backward.beside import at_both
from pellucid.attribution.backward.functions import ACTIVATIONS, MAX_POOLS, QUADRATIC, QUOTIENTS, STRAIGHT, functions
from pellucid.attribution.backward.graph import LINEAR, WEIGHTED
from pellucid.attribution.backward.intercept import Entry, RuleSet, entries
from pellucid.attribution.backward.masks import MASKS, follow_masks
from pellucid.attribution.backward.operands import active, one, several
from pellucid.attribution.backward.operation import Function
from pellucid.attribution.backward.parts import PARTS
from pellucid.attribution.backward.slopes import bent, middle, quotient, straight

__all__ = ["RESCALE"]


def _by_activation(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    return active(args[1:], kwargs) > 0


def _addcdiv(_state: Any, input: Tensor, one: Tensor, other: Tensor, *, value: float = 1) -> Tensor:  # noqa: A002
    return torch.add(input, torch.mul(torch.div(one, other), value))


def _softmin(_state: Any, input: Tensor, dim: int, *_rest: Any, **_settings: Any) -> Tensor:  # noqa: A002
    return torch.softmax(torch.neg(input), dim)


def _cosine(state: Any, x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    one, other = (PARTS["normalize"](state, values, 2.0, dim, eps) for values in (x1, x2))
    return torch.mul(one, other).sum(dim)


def _distance(state: Any, x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:  # noqa: FBT001, FBT002
    return PARTS["norm"](state, torch.sub(x1, x2) + eps, p, -1, keepdim)  # type: ignore[no-any-return]


_FORWARD = [function for function in functions(QUOTIENTS) if not function.__name__.startswith("__r")]
_TABLE: dict[Function, Entry] = {
    **{function: entry for name, parts in PARTS.items()
       for function, entry in entries((name,), Entry(parts=parts, when=lambda *call: active(*call) > 0)).items()},
    **entries(ACTIVATIONS, Entry(at_both(bent), one)),
    **entries(STRAIGHT, Entry(at_both(straight), one)),
    **entries(MAX_POOLS, Entry(at_both(peaks.pooled))),
    **entries(("max",), Entry(at_both(peaks.largest))),
    **entries(QUADRATIC, Entry(at_both(middle), several)),
    **entries(QUOTIENTS, Entry(at_both(quotient))),
    **dict.fromkeys(_FORWARD, Entry(at_both(quotient), _by_activation)),
    **entries(("softmax",), Entry(at_both(soft.softmax))),
    **entries(("log_softmax",), Entry(at_both(soft.log_softmax))),
    **entries(("logsumexp",), Entry(at_both(soft.logsumexp))),
    **entries(("pow", "float_power"), Entry(at_both(bent), one)),
    **entries(("softmin",), Entry(parts=_softmin)),
    **entries(("addcdiv",), Entry(parts=_addcdiv)),
    **entries(("cosine_similarity",), Entry(parts=_cosine)),
    **entries(("pairwise_distance",), Entry(parts=_distance)),
    **MASKS,
}  # fmt: skip

RESCALE = RuleSet("deeplift", _TABLE, LINEAR | WEIGHTED, follow=follow_masks)
"""What DeepLIFT does with every operation that it knows."""
