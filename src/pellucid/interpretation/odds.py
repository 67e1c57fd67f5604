"""Changes of the log-odds as a biologist says them: a call becomes so many times likelier."""

import math

__all__ = ["LIKELIER", "fold", "likelier", "pair"]

LIKELIER = "N times likelier: the odds of the call, its probability over that of all others, are N times as high"
"""What the words mean, for a reader who meets them first."""

_MOST = 1000.0
_SAME = 1.05


def likelier(change: float, low: float | None = None, high: float | None = None) -> str:
    """Return a change of the log-odds in words, with its interval where there is one.

    Parameters
    ----------
    change
        Of the natural logarithm of the odds.
    low, high
        Bounds, or None.

    Examples
    --------
    >>> likelier(0.7)
    '2 times likelier'
    >>> likelier(-0.7, -1.1, -0.3)
    '2 times less likely (1.3 to 3)'
    >>> likelier(0.7, -0.3, 1.8)
    '2 times likelier (from 1.3 times less likely to 6 times likelier)'
    """
    said = _side(change)
    if low is None or high is None:
        return said
    if low > 0 or high < 0:
        nearer, farther = (_factor(bound) for bound in sorted((abs(low), abs(high))))
        return f"{said} ({nearer} to {farther})" if nearer != farther else said
    return f"{said} (from {_side(low)} to {_side(high)})"


def pair(change: float, null: float, spread: float | None) -> tuple[str, str]:
    """Return a change and that under its null in one unit: times, or standard deviations of the call where times are beyond reading."""
    if spread is None or max(abs(change), abs(null)) < math.log(_MOST):
        return likelier(change), likelier(null)
    told = [
        f"{'likelier' if one > 0 else 'less likely'} by {abs(one) / spread:.2g} standard deviations of the call"
        for one in (change, null)
    ]
    return told[0], told[1]


def fold(change: float) -> str:
    """Return a change of the log-odds as a fold change of the odds, below 1 where they fall.

    Examples
    --------
    >>> fold(0.7), fold(-0.7)
    ('2-fold', '0.5-fold')
    """
    return f"{_times(change)}-fold"


def _times(change: float) -> str:
    return _factor(change) if change >= 0 else f"{math.exp(max(change, -50.0)):.2g}"


def _factor(change: float) -> str:
    times = math.exp(min(abs(change), 50.0))
    return f"over {_MOST:.0f}" if times > _MOST else f"{times:.0f}" if times >= 100 else f"{float(f'{times:.2g}'):g}"


def _side(change: float) -> str:
    if math.exp(min(abs(change), 50.0)) < _SAME:
        return "as likely as before"
    return f"{_factor(change)} times {'likelier' if change > 0 else 'less likely'}"
