"""Evaluation: how far an explanation can be trusted, and which method is best for this model and these images."""

from pellucid.evaluation import (  # noqa: F401  # importing a module registers its metrics
    agreement,
    augmentation,
    axioms,
    complexity,
    curves,
    impact,
    localisation,
    randomisation,
    regioncurves,
    repeat,
    road,
    robustness,
    subsets,
    toppart,
)
from pellucid.evaluation.annotators import annotator_agreement
from pellucid.evaluation.bench import Bench
from pellucid.evaluation.calibration import Calibration, calibrate
from pellucid.evaluation.disagreement import Agreement, agree
from pellucid.evaluation.evaluate import PANEL, PLAUSIBILITY, evaluate
from pellucid.evaluation.metric import FAMILIES, METRICS, Metric, Outcome, Profile, metrics
from pellucid.evaluation.ranking import CONTROLS, Friedman, Ranking, rank
from pellucid.evaluation.scores import Scores
from pellucid.evaluation.selftest import SelfTest, self_test
from pellucid.evaluation.stability import average_distances, compare_models, equally_accurate
from pellucid.evaluation.sweep import Sweep, sweep

__all__ = [
    "CONTROLS", "FAMILIES", "METRICS", "PANEL", "PLAUSIBILITY", "Agreement", "Bench", "Calibration", "Friedman",
    "Metric", "Outcome", "Profile", "Ranking", "Scores", "SelfTest", "Sweep", "agree", "annotator_agreement", "average_distances", "calibrate",
    "compare_models", "equally_accurate", "evaluate", "metrics", "rank", "self_test", "sweep",
]  # fmt: skip
