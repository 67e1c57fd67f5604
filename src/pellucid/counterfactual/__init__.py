"""Counterfactuals: the smallest believable change of an image that changes the model's answer."""

from pellucid.counterfactual.aim import Aim
from pellucid.counterfactual.attack import pixel_attack
from pellucid.counterfactual.candidates import CANDIDATES, difference, discriminative, gradient_x_difference
from pellucid.counterfactual.counterfactual import counterfactual
from pellucid.counterfactual.engines import (
    Space,
    adversarial_autoencoder,
    class_mean_shift,
    conditional_autoencoder,
    diffusion_autoencoder,
    drawn_in_bins,
    embedding_space,
    faithful_autoencoder,
    inverted_shift,
    latent_shift,
    linear_discriminant,
    natural_counterfactuals,
    phenotype_space,
    pixel_space,
    score_bins,
    variational_autoencoder,
)
from pellucid.counterfactual.gate import gate
from pellucid.counterfactual.generator import GENERATORS, FittedGenerator, Generator
from pellucid.counterfactual.minimal import MinimalMask, minimal_mask
from pellucid.counterfactual.moves import LatentMove, Move, PixelMove
from pellucid.counterfactual.nested import mask_sweep
from pellucid.counterfactual.pairs import Pairs
from pellucid.counterfactual.proxy import proxy_line
from pellucid.counterfactual.result import Counterfactuals
from pellucid.counterfactual.scores import SCORES, Measured, score_counterfactuals, summarise
from pellucid.counterfactual.search import SEARCHES, Problem, Search, latent_optimisation
from pellucid.counterfactual.strip import Exaggeration
from pellucid.counterfactual.support import Support
from pellucid.counterfactual.verdict import Check, GateVerdict

__all__ = [
    "CANDIDATES", "GENERATORS", "SCORES", "SEARCHES", "Aim", "Check", "Counterfactuals", "Exaggeration", "FittedGenerator",
    "GateVerdict", "Generator", "LatentMove", "Measured", "MinimalMask", "Move", "Pairs", "PixelMove", "Problem",
    "Search", "Space", "Support", "adversarial_autoencoder", "class_mean_shift", "conditional_autoencoder",
    "counterfactual", "difference", "diffusion_autoencoder", "discriminative", "drawn_in_bins", "embedding_space",
    "faithful_autoencoder", "gate", "gradient_x_difference", "inverted_shift", "latent_optimisation", "latent_shift",
    "linear_discriminant", "mask_sweep", "minimal_mask", "natural_counterfactuals", "phenotype_space", "pixel_attack",
    "pixel_space", "proxy_line", "score_bins", "score_counterfactuals", "summarise", "variational_autoencoder",
]  # fmt: skip
