"""Targets inside the network: a layer that embeds the image, or one unit of a layer."""

import re
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from pellucid.errors import BadTarget
from pellucid.models.model import Model
from pellucid.models.targets.target import TARGETS, ReadOut, Target

__all__ = ["Latent", "Similarity"]


def _layer(model: Model, layer: str | None, spelt: str) -> str:
    name = layer or model.embedding
    if name is None:
        raise BadTarget(f"{spelt} reads an embedding; say layer=, or name it once with Model(..., embedding=)")
    model.layer(name)
    return name


@TARGETS.register
@dataclass(frozen=True, repr=False)
class Similarity(Target):
    """Cosine similarity of a layer's output to a reference vector: what makes this image like that one."""

    reference: Tensor
    layer: str | None = None

    def freeze(self, model: Model, outputs: Tensor) -> ReadOut:
        """Fix the reference direction."""
        direction = self.reference.flatten().to(outputs.device, outputs.dtype)
        if not direction.norm() > 0:
            raise BadTarget("Similarity: the reference is zero or not a number, so it has no direction")
        direction = direction / direction.norm()

        def read(out: Tensor, _rows: Tensor) -> Tensor:
            flat = out.flatten(1)
            if flat.shape[1] != len(direction):
                raise BadTarget(f"Similarity: the reference has {len(direction)} numbers and the layer {flat.shape[1]}")
            cosine: Tensor = flat @ direction / flat.norm(dim=1)
            return cosine

        return ReadOut(read, _layer(model, self.layer, self.name))


_UNIT = re.compile(r"(?P<layer>[^\[\]]+)\[(?P<places>\s*\d+\s*(?:,\s*\d+\s*)*)\]")


@TARGETS.register
@dataclass(frozen=True, repr=False)
class Latent(Target):
    """One unit of a layer: what makes this channel, or this place of it, respond.

    Attributes
    ----------
    index
        A channel ``c``, averaged over space where the layer gives a feature map; or places along the layer's axes after
        the rows, such as ``(c, y, x)``, of which a shorter one is averaged over the axes that it leaves out.
    layer
        Its dotted name; None is the model's embedding.
    """

    index: int | tuple[int, ...]
    layer: str | None = None

    @classmethod
    def named(cls, text: str) -> Self:
        """Read a unit as the ``of=`` of a method spells it: ``"layer3[12]"`` or ``"layer3[12, 4, 5]"``.

        Raises
        ------
        BadTarget
            When it is spelt otherwise.
        """
        found = _UNIT.fullmatch(text.strip())
        if found is None:
            raise BadTarget(
                f"of={text!r} names no unit: write the layer and the channel, 'layer3[12]', or a place of it too, "
                "'layer3[12, 4, 5]'"
            )
        places = tuple(int(place) for place in found["places"].split(","))
        return cls(places if len(places) > 1 else places[0], found["layer"].strip())

    @property
    def places(self) -> tuple[int, ...]:
        """The index, one number an axis."""
        return self.index if isinstance(self.index, tuple) else (self.index,)

    @property
    def spelt(self) -> str:
        """The unit as `named` reads it."""
        return f"{self.layer}[{', '.join(map(str, self.places))}]"

    def freeze(self, model: Model, outputs: Tensor) -> ReadOut:  # noqa: ARG002  # a latent does not depend on the outputs
        """Fix the layer and unit."""

        def read(out: Tensor, _rows: Tensor) -> Tensor:
            places, axes = self.places, out.shape[1:]
            inside = len(places) <= len(axes) and all(0 <= at < axis for at, axis in zip(places, axes, strict=False))
            if not places or not inside:
                sizes = " × ".join(map(str, axes))
                raise BadTarget(f"{self}: the layer has {sizes} units (shape {tuple(out.shape)})")
            there: tuple[slice | int, ...] = (slice(None), *places)
            return out[there].reshape(len(out), -1).mean(1)

        return ReadOut(read, _layer(model, self.layer, str(self)))
