"""Attribution: two engines, and the recipes that name them."""

from pellucid.attribution.explain import explain
from pellucid.attribution.explanation import Explanation
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy

__all__ = ["METHODS", "Attribution", "Call", "Explanation", "Method", "Taxonomy", "explain"]
