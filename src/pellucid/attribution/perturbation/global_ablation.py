"""Global ablation: how much worse the model does over many images without a channel, a region or a group of them."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import torch
from torch import Tensor

from pellucid.attribution.fills import FillValue, known, reference
from pellucid.attribution.method import row_seeds
from pellucid.attribution.perturbation.segmenters import Labels, Segmentation, segment
from pellucid.attribution.perturbation.spelling import spec_of
from pellucid.attribution.perturbation.superpixels import REGIONS
from pellucid.errors import BadRecipe, BadTarget, ShapeError
from pellucid.hashing import hash_seed
from pellucid.intervals import Interval, mean_interval
from pellucid.models import Inputs, Model, Passes, take_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["METRICS_OF_A_MODEL", "GlobalAblation", "global_ablation"]

ROUNDING = 1e-6
"""Difference of a metric, relative to 1 and its size, that a float32 network can give without any cause."""

Regions = str | Tensor | Labels | Mapping[str, Tensor]


def _correct(outputs: Tensor, labels: Tensor) -> Tensor:
    chosen = outputs.argmax(1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0).long()
    return (chosen == labels).double()


def _log_likelihood(outputs: Tensor, labels: Tensor) -> Tensor:
    two = outputs if outputs.shape[1] > 1 else torch.cat([torch.zeros_like(outputs), outputs], 1)
    return two.double().log_softmax(1).gather(1, labels[:, None])[:, 0]


def _squared_error(outputs: Tensor, labels: Tensor) -> Tensor:
    return -(outputs.double().flatten(1) - labels.double().reshape(len(labels), -1)).square().mean(1)


METRICS_OF_A_MODEL: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {"accuracy": _correct, "log_likelihood": _log_likelihood, "squared_error": _squared_error}
)
"""How well one image is answered, ``(N,)`` from outputs and labels: more is better; ``squared_error`` is negated."""


@dataclass(frozen=True)
class GlobalAblation:
    """Features from the one the model can least do without to the one it never misses.

    Attributes
    ----------
    table
        One line a feature: ``feature``, ``rank``, ``drop`` of the metric with its 95 % interval ``low`` to ``high``,
        ``images``, ``groups``.
    performance
        The metric on the images as they are, with its interval.
    metric, how
        As asked.
    forwards
        Rows that went through the model.
    """

    table: pa.Table
    performance: Interval
    metric: str
    how: str
    forwards: int

    def plot(self) -> "Figure":
        """Draw every feature's drop with its interval, the largest first; dashed: no drop."""
        import matplotlib as mpl  # noqa: PLC0415  # pictures only when asked
        from matplotlib.figure import Figure  # noqa: PLC0415

        from pellucid.show.charts import Dot, dot_chart  # noqa: PLC0415  # pictures know results, not the reverse
        from pellucid.show.svg import STYLE  # noqa: PLC0415

        rows = self.table.to_pylist()
        dots = [Dot(label=row["feature"], value=row["drop"], low=row["low"], high=row["high"]) for row in rows]
        label = f"drop of {self.metric} ({self.how}; {self.performance.n} images), 95 % interval"
        with mpl.rc_context(STYLE):
            figure = Figure(figsize=(6.4, 1.1 + 0.27 * len(dots)), layout="constrained")
            dot_chart(figure.subplots(), dots, label=label, reference=0.0)
        return figure

    def __repr__(self) -> str:
        return f"GlobalAblation({self.metric} {self.performance}, {self.table.num_rows} features by {self.how})"


def global_ablation(
    model: Model | Callable[..., Any],
    x: Tensor | Sequence[Tensor],
    labels: Tensor | Sequence[int],
    features: Regions = "channels",
    *,
    metric: str = "accuracy",
    how: Literal["permute", "fill"] = "permute",
    fill: FillValue = "zero",
    repeats: int = 5,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = False,
) -> GlobalAblation:
    """Rank channels, regions or groups of them by how much worse the model does over many images without each.

    The model is not trained again: the answer is what this model uses, not what the data hold.

    Parameters
    ----------
    model
        A `Model`, or any ``nn.Module`` or callable.
    x
        Images ``(N, C, *S)``, best from the test split; a tuple for nets of several inputs.
    labels
        ``(N,)`` classes, or the numbers that a regression should give.
    features
        ``"channels"``, ``"grid(4, 4)"``, ``"regular(16)"``, ``"channels(grid(2, 2))"``, an atlas ``(*S)`` or `Labels` that
        all images are registered to, or named boolean masks that broadcast over the first input's ``(C, *S)`` (which may
        overlap, and join channels or regions to groups).
    metric
        A name of `METRICS_OF_A_MODEL`. Where a feature changes only a few answers, the interval of ``"accuracy"`` is
        coarse and rather short; that of ``"log_likelihood"`` is not.
    how
        ``"permute"`` puts in the same feature of another image, which keeps it a real one and breaks its tie to the
        label; ``"fill"`` puts in `fill`.
    fill
        A name of `FILLS`, a number, or one number a channel.
    repeats
        Permutations; a filled feature is always the same.
    groups
        The independent unit (patient, plate) of each image: intervals are over these.
    seed
        Of the permutations.
    batch_size, progress
        As for `pellucid.explain`.

    Raises
    ------
    ShapeError, BadTarget, BadRecipe
        When labels, features, metric or fill do not fit; one sentence.

    References
    ----------
    Breiman 2001, Random forests; Fisher, Rudin & Dominici 2019, All models are wrong, but many are useful.
    """
    own = Model.of(model)
    inputs = tuple(tensor.detach() for tensor in own.prepare(x))
    truth = _truth(labels, len(inputs[0])).to(inputs[0].device)
    known(fill)
    if metric not in METRICS_OF_A_MODEL or how not in {"permute", "fill"} or repeats < 1:
        raise BadRecipe(
            f"global_ablation(metric={metric!r}, how={how!r}, repeats={repeats}): metric is one of "
            f"{', '.join(METRICS_OF_A_MODEL)}, how is permute or fill, repeats at least 1"
        )
    masks = _masks(features, inputs)
    with Passes(own, batch_size=batch_size, progress=progress) as passes:
        task = _Task(passes, inputs, truth, metric, how, fill, repeats if how == "permute" else 1, seed)
        passes.expect((1 + len(masks) * task.repeats) * len(truth), "hiding features")
        before = task.quality(inputs)
        drops = {name: task.drop(mask, before) for name, mask in masks.items()}
    table = _ranked({name: mean_interval(drop.cpu(), groups=groups, seed=seed) for name, drop in drops.items()})
    return GlobalAblation(table, mean_interval(before.cpu(), groups=groups, seed=seed), metric, how, passes.forwards)


@dataclass(frozen=True)
class _Task:
    passes: Passes
    inputs: Inputs
    labels: Tensor
    metric: str
    how: str
    fill: FillValue
    repeats: int
    seed: int
    fills: Inputs = field(init=False)

    def __post_init__(self) -> None:
        seeds = row_seeds(self.seed, None, len(self.labels))
        made = reference(self.fill, self.inputs, seeds) if self.how == "fill" else ()
        object.__setattr__(self, "fills", made)

    def quality(self, inputs: Inputs) -> Tensor:
        """Return the metric ``(N,)`` of every image."""
        outputs = self.passes.outputs(inputs)
        if outputs.ndim != 2:
            raise BadTarget(f"global_ablation judges outputs (N, K), and the model gives {tuple(outputs.shape)}")
        classes = max(2, outputs.shape[1])
        if self.metric != "squared_error" and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < classes:
            raise BadTarget(
                f"labels run from {self.labels.min()} to {self.labels.max()}; the model has {classes} classes"
            )
        return METRICS_OF_A_MODEL[self.metric](outputs, self.labels)

    def without(self, masks: Inputs) -> Tensor:
        """Return the metric of every image without the masked elements, the mean over the repeats."""
        found = [
            self.quality(tuple(torch.where(mask, y, x) for mask, x, y in zip(masks, self.inputs, other, strict=True)))
            for other in self._others()
        ]
        return torch.stack(found).mean(0)

    def drop(self, masks: Inputs, before: Tensor) -> Tensor:
        """Return how much worse every image is answered without the masked elements; 0 for float32 rounding."""
        drop = before - self.without(masks)
        return drop.masked_fill(drop.abs() <= ROUNDING * (1 + before.abs()), 0)

    def _others(self) -> Iterator[Inputs]:
        """Yield what is put in: the fill, or in every repeat another image for every image, the same for all features."""
        if self.how == "fill":
            yield self.fills
            return
        for repeat in range(self.repeats):
            generator = torch.Generator().manual_seed(hash_seed(self.seed, repeat))
            order = torch.randperm(len(self.labels), generator=generator)
            donors = torch.empty_like(order)
            donors[order] = order.roll(1)  # one cycle: no image is its own donor
            yield take_rows(self.inputs, donors.to(self.labels.device))


def _truth(labels: Tensor | Sequence[int], rows: int) -> Tensor:
    truth = torch.as_tensor(labels)
    if len(truth) != rows or rows < 2:
        raise ShapeError(f"{len(truth)} labels were given for {rows} images; global_ablation takes two images or more")
    return truth


def _masks(features: Regions, inputs: Inputs) -> dict[str, Inputs]:
    """Return named boolean masks, one an input, that broadcast over all images."""
    if isinstance(features, Mapping):
        return {name: _named(name, mask, inputs) for name, mask in features.items()}
    if isinstance(features, str):
        spec = spec_of(features)
        if spec is None or spec.name in REGIONS:
            raise BadRecipe(f'features={features!r} must mean the same in every image: "channels", a grid, or an atlas')
    wanted = Labels(features) if isinstance(features, Tensor) else features
    own = segment(wanted, inputs)[0][0]
    if isinstance(wanted, Labels) and wanted.tensor.ndim != inputs[0].ndim - 2:
        raise ShapeError("labels of each image differ, so no feature is the same in all; give one atlas (*S)")
    return {name: tuple(labels == player for labels in own.labels) for player, name in enumerate(_names(features, own))}


def _names(features: Regions, own: Segmentation) -> list[str]:
    if own.values is not None:
        return [f"label {value}" for value in own.values.tolist()]
    spec = spec_of(features) if isinstance(features, str) else None
    if spec is None or not (spec.by_channel or spec.name == "channels"):
        return [f"segment {player}" for player in range(own.players)]
    if spec.name == "channels":
        return [f"channel {player}" for player in range(own.players)]
    regions = own.players // sum(shape[0] for shape in own.shapes)
    return [f"channel {player // regions}, segment {player % regions}" for player in range(own.players)]


def _named(name: str, mask: Tensor, inputs: Inputs) -> Inputs:
    shape = tuple(inputs[0].shape[1:])
    try:
        first = mask.bool().to(inputs[0].device).expand(shape)
    except RuntimeError:
        raise ShapeError(
            f"feature {name!r} has a mask of shape {tuple(mask.shape)}, which does not broadcast over {shape} (C, *S)"
        ) from None
    return (first, *(torch.zeros_like(tensor[0], dtype=torch.bool) for tensor in inputs[1:]))


def _ranked(drops: dict[str, Interval]) -> pa.Table:
    order = sorted(drops, key=lambda name: -drops[name].value)
    return pa.table(
        {
            "feature": order,
            "rank": list(range(1, len(order) + 1)),
            "drop": [drops[name].value for name in order],
            "low": [drops[name].low for name in order],
            "high": [drops[name].high for name in order],
            "images": [drops[name].n for name in order],
            "groups": [drops[name].groups for name in order],
        }
    )
