"""Explain, test and rank what an image model in biology or medicine uses, and say what it means."""

from pellucid.attribution import Explanation, Method, explain
from pellucid.errors import PellucidError, UntrustedModel
from pellucid.images import ImageSet
from pellucid.models import Model, targets

__all__ = ["Explanation", "ImageSet", "Method", "Model", "PellucidError", "UntrustedModel", "explain", "targets"]
__version__ = "0.1.0"
