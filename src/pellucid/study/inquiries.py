"""The further questions that a study may ask: each is a table of the study file, answered once and kept."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pellucid.errors import PellucidError
from pellucid.interpretation import Evidence, Interpretations
from pellucid.study import calibration, cases, concepts, interpret, slides, strategies
from pellucid.study.counterfactuals import answer_counterfactuals
from pellucid.study.phenotypes import answer_phenotypes
from pellucid.study.setup import Setup
from pellucid.study.store import Rows, failure_row

__all__ = ["INQUIRIES", "Inquiry", "answered"]


@dataclass(frozen=True)
class Inquiry:
    """One question.

    Attributes
    ----------
    name
        Key of its table in the study file, and folder of what it keeps in the study's directory.
    answer
        From the study and its evidence to findings and tables. What takes long it keeps under its own folder, whole or not
        at all, and reads it on resume.
    """

    name: str
    answer: Callable[[Setup, Evidence], Interpretations]


INQUIRIES: tuple[Inquiry, ...] = (
    Inquiry("calibrate", calibration.answer),
    Inquiry("counterfactual", answer_counterfactuals),
    Inquiry("phenotypes", answer_phenotypes),
    Inquiry("interpret", interpret.answer),
    Inquiry("concepts", concepts.answer),
    Inquiry("examples", cases.answer),
    Inquiry("strategies", strategies.answer),
    Inquiry("slide", slides.answer),
)
"""In the order in which they are answered and told."""


def answered(setup: Setup, evidence: Evidence, failed: Rows) -> list[dict[str, Any]]:
    """Answer what the study asks and is not answered yet; tables go to ``interpretation/``.

    Returns
    -------
    list of dict
        The findings of all questions, as they stand in ``findings.json``.
    """
    told: list[dict[str, Any]] = []
    for inquiry in INQUIRIES:
        if getattr(setup.config, inquiry.name) is None:
            continue
        kept = f"{inquiry.name}/findings.json"
        if setup.store.read_json(kept) is None:
            try:
                found = inquiry.answer(setup, evidence)
            except PellucidError as error:  # the other answers are worth a report without it
                failed.append(failure_row(inquiry.name, str(error)))
                continue
            for name, table in found.tables.items():
                setup.store.write_table(f"interpretation/{name}.parquet", table)
            setup.store.write_json(kept, [finding.to_dict() for finding in found.findings])
        told += setup.store.json(kept)
    return told
