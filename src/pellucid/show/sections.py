"""Sections of the report that answer the further questions of a study, one module and one template each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pellucid.show import calibration, cases, concepts, interpret, slides, strategies
from pellucid.show.counterfactuals import counterfactual_content
from pellucid.show.phenotypes import phenotypes_content
from pellucid.study import Study

__all__ = ["SECTIONS", "Section"]


@dataclass(frozen=True)
class Section:
    """One section.

    Attributes
    ----------
    name
        Its anchor; ``templates/NAME.html.j2`` draws it from the variable ``content``.
    title
        In the list of contents.
    content
        What the template prints of a study; None where the study did not ask.
    """

    name: str
    title: str
    content: Callable[[Study], dict[str, Any] | None]


SECTIONS: tuple[Section, ...] = (
    Section("calibrate", "Which map to believe here", calibration.content),
    Section("counterfactual", "What would have to change", counterfactual_content),
    Section("phenotypes", "Measured phenotypes", phenotypes_content),
    Section("interpret", "Interpretation", interpret.content),
    Section("concepts", "Concepts", concepts.content),
    Section("examples", "Similar cases", cases.content),
    Section("strategies", "Strategies", strategies.content),
    Section("slide", "Whole slides", slides.content),
)
"""In the order of the report."""
