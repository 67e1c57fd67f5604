"""Counterfactuals: the smallest believable change of an image that changes the model's answer."""

from pellucid.counterfactual import engines
from pellucid.counterfactual.aim import Aim
from pellucid.counterfactual.attack import pixel_attack
from pellucid.counterfactual.counterfactual import counterfactual
from pellucid.counterfactual.faithful import faithful_autoencoder
from pellucid.counterfactual.gate import gate
from pellucid.counterfactual.generator import GENERATORS, FittedGenerator, Generator
from pellucid.counterfactual.moves import LatentMove, Move, PixelMove
from pellucid.counterfactual.proxy import proxy_line
from pellucid.counterfactual.result import Counterfactuals, Exaggeration
from pellucid.counterfactual.scores import Measured, score_counterfactuals, summarise
from pellucid.counterfactual.search import SEARCHES, Problem, Search, latent_optimisation
from pellucid.counterfactual.support import Support
from pellucid.counterfactual.verdict import Check, GateVerdict

__all__ = [
    "GENERATORS", "SEARCHES", "Aim", "Check", "Counterfactuals", "Exaggeration", "FittedGenerator", "GateVerdict", "Generator",
    "LatentMove", "Measured", "Move", "PixelMove", "Problem", "Search", "Support", "counterfactual", "engines", "faithful_autoencoder",
    "gate", "latent_optimisation", "pixel_attack", "proxy_line", "score_counterfactuals", "summarise",
]  # fmt: skip
