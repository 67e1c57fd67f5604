"""The premise of methods that only know evidence for: shares of positive activations are never negative."""

from pellucid.errors import GuardError
from pellucid.models import Inputs

__all__ = ["positive"]

_ROUNDING = 1e-5


def positive(values: Inputs, name: str) -> Inputs:
    """Return values whose negative ones are rounding, as zero.

    Raises
    ------
    GuardError
        When a value is negative beyond rounding.
    """
    for place, part in enumerate(values):
        flat = part.flatten(1)
        low, high = flat.amin(1), flat.abs().amax(1)
        worst = int((low + _ROUNDING * high).argmin())
        if float(low[worst]) < -_ROUNDING * float(high[worst]):
            raise GuardError(
                f"{name}: shares of row {worst}, input {place} reach {float(low[worst]):.4g} where none may be negative: "
                "the target counts an output against another, or the network adds, scales or normalises activations "
                "that are not rectified; explain one class, or use lrp(composite='epsilon_plus_flat')"
            )
    return tuple(part.clamp(min=0) for part in values)
