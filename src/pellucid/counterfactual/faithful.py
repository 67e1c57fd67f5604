"""The default generator: a small autoencoder whose reconstructions the model answers as it answers the images."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import torch
from pydantic import Field
from torch import Tensor

from pellucid.counterfactual.coder import Coder
from pellucid.counterfactual.generator import GENERATORS, FittedGenerator, Generator
from pellucid.counterfactual.guidance import Guide
from pellucid.counterfactual.parts import in_parts
from pellucid.counterfactual.training import COLUMNS, Run, Weights, digest, train
from pellucid.errors import ShapeError
from pellucid.hashing import hash_seed
from pellucid.models import Model, Passes

__all__ = ["FittedAutoencoder", "faithful_autoencoder"]

_LARGE = 128


class FittedAutoencoder(FittedGenerator):
    """A trained autoencoder; images are in their own units."""

    def __init__(self, generator: Generator, coder: Coder, history: pa.Table) -> None:
        self.generator, self.history = generator, history
        self._coder = coder.eval().requires_grad_(False)  # noqa: FBT003  # torch's own spelling

    def encode(self, x: Tensor) -> Tensor:
        """Return the latents ``(N, D)`` of images ``(N, C, *S)``."""
        x = x.to(self._coder.centre)
        return torch.cat([self._coder.encode(part)[0] for part in in_parts(x)])

    def decode(self, z: Tensor) -> Tensor:
        """Return the images ``(N, C, *S)`` of latents ``(N, D)``; differentiable."""
        return torch.cat([self._coder.decode(part) for part in in_parts(z.to(self._coder.centre))])

    def tensors(self) -> Mapping[str, Tensor]:
        """Return weights, scale and history, by name."""
        told = {f"history.{name}": torch.tensor(self.history[name].to_pylist()) for name in self.history.column_names}
        return {name: tensor.contiguous() for name, tensor in self._coder.state_dict().items()} | told


@GENERATORS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class faithful_autoencoder(Generator):
    """A convolutional autoencoder that is held to the model's answers: what the model sees must survive the round trip.

    The loss is ``pixels`` × L1 in each channel's own range + ``agreement`` × the miss of the model's standardised outputs on
    the reconstruction + ``spread`` × the divergence of the latents from a unit normal. A model without derivatives is
    followed through a linear head on the latents, of the image and of its reconstruction.

    Attributes
    ----------
    latents
        Numbers a latent has; None: 32, from 128 pixels a side 64.
    width
        Channels after the first halving.
    steps, batch_size, rate
        Of Adam; the rate falls evenly to nothing.
    pixels, agreement, spread
        Weights of the parts of the loss.
    flips
        Whether mirror images are trained on too, along every spatial axis; never for signals of one axis.
    """

    latents: Annotated[int, Field(ge=1)] | None = None
    width: Annotated[int, Field(ge=1)] = 24
    steps: Annotated[int, Field(ge=1)] = 4500
    batch_size: Annotated[int, Field(ge=2)] = 64
    rate: Annotated[float, Field(gt=0)] = 1e-3
    pixels: Annotated[float, Field(ge=0)] = 4.0
    agreement: Annotated[float, Field(ge=0)] = 0.05
    spread: Annotated[float, Field(ge=0)] = 1e-3
    flips: bool = True

    def _coder(self, shape: tuple[int, ...]) -> Coder:
        latents = self.latents or (64 if min(shape[1:], default=0) >= _LARGE else 32)
        return Coder(shape, latents=latents, width=self.width)

    def fit(
        self, images: Tensor, model: Model, *, seed: int = 0, checkpoint: Path | None = None, progress: bool = False
    ) -> FittedAutoencoder:
        """Train on images ``(N, C, *S)`` in their own units; the same seed gives the same generator on the same machine.

        Raises
        ------
        CannotExplain
            When the images have more than three spatial axes or fewer than 8 pixels a side, or the model takes several inputs.
        ShapeError
            When there are fewer than two images.
        BadStudy
            When the checkpoint belongs to another run, or training diverges.
        """
        if len(images) < 2:
            raise ShapeError(f"{self}.fit() needs two images or more, not {tuple(images.shape)}")
        with Passes(model) as passes:
            guide = Guide(passes, images)
            with torch.random.fork_rng():
                torch.manual_seed(hash_seed(seed, "first weights"))
                coder = self._coder(tuple(images.shape[1:])).to(model.device)
                head = torch.nn.Linear(coder.latents, len(guide.centre)).to(model.device)
            coder.scale_to(images)
            run = Run(coder, head, guide, Weights(self.pixels, self.agreement, self.spread), self._told(images, seed))
            train(run, images, checkpoint, progress=progress)
        return FittedAutoencoder(self, coder, pa.Table.from_pylist(run.history))

    def _told(self, images: Tensor, seed: int) -> dict[str, object]:
        flips = self.flips and images.ndim > 3
        return {**asdict(self), "flips": flips, "seed": seed, "images": digest(images)}

    def restore(self, tensors: Mapping[str, Tensor], shape: tuple[int, ...]) -> FittedAutoencoder:
        """Return what was fitted, for images of `shape` ``(C, *S)``."""
        coder = self._coder(shape)
        known = {name: tensor for name, tensor in tensors.items() if not name.startswith("history.")}
        coder.load_state_dict(known)
        columns = {name: tensors[f"history.{name}"].tolist() for name in COLUMNS}
        return FittedAutoencoder(self, coder, pa.table(columns))
