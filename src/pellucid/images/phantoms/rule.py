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
    """The label as a stated function of chosen factors: class 1 where the statement holds, or the step of a dose.

    Attributes
    ----------
    factors
        The factors that decide.
    operator
        ``"and"``, ``"or"``, ``"xor"`` or ``"+"`` between all of them, ``"if"`` for ``a if b else c``; irrelevant for one.
    margin
        Share of a factor's range on each side of its threshold that is never drawn.
    levels
        Classes; more than two are equal steps of the one factor.
    """

    factors: tuple[Factor, ...]
    operator: str = "and"
    margin: float = 0.1
    levels: int = 2

    @classmethod
    def parse(cls, text: str, factors: Sequence[Factor], margin: float, levels: int = 2) -> "Rule":
        """Read ``"spot_number"``, ``"spot_number xor cell_size"``, ``"spot_number if cell_size else membrane_ring"``.

        Raises
        ------
        BadImage
            When a factor is unknown, two operators are mixed, or several levels are asked of several factors.
        """
        known = {factor.name: factor for factor in factors}
        words = re.findall(r"\w+|\S", text)
        names, operators = words[::2], set(words[1::2])
        conditional = words[1::2] == ["if", "else"]
        mixed = len(operators) > 1 or bool(operators - {"and", "or", "xor", "+"})
        if len(words) % 2 == 0 or (mixed and not conditional):
            raise BadImage(f"the rule {text!r} is not factors joined by one of and, or, xor, +, nor 'a if b else c'")
        for name in names:
            if name not in known:
                raise BadImage(f"the rule {text!r} names no factor {name!r}; there are {', '.join(known)}")
        if len(set(names)) != len(names):
            raise BadImage(f"the rule {text!r} names a factor twice")
        if not 0.0 <= margin < 0.25:
            raise BadImage(f"margin={margin:g} is not at least 0 and below 0.25 of a factor's range")
        if levels < 2 or (levels > 2 and len(names) > 1) or 2 * margin * (levels - 1) >= 1:
            raise BadImage(
                f"levels={levels}: a dose of more than two steps needs one factor, and a margin that leaves room"
            )
        operator = "if" if conditional else operators.pop() if operators else "and"
        return cls(tuple(known[name] for name in names), operator, margin, levels)

    @property
    def _cuts(self) -> tuple[float, ...]:
        """Where in its range each factor is cut so that all classes are equally frequent."""
        half = float(0.5 ** (1 / len(self.factors)))
        once = {"and": 1 - half, "or": half}.get(self.operator, 0.5)
        return (once,) if self.levels == 2 else tuple(step / self.levels for step in range(1, self.levels))

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
        """Squeeze each piece between two cuts away from them."""
        edges = (0.0, *self._cuts, 1.0)
        piece = next(place for place in range(len(edges) - 1) if share < edges[place + 1] or place == len(edges) - 2)
        low, high = edges[piece : piece + 2]
        below, above = low + self.margin * (low > 0), high - self.margin * (high < 1)
        return float(below + (share - low) / (high - low) * (above - below))

    def label(self, values: Mapping[str, float]) -> int:
        """Return the class number of an image with these factors."""
        if self.levels > 2:
            (factor,) = self.factors
            return sum(values[factor.name] > factor.cut(cut) for cut in self._cuts)
        if self.operator == "+":
            shares = [(values[f.name] - f.low) / (f.high - f.low) for f in self.factors]
            return int(sum(shares) > 0.5 * len(shares))
        above = [values[factor.name] > factor.cut(self._cuts[0]) for factor in self.factors]
        if self.operator == "if":
            then, condition, otherwise = above
            return int(then if condition else otherwise)
        return int({"and": all(above), "or": any(above), "xor": sum(above) % 2 == 1}[self.operator])

    def __str__(self) -> str:
        if self.operator == "+":
            shares = " + ".join(f"({f.name} − {f.low:g}) / {f.high - f.low:g}" for f in self.factors)
            return f"{shares} > {len(self.factors) / 2:g}"
        cuts = [f"{f.name} > {f.cut(cut):g} {f.unit.strip('1')}".strip() for f in self.factors for cut in self._cuts]
        if self.operator == "if":
            return "{} if {} else {}".format(*cuts)
        return f" {self.operator} ".join(cuts) if self.levels == 2 else "number of: " + ", ".join(cuts)
