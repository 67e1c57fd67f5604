"""The rule-backward engine: what is propagated from the output to the input, operation by operation."""

from pellucid.attribution.backward.beside import Comparison
from pellucid.attribution.backward.ledger import Books
from pellucid.attribution.backward.raised import Kind, Revealing
from pellucid.attribution.backward.rectify import relu_rules
from pellucid.attribution.backward.relevance import relevance_rules
from pellucid.attribution.backward.rescale import RESCALE
from pellucid.attribution.backward.reveal import REVEAL
from pellucid.attribution.backward.rows import RowsMoved
from pellucid.attribution.backward.shares import ShareRule, alpha_beta, box, flat, gamma, plus, squared, unbiased_plus
from pellucid.attribution.backward.spread import Composite

__all__ = [
    "RESCALE", "REVEAL", "Books", "Comparison", "Composite", "Kind", "Revealing", "RowsMoved", "ShareRule", "alpha_beta",
    "box", "flat", "gamma", "plus", "relevance_rules", "relu_rules", "squared", "unbiased_plus",
]  # fmt: skip
