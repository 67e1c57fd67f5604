"""Counterfactuals: the smallest believable change of an image that changes the model's answer."""

from pellucid.counterfactual.generator import GENERATORS, FittedGenerator, Generator

__all__ = ["GENERATORS", "FittedGenerator", "Generator"]
