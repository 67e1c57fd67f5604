"""The verb: the smallest believable change of an image that changes the model's answer."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pellucid.counterfactual.generator import FittedGenerator
from pellucid.counterfactual.result import Counterfactuals, Status
from pellucid.counterfactual.search import Search
from pellucid.counterfactual.seek import Sought, seek
from pellucid.counterfactual.strip import Stripper, along
from pellucid.counterfactual.verdict import GateVerdict
from pellucid.errors import ShapeError
from pellucid.models import Model, Passes

__all__ = ["counterfactual"]


def counterfactual(
    model: Model | Callable[..., Any],
    x: Tensor,
    *,
    generator: FittedGenerator,
    gate: GateVerdict,
    target: Any = None,
    value: Any = None,
    search: Search | str | None = None,
    margin: float | None = None,
    doses: int = 9,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = False,
) -> Counterfactuals:
    """Find for every image the smallest change that makes the model answer otherwise, and say whether it may be believed.

    The change is searched for in the generator's latents; what it changes there is pasted on the real image, and the
    model is read on the image that is shown.

    Parameters
    ----------
    model
        The model to explain.
    x
        Images ``(N, C, *S)`` in their own units.
    generator
        A fitted one, such as ``faithful_autoencoder().fit(images, model)``.
    gate
        What `pellucid.counterfactual.gate` says of it; nothing is shown without.
    target
        A class (number or name), one a row, or None: the likeliest class but the predicted one. With `value`: a
        `pellucid.targets` value, such as ``Output(0)`` of a regression or a ``Similarity``.
    value
        What such a target is to reach, one number or one a row.
    search
        One of `SEARCHES`; default: by slopes where the model has them, else by forward calls.
    margin
        How far past the border of the class to aim, in spreads of the score over the training images. None: as far as the
        median training image that the model puts there; a small one gives the least change, which other models are
        less likely to follow.
    doses
        Images on the path, the real one and the final one included.
    ids, seed
        With ids, chance is drawn by ``(seed, id)``; row i alone equals row i in a batch.
    batch_size
        Rows at once.
    progress
        Whether to show a bar over the path.

    Returns
    -------
    Counterfactuals
        Rows without a valid counterfactual say so in their status.

    Raises
    ------
    ShapeError
        When there is no image, fewer than two doses, or not one id an image.
    BadTarget
        When the target does not fit the model.
    CannotExplain
        When the search needs what the model does not offer.
    """
    if margin is not None and not margin >= 0:
        raise ShapeError(f"counterfactual(margin={margin}) must be 0 or more spreads of the score")
    if doses < 2:
        raise ShapeError(f"counterfactual(doses={doses}) needs two doses or more: the image and the change")
    wrapped = Model.of(model)
    with Passes(wrapped, batch_size=batch_size) as passes:
        found = seek(
            passes, x, generator, gate.support, target=target, value=value, search=search, ids=ids, seed=seed,
            margin=margin,
        )  # fmt: skip
        steps = tuple(step / (doses - 1) for step in range(doses))
        path, scores, strain = along(passes, found.move, found.aim, steps, progress=progress)
    stripper = Stripper(wrapped, generator, gate.support, found.search, ids, seed, batch_size)
    names = tuple(ids) if ids is not None else tuple(str(row) for row in range(len(x)))
    return Counterfactuals(
        names, x, path[:, -1], steps, path, scores, strain, found.before, found.after, found.aim, found.move,
        str(generator.generator), str(found.search), gate, stripper, _statuses(found, scores, strain),
    )  # fmt: skip


def _statuses(found: Sought, scores: Tensor, strain: Tensor) -> tuple[Status, ...]:
    rows = torch.arange(len(scores))
    there = found.aim.reached(scores[:, 0], rows)
    reached, inside = found.aim.reached(scores[:, -1], rows), strain[:, -1] <= 1
    return tuple(map(_status, there.tolist(), reached.tolist(), inside.tolist()))


def _status(there: bool, reached: bool, inside: bool) -> Status:  # noqa: FBT001  # a table of truth
    if there:
        return "already there"
    if not reached:
        return "not reached"
    return "reached" if inside else "outside the support"
