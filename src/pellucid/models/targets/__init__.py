"""What is explained: from the model's output to one scalar a row, frozen before anything is perturbed."""

from pellucid.models.targets.classes import Class, Contrast, LogOdds, Output
from pellucid.models.targets.embedding import Latent, Similarity
from pellucid.models.targets.region import Region
from pellucid.models.targets.resolve import resolve
from pellucid.models.targets.target import TARGETS, ReadOut, Target

__all__ = [
    "TARGETS",
    "Class",
    "Contrast",
    "Latent",
    "LogOdds",
    "Output",
    "ReadOut",
    "Region",
    "Similarity",
    "Target",
    "resolve",
]
