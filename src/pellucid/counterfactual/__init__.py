"""Counterfactuals: the smallest believable change of an image that changes the model's answer."""

from pellucid.counterfactual.candidates import CANDIDATES, difference, discriminative, gradient_x_difference
from pellucid.counterfactual.generator import GENERATORS, FittedGenerator, Generator
from pellucid.counterfactual.minimal import MinimalMask, minimal_mask
from pellucid.counterfactual.nested import mask_sweep
from pellucid.counterfactual.pairs import Pairs

__all__ = [
    "CANDIDATES", "GENERATORS", "FittedGenerator", "Generator", "MinimalMask", "Pairs", "difference", "discriminative",
    "gradient_x_difference", "mask_sweep", "minimal_mask",
]  # fmt: skip
