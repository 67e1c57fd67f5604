"""The verdict: what the explanations, their scores and edited images allow one to say."""

from dataclasses import dataclass, field

import pyarrow as pa

from pellucid.interpretation.background import find_background_use
from pellucid.interpretation.confounding import find_confounders
from pellucid.interpretation.evidence import Evidence
from pellucid.interpretation.finding import Finding
from pellucid.interpretation.locality import find_locality
from pellucid.interpretation.trust import find_trust

__all__ = ["Interpretations", "interpret"]


@dataclass(frozen=True)
class Interpretations:
    """The findings of a study, strongest claims about the model first, and the tables behind them."""

    findings: tuple[Finding, ...]
    tables: dict[str, pa.Table] = field(default_factory=dict)


def interpret(evidence: Evidence) -> Interpretations:
    """Test what the maps suggest by editing images, and say what the scores allow one to say of the methods."""
    background, swaps = find_background_use(evidence)
    locality, changes = find_locality(evidence)
    findings = (*background, *find_confounders(evidence), *locality, *find_trust(evidence))
    return Interpretations(findings, {"background_swaps": swaps, "changes": changes})
