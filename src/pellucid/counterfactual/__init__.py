"""Counterfactuals: the smallest believable change of an image that changes the model's answer."""

from pellucid.counterfactual.aim import Aim
from pellucid.counterfactual.attack import pixel_attack
from pellucid.counterfactual.candidates import CANDIDATES, difference, discriminative, gradient_x_difference
from pellucid.counterfactual.counterfactual import counterfactual
from pellucid.counterfactual.faithful import faithful_autoencoder
from pellucid.counterfactual.gate import gate
from pellucid.counterfactual.generator import GENERATORS, FittedGenerator, Generator
from pellucid.counterfactual.minimal import MinimalMask, minimal_mask
from pellucid.counterfactual.moves import LatentMove, Move, PixelMove
from pellucid.counterfactual.nested import mask_sweep
from pellucid.counterfactual.pairs import Pairs
from pellucid.counterfactual.proxy import proxy_line
from pellucid.counterfactual.result import Counterfactuals, Exaggeration
from pellucid.counterfactual.scores import Measured, score_counterfactuals, summarise
from pellucid.counterfactual.search import SEARCHES, Problem, Search, latent_optimisation
from pellucid.counterfactual.support import Support
from pellucid.counterfactual.verdict import Check, GateVerdict

__all__ = [
    "CANDIDATES", "GENERATORS", "SEARCHES", "Aim", "Check", "Counterfactuals", "Exaggeration", "FittedGenerator",
    "GateVerdict", "Generator", "LatentMove", "Measured", "MinimalMask", "Move", "Pairs", "PixelMove", "Problem", "Search",
    "Support", "counterfactual", "difference", "discriminative", "faithful_autoencoder", "gate", "gradient_x_difference",
    "latent_optimisation", "mask_sweep", "minimal_mask", "pixel_attack", "proxy_line", "score_counterfactuals",
    "summarise",
]  # fmt: skip
