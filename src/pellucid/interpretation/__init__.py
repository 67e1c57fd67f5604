"""From explanation to interpretation: claims about the model that were tested, in words and with intervals."""

from pellucid.interpretation.annotators import find_annotators
from pellucid.interpretation.associate import associate
from pellucid.interpretation.averages import AverageMap, average_by, average_map, registration
from pellucid.interpretation.background import find_background_use
from pellucid.interpretation.batch_colour import find_batch_colour
from pellucid.interpretation.cases import judge_cases
from pellucid.interpretation.checks import Check, Judged, check_methods
from pellucid.interpretation.choices import find_choices
from pellucid.interpretation.claims import Grounds, try_claims
from pellucid.interpretation.clusters import Clusters, cluster_explanations, pooled_maps
from pellucid.interpretation.confounding import find_confounders
from pellucid.interpretation.differences import class_differences
from pellucid.interpretation.doses import dose_response, doses_of
from pellucid.interpretation.edit_test import EditTests, class_score, edit_and_test, edit_and_test_each
from pellucid.interpretation.evidence import Evidence
from pellucid.interpretation.finding import Finding
from pellucid.interpretation.glass_box import GlassBoxes, Held, embedded, glass_boxes, support_margins, surrogates
from pellucid.interpretation.grounded import Clause, Paragraph, class_paragraph, image_paragraph
from pellucid.interpretation.guideline import Guideline, guideline_overview, guideline_shares, read_guideline
from pellucid.interpretation.interpret import Interpretations, interpret
from pellucid.interpretation.leak import find_leak
from pellucid.interpretation.locality import find_locality
from pellucid.interpretation.odds import LIKELIER, likelier
from pellucid.interpretation.phenotype_findings import phenotype_findings
from pellucid.interpretation.power import SampleSize, sample_size
from pellucid.interpretation.realism import Realism
from pellucid.interpretation.record import (
    CardLine,
    Claim,
    Interpretation,
    records_from_json,
    records_to_json,
    records_to_markdown,
)
from pellucid.interpretation.relevance import relevance_effects, relevance_measures
from pellucid.interpretation.reliance import Reliance, flip_matrix, recovered
from pellucid.interpretation.shares import edit_shares, feature_alone, variance_shares
from pellucid.interpretation.sign_flips import mean_p_value
from pellucid.interpretation.stability import find_setting_spread, find_stability
from pellucid.interpretation.strategies import Named, Strategies, named_strategies
from pellucid.interpretation.strategy_findings import find_strategies
from pellucid.interpretation.suite import ModelSuite, compare_suite
from pellucid.interpretation.trust import find_trust
from pellucid.interpretation.verdict import judge
from pellucid.interpretation.views import Projection, linked_views, project

__all__ = [
    "LIKELIER", "AverageMap", "CardLine", "Check", "Claim", "Clause", "Clusters", "EditTests", "Evidence", "Finding",
    "GlassBoxes", "Grounds", "Guideline", "Held", "Interpretation", "Interpretations", "Judged", "ModelSuite",
    "Named", "Paragraph", "Projection", "Realism", "Reliance", "SampleSize", "Strategies", "associate", "average_by",
    "average_map", "check_methods", "class_differences", "class_paragraph", "class_score", "cluster_explanations",
    "compare_suite", "dose_response", "doses_of", "edit_and_test", "edit_and_test_each", "edit_shares", "embedded",
    "feature_alone", "find_annotators", "find_background_use", "find_batch_colour", "find_choices",
    "find_confounders", "find_leak", "find_locality", "find_setting_spread", "find_stability", "find_strategies",
    "find_trust", "flip_matrix", "glass_boxes", "guideline_overview", "guideline_shares", "image_paragraph",
    "interpret", "judge", "judge_cases", "likelier", "linked_views", "mean_p_value", "named_strategies",
    "phenotype_findings", "pooled_maps", "project", "read_guideline", "records_from_json", "records_to_json",
    "records_to_markdown", "recovered", "registration", "relevance_effects", "relevance_measures", "sample_size",
    "support_margins", "surrogates", "try_claims", "variance_shares",
]  # fmt: skip
