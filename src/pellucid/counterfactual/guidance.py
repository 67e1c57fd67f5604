"""What a model says of images and of their reconstructions, and how to bring the two together while an autoencoder learns."""

import torch
from torch import Tensor
from torch.nn import functional

from pellucid.errors import CannotExplain
from pellucid.models import Model, Passes, ReadOut

__all__ = ["Guide", "follow", "one_input", "slopes_reach"]


def one_input(model: Model, images: Tensor) -> Tensor:
    """Return images in model space, with the graph that leads there.

    Raises
    ------
    CannotExplain
        When the model takes several inputs.
    """
    prepared = model.prepare(images)
    if len(prepared) != 1:
        raise CannotExplain(f"counterfactuals change one image; this model takes {len(prepared)} inputs")
    return prepared[0]


def _read_all(outputs: Tensor, _rows: Tensor) -> Tensor:
    return outputs.flatten(1).sum(1)


def slopes_reach(passes: Passes, images: Tensor) -> bool:
    """Say whether derivatives of the model's output reach the image in its own units."""
    probe = images[:2].detach().clone().requires_grad_()
    prepared = one_input(passes.model, probe)
    if not prepared.requires_grad:
        return False
    try:
        passes.gradient((prepared.detach(),), ReadOut(_read_all))
    except CannotExplain:
        return False
    return True


def follow(passes: Passes, images: Tensor, read: ReadOut, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the target's value ``(N,)`` of images, and its slopes ``(N, C, *S)`` in the images' own units."""
    leaf = images.detach().requires_grad_()
    prepared = one_input(passes.model, leaf)
    scores, _, (slopes,) = passes.gradient((prepared.detach(),), read, rows)
    (back,) = torch.autograd.grad(prepared, leaf, slopes)
    return scores, back


class Guide:
    """Compares the model's outputs for images and reconstructions, each output in its own spread over the images.

    Parameters
    ----------
    passes
        Open way through the model.
    images
        The training images.
    """

    def __init__(self, passes: Passes, images: Tensor) -> None:
        self._passes = passes
        self.reachable = slopes_reach(passes, images)
        outputs = self.say(images).double()
        if not outputs.isfinite().all():
            raise CannotExplain("the model's outputs for the training images hold NaN or infinity")
        self.centre = outputs.mean(0).float()
        spread = outputs.std(0, correction=0).float()
        self.spread = torch.where(spread > 0, spread, torch.ones_like(spread))

    def say(self, images: Tensor) -> Tensor:
        """Return the model's outputs ``(N, K)``; those of an image are laid in a row."""
        return self._passes.outputs((one_input(self._passes.model, images),)).flatten(1).clone()

    def standard(self, outputs: Tensor) -> Tensor:
        """Return outputs less their mean, in their spread over the training images."""
        return (outputs - self.centre) / self.spread

    def disagreement(self, rebuilt: Tensor, wanted: Tensor) -> Tensor:
        """Return by how much the outputs for reconstructions miss those wanted, standardised ``(N, K)``; it has slopes."""

        def miss(outputs: Tensor, rows: Tensor) -> Tensor:
            there = self.standard(outputs.flatten(1))
            return functional.smooth_l1_loss(there, wanted[rows], reduction="none").mean(1)

        rows = torch.arange(len(rebuilt))
        missed, slopes = follow(self._passes, rebuilt, ReadOut(miss), rows)
        pull = (rebuilt * slopes).flatten(1).sum(1)
        return (missed + pull - pull.detach()).mean()
