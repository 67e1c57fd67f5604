"""What a counterfactual is to reach: another class, a value of a regression, or a value of any target."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pellucid.errors import BadTarget
from pellucid.models import Model, ReadOut, Target
from pellucid.models.predict import two_columns
from pellucid.models.targets import Class, Output, resolve
from pellucid.models.targets.columns import columns_of

__all__ = ["Aim", "aim_at"]

_TYPICAL = 0.5
"""As sure as so many of the training images that a class holds: how far past its border to aim."""

_FAR = 0.1
"""Share of the training images on either side of a border that lie beyond the ends of a strip."""

_BEYOND = 0.05
"""How far past a value to aim, as a share of the way there."""


@dataclass(frozen=True)
class Aim:
    """A score a row and the value that it is to reach.

    Attributes
    ----------
    words
        What is aimed at, one text a row, such as ``"class treated"``.
    unit
        What the score is.
    read
        The score of a row; read it with the row's number.
    start, goal
        ``(N,)`` the score of the images as they are, and what it is to reach.
    direction
        ``(N,)`` 1 where it is to rise, −1 where it is to fall.
    scale
        ``(N,)`` what counts as a large change of the score.
    clear
        ``(N,)`` how far past the goal to aim; 0 for a row that is there as it is.
    ends
        ``(N, 2)`` scores at the two ends of a strip: as far on the image's own side, and on the target's, as one in ten
        of the training images there; for a number, as far beyond the start and the goal as these lie apart.
    """

    words: tuple[str, ...]
    unit: str
    read: ReadOut
    start: Tensor
    goal: Tensor
    direction: Tensor
    scale: Tensor
    clear: Tensor
    ends: Tensor

    def towards(self, end: int) -> "Aim":
        """Return the aim at one end of a strip, 0 on the image's own side, 1 on the target's; the score is the same."""
        way = self.direction * (2 * end - 1)
        return replace(self, goal=self.ends[:, end], direction=way, clear=torch.zeros_like(self.clear))

    def reached(self, scores: Tensor, rows: Tensor) -> Tensor:
        """Say for which rows scores ``(B,)`` reach the goal."""
        return (scores - self.goal[rows]) * self.direction[rows] >= 0

    def gap(self, scores: Tensor, rows: Tensor) -> Tensor:
        """Return what is missing ``(B,)`` to be clearly past the goal, in the score's scale; below 0 where nothing is."""
        past = (scores - self.goal[rows]) * self.direction[rows]
        return (self.clear[rows] - past) / self.scale[rows]


def _margin(outputs: Tensor, own: Tensor) -> Tensor:
    """Return the logit of a class less the greatest of the others ``(B,)``."""
    both = two_columns(outputs)
    others = both.scatter(1, own[:, None], -torch.inf).amax(1)
    return both.gather(1, own[:, None])[:, 0] - others


def aim_at(
    target: Any, model: Model, outputs: Tensor, reference: Tensor, *, value: Any, layered: Tensor | None, margin: float | None = None
) -> Aim:  # fmt: skip
    """Return the aim that a user's target means.

    Parameters
    ----------
    target
        None: the likeliest class but the predicted one; a class, or one a row; or a `pellucid.targets` value.
    model
        The model.
    outputs
        ``(N, K)`` of the images as they are.
    reference
        ``(M, K)`` of the training images.
    value
        What a target that is no class is to reach, or one a row.
    layered
        Outputs of the layer that the target reads instead, of the images as they are.
    margin
        How far past the border of a class to aim, in spreads of the score over the training images; None: as far as the
        median training image that the model puts into the class.

    Raises
    ------
    BadTarget
        When the target does not fit the model, or a target that is no class comes without a value.
    """
    if value is None:
        return _to_class(target, model, outputs, reference, margin)
    wanted = Output(target) if isinstance(target, int) else Output(0) if target is None else target
    if not isinstance(wanted, Target):
        raise BadTarget(f"target={target!r} with a value: give a pellucid.targets value such as Output(0)")
    read = wanted.freeze(model, outputs)
    start = read(outputs if layered is None else layered, torch.arange(len(outputs), device=outputs.device))
    goal = torch.as_tensor(value, dtype=start.dtype, device=start.device).expand(len(start)).clone()
    way = (goal - start).abs()
    scale = torch.where(way > 0, way, torch.ones_like(way))
    direction = torch.where(goal < start, -1.0, 1.0).to(start)
    words = tuple(f"{wanted} = {number:.3g}" for number in goal.tolist())
    ends = torch.stack([2 * start - goal, 2 * goal - start], 1)
    return Aim(words, str(wanted), read, start, goal, direction, scale, _BEYOND * way, ends)


def _to_class(target: Any, model: Model, outputs: Tensor, reference: Tensor, margin: float | None) -> Aim:
    if outputs.ndim != 2 or model.task == "regression":
        raise BadTarget(
            f"target={target!r} asks for a class, and the model is no classifier (outputs {tuple(outputs.shape)}): give a "
            "pellucid.targets value and the value= that it is to reach"
        )
    both = two_columns(outputs)
    own = _next(both) if target is None else _columns(target, model, both)
    rows = torch.arange(len(own), device=own.device)

    def read(given: Tensor, rows: Tensor) -> Tensor:
        return _margin(given, own[rows])

    known = {
        column: _margin(reference, torch.full_like(reference[:, 0], column, dtype=torch.long))
        for column in set(own.tolist())
    }
    scale = torch.stack([known[column].std(correction=0) for column in own.tolist()])
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    beyond = torch.stack([_typical(known[column]) for column in own.tolist()]) if margin is None else margin * scale
    names = model.classes if len(model.classes) == both.shape[1] else tuple(map(str, range(both.shape[1])))
    words = tuple(f"class {names[column]}" for column in own.tolist())
    nothing = torch.zeros_like(scale)
    start = read(outputs, rows)
    clear = torch.where(start < 0, beyond, nothing)
    ends = torch.stack([_ends(known[column]) for column in own.tolist()])
    told = "logit of the target class less the greatest other"
    return Aim(words, told, ReadOut(read), start, nothing, torch.ones_like(scale), scale, clear, ends)


def _typical(scores: Tensor) -> Tensor:
    """Return the median score of the images that a class holds; without any, half a spread of all scores."""
    inside = scores[scores > 0]
    return inside.quantile(_TYPICAL) if len(inside) else scores.std(correction=0) / 2


def _ends(scores: Tensor) -> Tensor:
    """Return the scores that one in ten images outside a class, and one in ten inside it, lie beyond."""
    outside, inside = scores[scores <= 0], scores[scores > 0]
    return torch.stack([
        outside.quantile(_FAR) if len(outside) else -scores.std(correction=0),
        inside.quantile(1 - _FAR) if len(inside) else scores.std(correction=0),
    ])  # fmt: skip


def _next(both: Tensor) -> Tensor:
    return both.topk(2, dim=1).indices[:, 1]


def _columns(target: Any, model: Model, both: Tensor) -> Tensor:
    wanted = resolve(target, model, both)
    if type(wanted) is not Class:
        raise BadTarget(f"{wanted} is a number, not a class: give the value= that it is to reach")
    return columns_of(wanted.index, model, both, str(wanted))
