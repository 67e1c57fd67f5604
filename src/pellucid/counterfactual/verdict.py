"""What the gate says of a generator: one check a property, each beside what real images give."""

from dataclasses import dataclass
from typing import Any

from pellucid.counterfactual.support import Support

__all__ = ["Check", "GateVerdict"]


@dataclass(frozen=True)
class Check:
    """One property of a generator.

    Attributes
    ----------
    name
        Of the property.
    meaning
        What the number is, in a line.
    value
        The number; NaN where it cannot be told, which is a failure.
    limit
        What it must not pass.
    rising
        Whether more is better.
    real
        The same number for real images in place of made ones, or None where that has no meaning.
    low, high
        The 95 % interval of a share, or None.
    n
        Images behind it.
    """

    name: str
    meaning: str
    value: float
    limit: float
    rising: bool
    real: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0

    @property
    def passed(self) -> bool:
        """Whether the number is on the right side of its limit."""
        return self.value >= self.limit if self.rising else self.value <= self.limit

    def __str__(self) -> str:
        sign = "≥" if self.rising else "≤"
        real = "" if self.real is None else f", real images {self.real:.3g}"
        bounds = "" if self.low is None or self.high is None else f" [{self.low:.3g}, {self.high:.3g}]"
        mark = "" if self.passed else "FAILED "
        return f"{mark}{self.name} {self.value:.3g}{bounds} ({sign} {self.limit:g}{real}, n = {self.n})"


@dataclass(frozen=True)
class GateVerdict:
    """Whether what a generator makes may be shown as counterfactuals of a model.

    Attributes
    ----------
    generator, search
        Their texts.
    checks
        All of them; one that failed closes the gate.
    support
        The envelope of the training images.
    images
        Held-out images that were looked at.
    """

    generator: str
    search: str
    checks: tuple[Check, ...]
    support: Support
    images: int

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that closed the gate."""
        return tuple(check for check in self.checks if not check.passed)

    def __getitem__(self, name: str) -> Check:
        return next(check for check in self.checks if check.name == name)

    def __str__(self) -> str:
        if self.passed:
            return f"gate passed: {len(self.checks)} checks on {self.images} held-out images"
        told = "; ".join(str(check) for check in self.failed)
        return f"gate closed, do not read these images as explanations: {told}"

    def to_rows(self) -> list[dict[str, Any]]:
        """Return one plain row a check, for a table."""
        names = ("name", "meaning", "value", "limit", "rising", "real", "low", "high", "n", "passed")
        return [{name: getattr(check, name) for name in names} for check in self.checks]
