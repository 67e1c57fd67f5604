"""Features that do not depend on how an object lies: the mean over its flips and quarter turns."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from pellucid.concepts.features import Pictures, Pool, layer_features
from pellucid.errors import ShapeError
from pellucid.images import ImageSet
from pellucid.models import Model

__all__ = ["Pose", "embedding_layer", "posed_features", "turned"]

Pose = Literal["as_is", "turned"]
"""Images as they lie, or the mean over all flips and quarter turns of the last two axes."""


def turned(x: Tensor) -> Iterator[Tensor]:
    """Yield images ``(N, C, *S)`` in every pose that maps the pixel grid on itself.

    Eight of square images, four of others; of sequences the two directions. Of volumes and films the last two axes turn.
    """
    if x.ndim == 3:
        yield from (x, x.flip(-1))
        return
    quarters = range(4) if x.shape[-1] == x.shape[-2] else (0, 2)
    for quarter in quarters:
        view = torch.rot90(x, quarter, (-2, -1))
        yield view
        yield view.flip(-1)


def embedding_layer(model: Model, layer: str | None) -> str:
    """Return the layer, or the model's embedding where none is named."""
    name = layer or model.embedding
    if name is None:
        raise ShapeError("similar cases are sought in a layer: say layer=, or name it once with Model(..., embedding=)")
    return name


def posed_features(
    model: Model | Callable[..., Any],
    images: Tensor | ImageSet | Pictures,
    layer: str | None = None,
    *,
    ids: Sequence[str] | None = None,
    pose: Pose = "as_is",
    pool: Pool = "mean",
    batch_size: int | None = None,
    progress: bool = False,
) -> Tensor:
    """Return features ``(N, D)`` of a layer; turned ones are the same for an image and its flips and quarter turns.

    Parameters
    ----------
    model, images, ids, pool, batch_size, progress
        As for `pellucid.concepts.layer_features`.
    layer
        Default: the model's embedding.
    pose
        ``"as_is"``, or ``"turned"``, at the cost of up to eight forwards an image.
    """
    own, pictures = Model.of(model), Pictures.of(images, ids)
    name = embedding_layer(own, layer)

    def seen(given: Tensor | Pictures) -> Tensor:
        return layer_features(own, given, [name], pool=pool, batch_size=batch_size, progress=progress)[name]

    if pose == "as_is":
        return seen(pictures)
    if pose != "turned":
        raise ShapeError(f'pose={pose!r} is neither "as_is" nor "turned"')
    return torch.cat([torch.stack([seen(view) for view in turned(block)]).mean(0) for block in pictures.blocks()])
