"""What makes two cases similar: the parts of each image that bring it near the other in a layer."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from pellucid.attribution import Explanation, Method, explain
from pellucid.errors import ShapeError
from pellucid.examples.pose import embedding_layer
from pellucid.models import Model, Passes
from pellucid.models.targets import Similarity

__all__ = ["explain_similarity"]


def explain_similarity(
    model: Model | Callable[..., Any],
    first: Tensor,
    second: Tensor,
    method: str | Method = "integrated_gradients(steps=32)",
    *,
    layer: str | None = None,
    ids: tuple[str, str] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> tuple[Explanation, Explanation]:
    """Say which regions of two images make them similar: what in each raises its likeness to the other.

    Parameters
    ----------
    model
        A `Model`, or any ``nn.Module``.
    first, second
        ``(C, *S)`` each.
    method
        Any method of `pellucid.explain`; the target is the cosine of the layer's outputs.
    layer
        Default: the model's embedding. In a layer with places, likeness at the same place counts.
    ids
        Names of the two, for their random streams.
    seed, batch_size
        As for `pellucid.explain`.

    Returns
    -------
    tuple of Explanation
        Of the first image with the second held, and of the second with the first held.

    Raises
    ------
    ShapeError
        When the images differ in shape.
    CannotExplain
        When the layer does not depend on the images through differentiable steps and the method needs them.
    """
    if first.shape != second.shape:
        raise ShapeError(f"two images of one shape are compared, not {tuple(first.shape)} and {tuple(second.shape)}")
    own = Model.of(model)
    name = embedding_layer(own, layer)
    with Passes(own, batch_size=batch_size) as passes:
        held = [passes.outputs(own.prepare(image[None]), name)[0].cpu() for image in (first, second)]
    names = (None, None) if ids is None else ([ids[0]], [ids[1]])
    return tuple(  # type: ignore[return-value]  # two of them
        explain(own, image[None], method, Similarity(other, name), ids=named, seed=seed, batch_size=batch_size)
        for image, other, named in zip((first, second), reversed(held), names, strict=True)
    )
