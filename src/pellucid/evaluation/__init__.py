"""Evaluation: how far an explanation can be trusted, and which method is best for this model and these images."""

from pellucid.evaluation import (  # noqa: F401  # importing a module registers its metrics
    agreement,
    axioms,
    complexity,
    curves,
    localisation,
    randomisation,
    regioncurves,
    robustness,
    subsets,
    toppart,
)
from pellucid.evaluation.bench import Bench
from pellucid.evaluation.calibration import Calibration, calibrate
from pellucid.evaluation.evaluate import PANEL, PLAUSIBILITY, evaluate
from pellucid.evaluation.metric import FAMILIES, METRICS, Metric, Outcome, Profile, metrics
from pellucid.evaluation.ranking import CONTROLS, Friedman, Ranking, rank
from pellucid.evaluation.scores import Scores

__all__ = [
    "CONTROLS", "FAMILIES", "METRICS", "PANEL", "PLAUSIBILITY", "Bench", "Calibration", "Friedman", "Metric", "Outcome", "Profile", "Ranking", "Scores",
    "calibrate", "evaluate", "metrics", "rank",
]  # fmt: skip
