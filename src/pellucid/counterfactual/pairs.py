"""A real image and its counterfactual, and the one score of the model that tells how far a mixture of them has gone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from pellucid.errors import CannotExplain, ShapeError
from pellucid.models import Model, Passes
from pellucid.models.predict import two_columns
from pellucid.models.targets import Contrast, Output, Target

__all__ = ["Pairs"]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Real images beside their counterfactuals.

    Attributes
    ----------
    model
        The explained model.
    real, counterfactual
        ``(N, C, *S)``, as the model takes them.
    ids
        One name a pair.
    source, target
        ``(N,)`` class that the model gives to the real image and to its counterfactual; the number of the read output
        where the model is no classifier.
    before, after
        ``(N,)`` score of both: the logit of the target class less that of the source class, or the output itself.
    """

    model: Model
    real: Tensor
    counterfactual: Tensor
    ids: tuple[str, ...]
    source: Tensor
    target: Tensor
    before: Tensor
    after: Tensor

    @classmethod
    def of(
        cls,
        model: Model | Callable[..., Any],
        real: Tensor,
        counterfactual: Tensor,
        *,
        output: int | None = None,
        ids: Sequence[str] | None = None,
        batch_size: int | None = None,
    ) -> Self:
        """Ask the model about both images of every pair.

        Parameters
        ----------
        model, real, counterfactual, ids
            As the attributes.
        output
            The output of a regression net; None for a classifier, whose two answers name the classes.
        batch_size
            Rows a pass.

        Raises
        ------
        ShapeError
            When the two tensors differ in shape, or ids do not fit.
        CannotExplain
            When a pair has one answer, so that there is nothing to trace, or the model gives no ``(N, K)``.
        """
        own = Model.of(model)
        if real.shape != counterfactual.shape or real.ndim < 3:
            raise ShapeError(
                f"real images {tuple(real.shape)} and counterfactuals {tuple(counterfactual.shape)} are not pairs of "
                "(N, C, *S)"
            )
        names = tuple(f"pair {row}" for row in range(len(real))) if ids is None else tuple(ids)
        if len(names) != len(real):
            raise ShapeError(f"{len(names)} ids were given for {len(real)} pairs")
        real, counterfactual = real.detach().cpu(), counterfactual.detach().cpu()
        with Passes(own, batch_size=batch_size) as passes:
            outputs = [_outputs(own, passes, images) for images in (real, counterfactual)]
        if output is not None or own.task == "regression":
            classes = [torch.full((len(real),), output or 0)] * 2
            ends = [one[:, output or 0] for one in outputs]
        else:
            answers = [two_columns(one) for one in outputs]
            classes = [one.argmax(1) for one in answers]
            ends = [_contrast(one, *classes) for one in answers]
        _refuse_equal(names, *ends)
        return cls(own, real, counterfactual, names, *classes, *ends)

    def __len__(self) -> int:
        return len(self.real)

    @property
    def classified(self) -> bool:
        """Whether the score is a contrast of two classes; without classes both are the number of the read output."""
        return bool((self.source != self.target).all())

    @property
    def direction(self) -> Tensor:
        """``(N,)`` 1 where the score rises from the real image to its counterfactual, else −1."""
        return (self.after - self.before).sign()

    def asked(self, row: int) -> tuple[Target, float]:
        """Return what a method is asked about a row, and the sign that makes it speak for the counterfactual."""
        source, target = int(self.source[row]), int(self.target[row])
        if not self.classified:
            return Output(target), float(self.direction[row])
        if self._one_logit:
            return Output(0), float(target - source)
        return Contrast(target, source), 1.0

    @property
    def _one_logit(self) -> bool:
        with Passes(self.model) as passes:
            return _outputs(self.model, passes, self.real[:1]).shape[1] == 1

    def judged(self, passes: Passes, row: int, images: Tensor) -> tuple[Tensor, Tensor]:
        """Judge images ``(L, C, *S)`` made from one pair.

        Returns
        -------
        change
            ``(L,)`` share of the score's change from the real image to its counterfactual.
        flipped
            ``(L,)`` whether the model calls them as it calls the counterfactual; all False without classes.
        """
        outputs = _outputs(self.model, passes, images)
        source, target = self.source[row : row + 1], self.target[row : row + 1]
        if self.classified:
            answers = two_columns(outputs)
            scores = _contrast(answers, source.expand(len(images)), target.expand(len(images)))
            flipped = answers.argmax(1) == target
        else:
            scores, flipped = outputs[:, int(target)], torch.zeros(len(images), dtype=torch.bool)
        return (scores - self.before[row]) / (self.after[row] - self.before[row]), flipped


def _outputs(model: Model, passes: Passes, images: Tensor) -> Tensor:
    outputs = passes.outputs(model.prepare(images)).cpu().double()
    if outputs.ndim != 2:
        raise CannotExplain(f"pairs are traced through outputs (N, K); this model returns {tuple(outputs.shape)}")
    return outputs


def _contrast(outputs: Tensor, source: Tensor, target: Tensor) -> Tensor:
    return (outputs.gather(1, target[:, None]) - outputs.gather(1, source[:, None]))[:, 0]


def _refuse_equal(names: Sequence[str], before: Tensor, after: Tensor) -> None:
    same = [name for name, equal in zip(names, (before == after).tolist(), strict=True) if equal]
    if same:
        raise CannotExplain(
            f"the model answers the same to both images of {len(same)} of {len(names)} pairs ({', '.join(same[:3])}): "
            "leave them out, there is no change to trace"
        )
