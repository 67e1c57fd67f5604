"""The rule that turns an image's factors into its label, and the draw of factors on either side of it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pellucid.errors import BadImage

__all__ = ["Factor", "Rule"]


@dataclass(frozen=True)
class Factor:
    """One dial of a phantom: what it is, its unit, and the range from which it is drawn evenly.

    Attributes
    ----------
    name, unit, meaning
        Column in the table of factors, physical unit (``"1"`` for pure numbers), one line of explanation.
    low, high
        The range; whole numbers where `whole`.
    whole
        Whether the factor counts things.
    """

    name: str
    unit: str
    low: float
    high: float
    meaning: str
    whole: bool = False

    def value(self, share: float) -> float:
        """Return the value at this share, 0 to 1, of the range."""
        if self.whole:
            return float(min(self.low + np.floor(share * (self.high - self.low + 1)), self.high))
        return float(self.low + share * (self.high - self.low))

    def cut(self, share: float) -> float:
        """Return the threshold at this share of the range; a count above it is at or past that share."""
        if self.whole:
            return float(self.low + np.rint(share * (self.high - self.low + 1)) - 0.5)
        return self.value(share)

    def check(self, value: float) -> float:
        """Return the value, or refuse what the scene cannot show."""
        if not self.low <= value <= self.high:
            raise BadImage(f"{self.name}={value:g} is outside {self.low:g} to {self.high:g} {self.unit}")
        if self.whole and value != int(value):
            raise BadImage(f"{self.name}={value:g} is a count and must be a whole number")
        return float(value)


@dataclass(frozen=True)
class Rule:
    """The label as a stated function of chosen factors: class 1 where the statement holds.

    Attributes
    ----------
    factors
        The factors that decide.
    operator
        ``"and"``, ``"or"``, ``"xor"`` or ``"+"`` between all of them; irrelevant for one.
    margin
        Share of a factor's range on each side of its threshold that is never drawn.
    """

    factors: tuple[Factor, ...]
    operator: str = "and"
    margin: float = 0.1

    @classmethod
    def parse(cls, text: str, factors: Sequence[Factor], margin: float) -> "Rule":
        """Read ``"spot_number"``, ``"spot_number xor cell_size"``, ``"spot_size + cell_size"``.

        Raises
        ------
        BadImage
            When a factor is unknown or two operators are mixed.
        """
        known = {factor.name: factor for factor in factors}
        words = re.findall(r"\w+|\S", text)
        names, operators = words[::2], set(words[1::2])
        if len(words) % 2 == 0 or len(operators) > 1 or operators - {"and", "or", "xor", "+"}:
            raise BadImage(f"the rule {text!r} is not factors joined by one of and, or, xor, +")
        for name in names:
            if name not in known:
                raise BadImage(f"the rule {text!r} names no factor {name!r}; there are {', '.join(known)}")
        if len(set(names)) != len(names):
            raise BadImage(f"the rule {text!r} names a factor twice")
        if not 0.0 <= margin < 0.25:
            raise BadImage(f"margin={margin:g} is not at least 0 and below 0.25 of a factor's range")
        return cls(tuple(known[name] for name in names), operators.pop() if operators else "and", margin)

    @property
    def _cut(self) -> float:
        """Where in its range each factor is cut so that both classes are equally frequent."""
        half = float(0.5 ** (1 / len(self.factors)))
        return {"and": 1 - half, "or": half}.get(self.operator, 0.5)

    def draw(self, rng: np.random.Generator, factors: Sequence[Factor]) -> dict[str, float]:
        """Draw every factor evenly and independently, those of the rule off its threshold."""
        while True:
            shares = dict(zip([factor.name for factor in factors], rng.random(len(factors)), strict=True))
            chosen = np.array([shares[factor.name] for factor in self.factors])
            if self.operator != "+" or abs(chosen.mean() - 0.5) >= self.margin:
                break
        if self.operator != "+":
            shares |= {factor.name: self._apart(shares[factor.name]) for factor in self.factors}
        return {factor.name: factor.value(shares[factor.name]) for factor in factors}

    def _apart(self, share: float) -> float:
        cut, margin = self._cut, self.margin
        if share < cut:
            return float(share * (cut - margin) / cut)
        return float(1 - (1 - share) * (1 - cut - margin) / (1 - cut))

    def label(self, values: Mapping[str, float]) -> int:
        """Return the class number, 0 or 1, of an image with these factors."""
        if self.operator == "+":
            shares = [(values[f.name] - f.low) / (f.high - f.low) for f in self.factors]
            return int(sum(shares) > 0.5 * len(shares))
        above = sum(values[factor.name] > factor.cut(self._cut) for factor in self.factors)
        needed = {"and": above == len(self.factors), "or": above > 0, "xor": above % 2 == 1}
        return int(needed[self.operator])

    def __str__(self) -> str:
        if self.operator == "+":
            shares = " + ".join(f"({f.name} − {f.low:g}) / {f.high - f.low:g}" for f in self.factors)
            return f"{shares} > {len(self.factors) / 2:g}"
        cuts = [f"{f.name} > {f.cut(self._cut):g} {f.unit.strip('1')}".strip() for f in self.factors]
        return f" {self.operator} ".join(cuts)
