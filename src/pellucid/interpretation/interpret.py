"""The verdict: what the explanations, their scores and edited images allow one to say."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa

from pellucid.errors import PellucidError
from pellucid.interpretation.background import find_background_use, untested_background
from pellucid.interpretation.batch_colour import find_batch_colour, untested_batch
from pellucid.interpretation.cases import judge_cases
from pellucid.interpretation.confounding import find_confounders
from pellucid.interpretation.evidence import Evidence
from pellucid.interpretation.finding import Finding
from pellucid.interpretation.locality import find_locality, untested_locality
from pellucid.interpretation.stability import find_setting_spread, find_stability, untested_settings
from pellucid.interpretation.trust import find_trust
from pellucid.interpretation.verdict import believed, judge, judged_methods

__all__ = ["Interpretations", "interpret"]

_Found = tuple[list[Finding], pa.Table]


@dataclass(frozen=True)
class Interpretations:
    """The findings of a study, strongest claims about the model first, and the tables behind them."""

    findings: tuple[Finding, ...]
    tables: dict[str, pa.Table] = field(default_factory=dict)


def interpret(evidence: Evidence, recommended: Finding | None = None) -> Interpretations:
    """Test what the maps suggest by editing images, and say what the scores allow one to say of the methods.

    A test that cannot be made is a finding of kind ``refused``; the others stand.

    Parameters
    ----------
    evidence
        What may be looked at.
    recommended
        What planted changes say of the methods, for the verdict; None where none were planted.
    """
    background, swaps = _tested(find_background_use, evidence, untested_background)
    batch, colours = _tested(find_batch_colour, evidence, untested_batch)
    locality, changes = _tested(find_locality, evidence, untested_locality)
    repeats, stability = find_stability(evidence)
    swept, settings = _tested(find_setting_spread, evidence, untested_settings)
    findings = (*background, *find_confounders(evidence), *batch, *locality, *find_trust(evidence), *repeats, *swept)
    verdict = judge(evidence, findings, recommended)
    tables = {
        "background_swaps": swaps, "batch_colours": colours, "changes": changes, "stability": stability, "settings": settings,
    }  # fmt: skip
    if verdict:
        tables["cases"] = judge_cases(evidence, believed(judged_methods(evidence)))
    return Interpretations((*findings, *verdict), tables)


def _tested(find: Callable[[Evidence], _Found], evidence: Evidence, refused: Callable[[str], Finding]) -> _Found:
    try:
        return find(evidence)
    except PellucidError as error:
        return [refused(str(error))], pa.table({})
