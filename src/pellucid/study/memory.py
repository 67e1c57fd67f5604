"""How much memory this process took at most."""

import sys

__all__ = ["peak_memory"]


def peak_memory() -> int:
    """Return the highest resident memory of this process in bytes; 0 where the system does not tell (Windows)."""
    try:
        import resource  # noqa: PLC0415  # Unix only
    except ImportError:
        return 0
    told = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return told if sys.platform == "darwin" else 1024 * told
