"""An edit at several doses: whether the model's answer grows with what is changed, and up to which dose images look real."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from pellucid.errors import BadRecipe, CannotExplain
from pellucid.interpretation.edit_test import Score, edited_pairs
from pellucid.interpretation.evidence import Case
from pellucid.interpretation.realism import Realism
from pellucid.intervals import mean_interval, or_null
from pellucid.measure import EDITS, Edit

__all__ = ["dose_response", "doses_of"]

_SHARES = (0.25, 0.5, 0.75, 1.0)
_TURNED = ("factor", "amount", "number", "scale", "pixels", "share")
"""Settings that say how much an edit does, the first that an edit has being its dose; a factor of 1 does nothing, of others 0."""


def doses_of(edit: str | Edit) -> tuple[str, tuple[float, ...]] | None:
    """Return which setting of an edit is its dose, and four doses up to what was asked; None where it has no dose.

    ``resize_object(factor=1.2)`` gives ``("factor", (1.05, 1.1, 1.15, 1.2))``; whole numbers stay whole.
    """
    asked = EDITS.parse(edit)
    setting = next((name for name in _TURNED if name in asked.settings), None)
    if setting is None:
        return None
    whole, rest = asked.settings[setting], float(setting == "factor")
    doses = [rest + share * (whole - rest) for share in _SHARES]
    if isinstance(whole, int):
        doses = [number for number in dict.fromkeys(round(dose) for dose in doses) if number]
    return setting, tuple(float(f"{dose:.6g}") if not isinstance(dose, int) else dose for dose in doses)


def dose_response(
    score: Score,
    cases: Sequence[Case],
    edit: str | Edit,
    setting: str,
    doses: Sequence[float],
    *,
    realism: Realism | None = None,
    seed: int = 0,
) -> pa.Table:
    """Apply an edit at several doses and say whether the score follows.

    Parameters
    ----------
    score, cases, realism, seed
        As for `edit_and_test`; every dose has the same draws.
    edit, setting, doses
        The edit, which of its settings is turned, and the values, in rising order; see `doses_of`.

    Returns
    -------
    pyarrow.Table
        One row a dose: edit, setting, dose, change with low and high, null_change, realistic (share of the images that still look
        real; null where nothing told), n, groups, and over all doses monotone (median over images of the rank correlation of dose
        and score; null for fewer than three doses).

    Raises
    ------
    BadRecipe
        When the edit has no such setting or cannot take a dose.
    CannotExplain
        When no image fits every dose.
    """
    base = EDITS.parse(edit)
    if setting not in base.settings:
        raise BadRecipe(f"{base} has no setting {setting!r} to turn; it has {', '.join(base.settings) or 'none'}")
    turned = [base.replace(**{setting: dose}) for dose in doses]
    moved, real = _moved(score, cases, turned, realism, seed)
    whole = np.flatnonzero(~np.isnan(moved[0]).any(0))
    if not len(whole):
        raise CannotExplain(f"{base}: no image fits every dose of {setting}; give smaller doses")
    groups = [cases[row].group for row in whole.tolist()]
    rows = []
    for place, dose in enumerate(doses):
        change = mean_interval(moved[0, place, whole], groups=groups, seed=seed)
        rows.append(
            {"edit": str(base), "setting": setting, "dose": float(dose), "change": change.value,
             "low": or_null(change.low), "high": or_null(change.high), "null_change": float(moved[1, place, whole].mean()),
             "realistic": or_null(float(real[place, whole].mean())), "monotone": _monotone(doses, moved[0][:, whole]),
             "n": change.n, "groups": change.groups}
        )  # fmt: skip
    schema = [
        (name, pa.float64()) for name in ("dose", "change", "low", "high", "null_change", "realistic", "monotone")
    ]
    ends = [("n", pa.int64()), ("groups", pa.int64())]
    return pa.Table.from_pylist(
        rows, schema=pa.schema([("edit", pa.string()), ("setting", pa.string()), *schema, *ends])
    )


def _moved(
    score: Score, cases: Sequence[Case], turned: Sequence[Edit], realism: Realism | None, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the change of the score by the edit and its null ``(2, doses, N)`` and what looks real ``(doses, N)``; NaN where unknown."""
    moved, real = np.full((2, len(turned), len(cases)), np.nan), np.full((len(turned), len(cases)), np.nan)
    before = _numbers(score, torch.stack([case.image for case in cases]))
    for place, one in enumerate(turned):
        kept, changed, idle = edited_pairs(cases, one, seed)
        for side, images in enumerate((changed, idle) if kept else ()):
            moved[side, place, kept] = _numbers(score, images) - before[kept]
        if kept and realism is not None:
            real[place, kept] = realism.distance(changed, [cases[row].id for row in kept]) <= 1
    return moved, real


def _numbers(score: Score, images: torch.Tensor) -> NDArray[np.float64]:
    return np.asarray(score(images).double().cpu().numpy(), dtype=np.float64)


def _monotone(doses: Sequence[float], moved: NDArray[np.float64]) -> float | None:
    if len(doses) < 3:
        return None
    follows = [spearmanr(doses, curve).statistic for curve in moved.T if np.ptp(curve) > 0]
    return float(np.median(follows)) if follows else 0.0
