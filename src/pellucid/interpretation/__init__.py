"""From explanation to interpretation: claims about the model that were tested, in words and with intervals."""

from pellucid.interpretation.annotators import find_annotators
from pellucid.interpretation.averages import AverageMap, average_by, average_map, registration
from pellucid.interpretation.background import find_background_use
from pellucid.interpretation.batch_colour import find_batch_colour
from pellucid.interpretation.cases import judge_cases
from pellucid.interpretation.checks import Check, Judged, check_methods
from pellucid.interpretation.choices import find_choices
from pellucid.interpretation.clusters import Clusters, cluster_explanations, pooled_maps
from pellucid.interpretation.confounding import find_confounders
from pellucid.interpretation.evidence import Evidence
from pellucid.interpretation.finding import Finding
from pellucid.interpretation.interpret import Interpretations, interpret
from pellucid.interpretation.leak import find_leak
from pellucid.interpretation.locality import find_locality
from pellucid.interpretation.reliance import Reliance, flip_matrix, recovered
from pellucid.interpretation.stability import find_setting_spread, find_stability
from pellucid.interpretation.strategies import Named, Strategies, find_strategies, named_strategies
from pellucid.interpretation.suite import ModelSuite, compare_suite
from pellucid.interpretation.trust import find_trust
from pellucid.interpretation.verdict import judge
from pellucid.interpretation.views import Projection, linked_views, project

__all__ = [
    "AverageMap", "Check", "Clusters", "Evidence", "Finding", "Interpretations", "Judged", "ModelSuite", "Named",
    "Projection", "Reliance", "Strategies", "average_by", "average_map", "check_methods", "cluster_explanations",
    "compare_suite", "find_annotators", "find_background_use", "find_batch_colour", "find_choices", "find_confounders",
    "find_leak", "find_locality", "find_setting_spread", "find_stability", "find_strategies", "find_trust", "flip_matrix",
    "interpret", "judge", "judge_cases", "linked_views", "named_strategies", "pooled_maps", "project", "recovered",
    "registration",
]  # fmt: skip
