"""Evaluation: how far an explanation can be trusted, and which method is best for this model and these images."""

from pellucid.evaluation import (  # noqa: F401  # importing a module registers its metrics
    agreement,
    augmentation,
    axioms,
    complexity,
    curves,
    impact,
    localisation,
    preserving,
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
from pellucid.evaluation.choices import choice_effects
from pellucid.evaluation.contrasts import input_dependence, input_independence, model_contrast
from pellucid.evaluation.disagreement import Agreement, agree
from pellucid.evaluation.evaluate import PANEL, PLAUSIBILITY, evaluate
from pellucid.evaluation.metric import FAMILIES, METRICS, Metric, Outcome, Profile, metrics
from pellucid.evaluation.pipeline import Pipeline, Rescored, rescore
from pellucid.evaluation.ranking import CONTROLS, Friedman, Ranking, rank
from pellucid.evaluation.ratings import RatingAgreement, rating_agreement
from pellucid.evaluation.readout import explanation_spread, readout_quality, risk_coverage
from pellucid.evaluation.scores import Scores
from pellucid.evaluation.selftest import SelfTest, self_test
from pellucid.evaluation.stability import average_distances, compare_models, equally_accurate
from pellucid.evaluation.steadiness import augmentation_curves
from pellucid.evaluation.sweep import Sweep, sweep

__all__ = [
    "CONTROLS", "FAMILIES", "METRICS", "PANEL", "PLAUSIBILITY", "Agreement", "Bench", "Calibration", "Friedman",
    "Metric", "Outcome", "Pipeline", "Profile", "Ranking", "RatingAgreement", "Rescored", "Scores", "SelfTest", "Sweep", "agree",
    "annotator_agreement", "augmentation_curves", "average_distances", "calibrate", "choice_effects",
    "compare_models", "equally_accurate", "evaluate", "explanation_spread", "input_dependence", "input_independence", "metrics", "model_contrast", "rank", "rating_agreement",
    "readout_quality", "rescore", "risk_coverage", "self_test", "sweep",
]  # fmt: skip
