"""Torch functions taken apart: each computes what torch's own does, from simpler torch calls that rules can meet.

Every function takes the state of the pass, then the torch function's own arguments, for use as ``Entry(parts=...)``.
None of them calls the function that it takes apart, so that interception cannot come back to it for ever.
"""

from pellucid.attribution.backward.parts.catalogue import ATTENTION, NORMS, PARTS, RECURRENT

__all__ = ["ATTENTION", "NORMS", "PARTS", "RECURRENT"]
