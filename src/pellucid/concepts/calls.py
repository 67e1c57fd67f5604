"""What is asked of a model about concepts: which output, of which images, and its slopes along a layer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pellucid.concepts.features import Pictures, Pool, layer_slopes
from pellucid.errors import BadTarget
from pellucid.images import ImageSet
from pellucid.models import Model, Passes, Target
from pellucid.models.targets import LogOdds, Output

__all__ = ["Call", "asked_classes", "class_targets"]


def _part(pictures: Pictures, members: Sequence[int]) -> Pictures:
    names = tuple(pictures.ids[row] for row in members)
    if isinstance(pictures.source, Tensor):
        return Pictures(pictures.source[list(members)], names)
    return replace(pictures, ids=names)


def asked_classes(
    model: Model, pictures: Pictures, images: Tensor | ImageSet, labels: Sequence[int] | None, target: Target | None,
    classes: Sequence[int] | None, batch_size: int | None,
) -> dict[str, tuple[Target, list[int]]]:  # fmt: skip
    """Return by name what is asked of which images: a target of all, or each class's log-odds of its own."""
    if target is not None:
        return {str(target): (target, list(range(len(pictures))))}
    if labels is None and isinstance(images, ImageSet) and images.labels is not None:
        labels = images.label(pictures.ids)
    if labels is None or len(labels) != len(pictures):
        raise BadTarget("concepts are asked class by class: give labels=, one an image, or target= for all images")
    aims = class_targets(model, pictures.rows(0, 1), batch_size=batch_size)
    named = model.classes or tuple(map(str, range(max(aims) + 1)))
    found = {
        named[number]: (aim, [row for row, label in enumerate(labels) if label == number])
        for number, aim in aims.items()
        if classes is None or number in classes
    }
    return {name: (aim, rows) for name, (aim, rows) in found.items() if len(rows) > 1}


def class_targets(model: Model, x: Tensor, *, batch_size: int | None = None) -> dict[int, Target]:
    """Return the target that stands for each class: its log-odds, which do not saturate; one logit speaks for class 1 alone.

    Parameters
    ----------
    model
        A classifier.
    x
        One image ``(1, C, *S)``.
    """
    with Passes(model, batch_size=batch_size) as passes:
        width = passes.outputs(model.prepare(x)).shape[1]
    return {1: Output(0)} if width == 1 else {number: LogOdds(number) for number in range(width)}


@dataclass(frozen=True, eq=False)
class Call:
    """What is asked of the model: its score of all images, and the score's slopes in some of them.

    Attributes
    ----------
    name
        Of the class or the target.
    members
        Rows of the images whose slopes are taken.
    outputs
        ``(N,)`` the score of all images.
    slopes
        Layer to ``(len(members), F)``.
    """

    name: str
    members: list[int]
    outputs: Any
    slopes: dict[str, Any]

    @classmethod
    def of(
        cls, model: Model, pictures: Pictures, layers: Sequence[str], name: str, aim: Target, members: list[int], pool: Pool,
        batch_size: int | None,
    ) -> "Call":  # fmt: skip
        """Ask the score of all images, and its slopes in the members."""
        found = []
        with Passes(model, batch_size=batch_size) as passes:
            for block in pictures.blocks():
                inputs = model.prepare(block)
                found.append(passes.scores(inputs, aim.freeze(model, passes.outputs(inputs))).cpu())
        steep = layer_slopes(model, _part(pictures, members), layers, aim, pool=pool, batch_size=batch_size)
        slopes = {layer: values.numpy() for layer, values in steep.items()}
        return cls(name, members, torch.cat(found).double().numpy(), slopes)
