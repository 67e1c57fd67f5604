"""From a model, images and a target to moves that are to reach it, and what the model says of what they lead to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pellucid.counterfactual.aim import Aim, aim_at
from pellucid.counterfactual.generator import FittedGenerator
from pellucid.counterfactual.guidance import one_input, slopes_reach
from pellucid.counterfactual.moves import Move
from pellucid.counterfactual.parts import in_parts
from pellucid.counterfactual.proxy import proxy_line
from pellucid.counterfactual.search import SEARCHES, Problem, Search, latent_optimisation
from pellucid.counterfactual.support import Support
from pellucid.errors import ShapeError
from pellucid.hashing import hash_seed
from pellucid.models import Passes, Target

__all__ = ["Sought", "pursue", "read_scores", "searched", "seek"]


@dataclass(frozen=True)
class Sought:
    """What a search led to.

    Attributes
    ----------
    aim, move, search
        What was sought, what was found and how.
    before, after
        The model's outputs for the images as they are, and for those that are shown.
    scores
        ``(N,)`` of the shown images.
    reached
        ``(N,)`` whether the shown image reaches the goal.
    """

    aim: Aim
    move: Move
    search: Search
    before: Tensor
    after: Tensor
    scores: Tensor
    reached: Tensor


def searched(search: Search | str | None, passes: Passes, x: Tensor) -> Search:
    """Return the search that is meant; None: by slopes where the model has them, else by forward calls."""
    if search is not None:
        return SEARCHES.parse(search)
    return latent_optimisation() if slopes_reach(passes, x) else proxy_line()


def seek(
    passes: Passes,
    x: Tensor,
    fitted: FittedGenerator,
    support: Support,
    *,
    target: Any = None,
    value: Any = None,
    search: Search | str | None = None,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    jitter: float = 0.0,
    margin: float | None = None,
) -> Sought:
    """Search for every image's move and read the model on the images that result; see `counterfactual`.

    Raises
    ------
    ShapeError
        When there are no images, or not one id an image.
    BadTarget
        When the target does not fit the model.
    """
    if not len(x) or (ids is not None and len(ids) != len(x)):
        raise ShapeError(f"counterfactual() takes at least one image and one id an image, not {tuple(x.shape)}")
    before = _outputs(passes, x)
    aim = _aimed(passes, x, support, before, target, value, margin)
    chosen = searched(search, passes, x)
    move = pursue(passes, x, fitted, support, aim, chosen, ids=ids, seed=seed, jitter=jitter)
    rows = torch.arange(len(x))
    with torch.no_grad():
        shown = torch.cat([move.at(1.0, part) for part in in_parts(rows)])
    after, scores = _outputs(passes, shown), read_scores(passes, shown, aim, rows)
    return Sought(aim, move, chosen, before, after, scores, aim.reached(scores, rows.to(scores.device)).cpu())


def pursue(
    passes: Passes,
    x: Tensor,
    fitted: FittedGenerator,
    support: Support,
    aim: Aim,
    search: Search,
    *,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    jitter: float = 0.0,
) -> Move:
    """Search for every image's move towards an aim that is known."""
    return search.find(Problem(passes, fitted, support, x, aim, _starts(x, support, ids, seed), jitter))


def _outputs(passes: Passes, x: Tensor, layer: str | None = None) -> Tensor:
    return passes.outputs((one_input(passes.model, x),), layer).clone()


def _aimed(
    passes: Passes, x: Tensor, support: Support, before: Tensor, target: Any, value: Any, margin: float | None
) -> Aim:
    layer = target.freeze(passes.model, before).layer if isinstance(target, Target) and value is not None else None
    layered = None if layer is None else _outputs(passes, x, layer)
    return aim_at(target, passes.model, before, support.outputs, value=value, layered=layered, margin=margin)


def _starts(x: Tensor, support: Support, ids: Sequence[str] | None, seed: int) -> Tensor:
    names = [""] * len(x) if ids is None else list(ids)
    size = support.latents.shape[1]
    return torch.stack([torch.randn(size, generator=_stream(seed, name)) for name in names])


def _stream(seed: int, name: str) -> torch.Generator:
    return torch.Generator().manual_seed(hash_seed(seed, name, "search"))


def read_scores(passes: Passes, x: Tensor, aim: Aim, rows: Tensor) -> Tensor:
    """Return the score ``(B,)`` of images that belong to these rows."""
    return passes.scores((one_input(passes.model, x),), aim.read, rows).clone()
