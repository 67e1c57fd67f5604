"""Explain, test and rank what an image model in biology or medicine uses, and say what it means."""

from pellucid.attribution import (
    Explanation,
    Method,
    activation_maps,
    combine,
    estimate,
    explain,
    explain_targets,
    fit_patterns,
    methods,
    reference_sensitivity,
)
from pellucid.errors import PellucidError, UntrustedModel
from pellucid.evaluation import Metric, Ranking, Scores, evaluate, metrics, rank
from pellucid.images import ImageSet, read_images
from pellucid.models import Model, fit, load_model, targets
from pellucid.study import Study

__all__ = [
    "Explanation",
    "ImageSet",
    "Method",
    "Metric",
    "Model",
    "PellucidError",
    "Ranking",
    "Scores",
    "Study",
    "UntrustedModel",
    "activation_maps",
    "combine",
    "estimate",
    "evaluate",
    "explain",
    "explain_targets",
    "fit",
    "fit_patterns",
    "load_model",
    "methods",
    "metrics",
    "rank",
    "read_images",
    "reference_sensitivity",
    "targets",
]
__version__ = "0.1.0"
