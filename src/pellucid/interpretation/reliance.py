"""What a model relies on, measured on a phantom: each factor is moved, everything else stays as it was, the model is asked again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import torch
from torch import Tensor

from pellucid.errors import CannotExplain
from pellucid.images.phantoms import Factor, Phantom
from pellucid.intervals import Interval, mean_interval
from pellucid.models import Model, Passes
from pellucid.models.predict import two_columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Reliance", "flip_matrix"]

_FAR = 0.9
"""Where in its range a factor is moved to: past the middle, to this share, or to one less it."""


@dataclass(frozen=True, eq=False)
class Reliance:
    """How far each factor moves the model's call: the truth that explanations are judged by.

    Attributes
    ----------
    table
        One row an image and factor: ``image``, ``factor``, ``from`` and ``to`` (the factor's unit), ``moved`` (change of
        the probability of the called class), ``flipped`` (whether the call changed), ``group``.
    """

    table: pa.Table

    def effects(self) -> dict[str, Interval]:
        """Return the mean size of the change of probability by factor, largest first, with its interval by group."""
        effects = {}
        for factor in dict.fromkeys(self.table["factor"].to_pylist()):
            rows = [row for row in self.table.to_pylist() if row["factor"] == factor]
            sizes = [abs(row["moved"]) for row in rows]
            effects[factor] = mean_interval(sizes, groups=[row["group"] for row in rows], bounds=(0.0, 1.0))
        return dict(sorted(effects.items(), key=lambda item: -item[1].value))

    def used(self, least: float = 0.2) -> tuple[str, ...]:
        """Return the factors that move the probability by more than `least` on average, surely (interval above it)."""
        return tuple(factor for factor, effect in self.effects().items() if effect.low > least)

    def plot(self) -> "Figure":
        """Draw every factor's effect with its interval."""
        from pellucid.show import plot_reliance  # noqa: PLC0415  # pictures know results, not the reverse

        return plot_reliance(self)


def flip_matrix(
    model: Model,
    phantom: Phantom,
    ids: Sequence[str] | None = None,
    *,
    factors: Sequence[str] | None = None,
    batch_size: int | None = None,
) -> Reliance:
    """Measure which factors a model uses, by re-rendering each image with one factor moved to the other side of its range.

    Place, noise and all other factors stay bit for bit as they were, so that nothing else can have moved the model.

    Parameters
    ----------
    model
        A classifier of the phantom's classes.
    phantom
        Whose images are re-rendered.
    ids
        Images; default all.
    factors
        Names of factors; default all.
    batch_size
        Rows a pass; default automatic.

    Returns
    -------
    Reliance
        One row an image and factor.

    Raises
    ------
    BadImage
        When the phantom has no such image or factor.
    CannotExplain
        When the model is no classifier.

    References
    ----------
    Counterfactual re-rendering as in Hesse et al. 2023, FunnyBirds, ICCV.
    """
    chosen = phantom.images.ids if ids is None else tuple(ids)
    dials = [dial for dial in phantom.dials if factors is None or dial.name in set(factors)]
    values = {row["image"]: row for row in phantom.factors.to_pylist()}
    with Passes(model, batch_size=batch_size) as passes:
        before = _probabilities(passes, phantom.images.tensor(chosen))
        called = before.argmax(1)
        rows = []
        for dial in dials:
            goals = [_across(dial, float(values[image][dial.name])) for image in chosen]
            moved = torch.stack(
                [phantom.render(image, **{dial.name: goal}) for image, goal in zip(chosen, goals, strict=True)]
            )
            after = _probabilities(passes, moved)
            own = called[:, None]
            rows.append(
                (dial.name, goals, (after.gather(1, own) - before.gather(1, own))[:, 0], after.argmax(1) != called)
            )
    groups = [str(group) for group in phantom.images.column("group", chosen)]
    return Reliance(
        pa.table(
            {
                "image": [image for _ in rows for image in chosen],
                "group": groups * len(rows),
                "factor": [name for name, *_ in rows for _ in chosen],
                "from": [float(values[image][name]) for name, *_ in rows for image in chosen],
                "to": [goal for _, goals, *_ in rows for goal in goals],
                "moved": torch.cat([moved for *_, moved, _ in rows]).tolist() if rows else [],
                "flipped": torch.cat([flipped for *_, flipped in rows]).tolist() if rows else [],
            }
        )
    )


def _across(dial: Factor, value: float) -> float:
    """Return a value well on the other side of the middle of the range."""
    return dial.value(1 - _FAR if value > dial.cut(0.5) else _FAR)


def _probabilities(passes: Passes, images: Tensor) -> Tensor:
    model = passes.model
    outputs = passes.outputs(model.prepare(images)).cpu()
    if outputs.ndim != 2 or model.task == "regression":
        raise CannotExplain(f"the model is no classifier: its outputs have shape {tuple(outputs.shape)}")
    logits: Tensor = two_columns(outputs).double() / model.temperature
    return logits.softmax(1)
