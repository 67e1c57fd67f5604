"""From explanation to interpretation: claims about the model that were tested, in words and with intervals."""

from pellucid.interpretation.annotators import find_annotators
from pellucid.interpretation.associate import associate
from pellucid.interpretation.background import find_background_use
from pellucid.interpretation.batch_colour import find_batch_colour
from pellucid.interpretation.cases import judge_cases
from pellucid.interpretation.checks import Check, Judged, check_methods
from pellucid.interpretation.choices import find_choices
from pellucid.interpretation.confounding import find_confounders
from pellucid.interpretation.evidence import Evidence
from pellucid.interpretation.finding import Finding
from pellucid.interpretation.interpret import Interpretations, interpret
from pellucid.interpretation.leak import find_leak
from pellucid.interpretation.locality import find_locality
from pellucid.interpretation.reliance import Reliance, flip_matrix, recovered
from pellucid.interpretation.stability import find_setting_spread, find_stability
from pellucid.interpretation.trust import find_trust
from pellucid.interpretation.verdict import judge

__all__ = [
    "Check", "Evidence", "Finding", "Interpretations", "Judged", "Reliance", "associate", "check_methods", "find_annotators",
    "find_background_use", "find_batch_colour", "find_choices", "find_confounders", "find_leak", "find_locality",
    "find_setting_spread", "find_stability", "find_trust", "flip_matrix", "interpret", "judge", "judge_cases",
    "recovered",
]  # fmt: skip
