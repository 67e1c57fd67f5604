"""The guard of every changed forward: it must give what the plain one gives."""

import torch
from torch import Tensor

from pellucid.errors import GuardError

__all__ = ["check_agreement"]

_PART = 1e-4
"""How far, relative to a row's largest output, a changed forward may lie from the plain one."""

_ROUNDING = 16
"""How far it may lie from an output of exactly zero, which has no size to be relative to: in units of the rounding of 1."""


def check_agreement(score: Tensor, plain: Tensor, outputs: Tensor, *, under: str, use: str) -> None:
    """Refuse a forward whose target is not the plain one's.

    Parameters
    ----------
    score, plain
        ``(N,)`` the target's values in the changed and in the plain forward.
    outputs
        ``(N, ...)`` what the target was read from.
    under
        What the forward was changed by, for the message.
    use
        Methods that would do.

    Raises
    ------
    GuardError
        Naming the row that lies furthest away; a value that is no number agrees with nothing.
    """
    away = (score - plain.to(score)).abs()
    allowed = _PART * outputs.flatten(1).abs().amax(1).to(away)
    zero = plain.to(score) == 0
    allowed = torch.where(zero, allowed.clamp(min=_ROUNDING * torch.finfo(away.dtype).eps), allowed)
    agrees = away <= allowed
    if bool(agrees.all()):
        return
    worst = int((away - allowed).nan_to_num(nan=torch.inf).argmax())
    raise GuardError(
        f"the forward under {under} gives {float(score[worst]):.6g} in row {worst} and the plain forward "
        f"{float(plain[worst]):.6g}: the network computes in a way that {under} cannot follow; use {use}"
    )
