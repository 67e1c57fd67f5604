"""Targets on a layer that embeds the image."""

from dataclasses import dataclass

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


@TARGETS.register
@dataclass(frozen=True, repr=False)
class Latent(Target):
    """One unit of a layer, averaged over space where it is a feature map."""

    index: int
    layer: str | None = None

    def freeze(self, model: Model, outputs: Tensor) -> ReadOut:  # noqa: ARG002  # a latent does not depend on the outputs
        """Fix the layer and unit."""

        def read(out: Tensor, _rows: Tensor) -> Tensor:
            if not 0 <= self.index < out.shape[1]:
                raise BadTarget(f"{self}: the layer has {out.shape[1]} units (shape {tuple(out.shape)})")
            return out[:, self.index].reshape(len(out), -1).mean(1)

        return ReadOut(read, _layer(model, self.layer, str(self)))
