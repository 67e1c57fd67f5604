"""The rule-backward engine: what is propagated from the output to the input, operation by operation."""

from pellucid.attribution.backward.ledger import Books
from pellucid.attribution.backward.rectify import relu_rules
from pellucid.attribution.backward.relevance import relevance_rules
from pellucid.attribution.backward.rescale import between, rescale_rules
from pellucid.attribution.backward.rows import RowsMoved
from pellucid.attribution.backward.shares import alpha_beta, box, flat, gamma, plus, unbiased_plus
from pellucid.attribution.backward.spread import Composite

__all__ = [
    "Books", "Composite", "RowsMoved", "alpha_beta", "between", "box", "flat", "gamma", "plus", "relevance_rules", "relu_rules", "rescale_rules", "unbiased_plus",
]  # fmt: skip
