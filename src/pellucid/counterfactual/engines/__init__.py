"""Further generators of counterfactuals, searches along lines, and the counterfactual that needs none: the nearest real image."""

from pellucid.counterfactual.engines.adversarial import adversarial_autoencoder
from pellucid.counterfactual.engines.audit import drawn_in_bins, score_bins
from pellucid.counterfactual.engines.conditional import conditional_autoencoder
from pellucid.counterfactual.engines.diffusion import diffusion_autoencoder
from pellucid.counterfactual.engines.faithful import faithful_autoencoder
from pellucid.counterfactual.engines.inversion import inverted_shift
from pellucid.counterfactual.engines.lines import class_mean_shift, latent_shift, linear_discriminant
from pellucid.counterfactual.engines.natural import natural_counterfactuals
from pellucid.counterfactual.engines.spaces import Space, embedding_space, phenotype_space, pixel_space
from pellucid.counterfactual.engines.vae import variational_autoencoder

__all__ = [
    "Space", "adversarial_autoencoder", "class_mean_shift", "conditional_autoencoder", "diffusion_autoencoder", "drawn_in_bins", "embedding_space",
    "faithful_autoencoder", "inverted_shift", "latent_shift", "linear_discriminant", "natural_counterfactuals",
    "phenotype_space", "pixel_space", "score_bins", "variational_autoencoder",
]  # fmt: skip
