"""What a study found, in words for people and in fields for machines."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["Finding", "Kind"]

Kind = Literal[
    "shortcut", "confounder", "not_localised", "localised", "inseparable", "unstable", "failed_sanity", "below_control",
    "metric_failed", "verdict", "gate", "interpretation", "refused", "choice", "leak", "annotators", "concept", "strategy",
    "recommended",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One statement that a study supports, with the numbers behind it.

    Attributes
    ----------
    id
        Unique within the study and stable between runs.
    kind
        What sort of statement it is.
    subject
        What it is about: a class, a method, a region.
    statement
        One sentence in plain words, limited to what was tested.
    evidence
        How it was tested, with the numbers.
    value, low, high
        The deciding number with its 95 % interval, or None.
    verdict
        ``"supported"``, ``"refuted"`` or ``"undecided"``.
    """

    id: str
    kind: Kind
    subject: str
    statement: str
    evidence: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: Literal["supported", "refuted", "undecided"] = "supported"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as they stand in ``findings.json``; a number that cannot be told is None."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }
