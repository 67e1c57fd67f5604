"""What a model relies on, measured on a phantom: each factor is moved, everything else stays as it was, the model is asked again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import torch
from torch import Tensor

from pellucid.attribution import Method, explain
from pellucid.attribution.scaling import resized
from pellucid.images.phantoms import Factor, Phantom
from pellucid.intervals import Interval, mean_interval
from pellucid.models import Model, Passes
from pellucid.models.predict import calibrated_logits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Reliance", "flip_matrix", "recovered"]

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
    dials, values = _dials(phantom, factors), _values(phantom)
    with Passes(model, batch_size=batch_size) as passes:
        before = calibrated_logits(passes, phantom.images.tensor(chosen)).softmax(1)
        called = before.argmax(1)
        rows = []
        for dial in dials:
            goals = [_across(dial, values[image][dial.name]) for image in chosen]
            after = calibrated_logits(passes, _moved(phantom, dial, chosen, goals)).softmax(1)
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


def recovered(
    model: Model,
    phantom: Phantom,
    methods: Sequence[str | Method],
    ids: Sequence[str],
    *,
    factors: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> pa.Table:
    """Judge methods by the flip matrix: the change of a map should say how far each factor moves the model.

    Each image is explained as it is and with each factor moved, always for the class that is called as it is. For every
    factor the change of the map is added up over the pixels that changed; over all factors these sums should be in
    proportion to the changes of the class's score. Their cosine is 1 for a map that attributes every change rightly, near 0
    for one that knows nothing of the model, whatever pixels it lights up.

    Parameters
    ----------
    model, phantom, factors, batch_size
        As for `flip_matrix`.
    methods
        Texts or values.
    ids
        Images.
    seed
        Of methods that sample.

    Returns
    -------
    Table
        One row an image and method: ``image``, ``group``, ``method``, ``cosine`` (null where no factor moves the score).
    """
    dials, values = _dials(phantom, factors), _values(phantom)
    x = phantom.images.tensor(ids)
    moved = [_moved(phantom, dial, ids, [_across(dial, values[name][dial.name]) for name in ids]) for dial in dials]
    both, names = torch.cat([x, *moved]), list(ids) * (1 + len(dials))
    with Passes(model, batch_size=batch_size) as passes:
        outputs = passes.outputs(model.prepare(both)).cpu()
    called = outputs[: len(x)].argmax(1).repeat(1 + len(dials))
    scores = outputs.gather(1, called[:, None])[:, 0].view(1 + len(dials), len(x))
    support = (both != x.repeat(1 + len(dials), *[1] * (x.ndim - 1))).any(1).view(1 + len(dials), len(x), *x.shape[2:])
    groups = [str(group) for group in phantom.images.column("group", ids)]
    rows = []
    for method in methods:
        found = explain(model, both, method, called.tolist(), ids=names, seed=seed, batch_size=batch_size).values
        assert isinstance(found, Tensor)  # noqa: S101  # one input
        maps = resized(found.sum(1, keepdim=True), tuple(x.shape[2:])).view_as(support)
        told = ((maps - maps[:1]) * support)[1:].flatten(2).sum(2)
        cosines = torch.nn.functional.cosine_similarity(told.double(), (scores - scores[:1])[1:].double(), dim=0)
        still = (scores == scores[:1]).all(0)
        rows += [
            {"image": name, "group": group, "method": str(method), "cosine": None if none else float(cosine)}
            for name, group, cosine, none in zip(ids, groups, cosines, still.tolist(), strict=True)
        ]
    return pa.Table.from_pylist(rows)


def _dials(phantom: Phantom, factors: Sequence[str] | None) -> list[Factor]:
    return [dial for dial in phantom.dials if factors is None or dial.name in set(factors)]


def _values(phantom: Phantom) -> dict[str, dict[str, float]]:
    """Return the value of every factor, by image."""
    return {row["image"]: row for row in phantom.factors.to_pylist()}


def _moved(phantom: Phantom, dial: Factor, ids: Sequence[str], goals: Sequence[float]) -> Tensor:
    """Return images re-rendered with one factor at its goal."""
    return torch.stack([phantom.render(name, **{dial.name: goal}) for name, goal in zip(ids, goals, strict=True)])


def _across(dial: Factor, value: float) -> float:
    """Return a value well on the other side of the middle of the range."""
    return dial.value(1 - _FAR if value > dial.cut(0.5) else _FAR)
