"""Further generators of counterfactuals, and the counterfactual that needs none: the nearest real image."""

from pellucid.counterfactual.engines.natural import natural_counterfactuals
from pellucid.counterfactual.engines.spaces import Space, embedding_space, phenotype_space, pixel_space

__all__ = ["Space", "embedding_space", "natural_counterfactuals", "phenotype_space", "pixel_space"]
