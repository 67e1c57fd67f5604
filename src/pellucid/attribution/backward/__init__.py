"""The rule-backward engine: what is propagated from the output to the input, operation by operation."""

from pellucid.attribution.backward.rectify import relu_rules
from pellucid.attribution.backward.rescale import between, rescale_rules

__all__ = ["between", "relu_rules", "rescale_rules"]
