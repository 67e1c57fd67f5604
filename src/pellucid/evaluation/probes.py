"""Linear probes: a model of the images' own shape whose right explanations are known, beside wrong ones.

What is right and wrong depends on what a metric measures: exact against random maps for faithfulness and localisation,
a map that moves as the image moves against one that jumps for robustness, one that follows the weights against one that does not for
randomisation.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pellucid.attribution import Attribution, Explanation, Method, Taxonomy, explain
from pellucid.attribution.fills import reference
from pellucid.attribution.gradient import gradient
from pellucid.attribution.method import Call
from pellucid.evaluation.metric import Metric
from pellucid.evaluation.positions import Grid, streams
from pellucid.hashing import hash_seed
from pellucid.models import Inputs

__all__ = ["LinearProbe", "Probe", "probe"]

_RANDOM = 5
"""Random maps an image: one alone may be lucky."""

_UNKNOWN = Taxonomy(family="gradient", question="Is this metric awake?", cost="0", reference="none", kind="probe")


class LinearProbe(nn.Module):
    """Three classes, each a weighted sum of the image: w · x, weights adding up to nought."""

    def __init__(self, inputs: Inputs, seed: int) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(hash_seed("probe", seed))
        size = sum(x[0].numel() for x in inputs)
        self.sum = nn.Linear(size, 3, bias=False)
        weights = torch.randn(3, size, generator=random)
        weights -= weights.mean(1, keepdim=True)
        spread = torch.cat([x.flatten(1) for x in inputs], 1).float().std(1).mean().clamp_min(1e-6)
        # Small logits: probabilities stay near a third, so that no change of the image cuts a comparison short.
        with torch.no_grad():
            self.sum.weight.copy_(weights * 0.02 / (spread.cpu() * size**0.5))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the three sums."""
        found: Tensor = self.sum(torch.cat([x.flatten(1) for x in inputs], 1))
        return found


@dataclass(frozen=True, kw_only=True, repr=False)
class _shaky(Method):
    """A map drawn anew whenever the image or the model's answer differs in the last bit."""

    taxonomy: ClassVar[Taxonomy] = _UNKNOWN

    def attribute(self, call: Call) -> Attribution:
        rows = [
            hash_seed(*(float(x[row].double().sum()) for x in call.inputs), float(call.output[row]))
            for row in range(len(call))
        ]
        drawn = [torch.Generator().manual_seed(seed) for seed in rows]
        return Attribution(
            tuple(torch.stack([torch.randn(x.shape[1:], generator=one) for one in drawn]).to(x) for x in call.inputs)
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class _blind(Method):
    """The image itself, whatever the model."""

    taxonomy: ClassVar[Taxonomy] = _UNKNOWN

    def attribute(self, call: Call) -> Attribution:
        return Attribution(call.inputs)


@dataclass(frozen=True)
class Probe:
    """A model with explanations of known worth.

    Attributes
    ----------
    model
        The linear probe.
    explanations
        To be scored together.
    roles
        ``"exact"``, ``"random"``, ``"negated"`` or ``""`` (company), one an explanation.
    more
        What else `evaluate` takes for this metric: masks, regions, models.
    """

    model: nn.Module
    explanations: tuple[Explanation, ...]
    roles: tuple[str, ...]
    more: dict[str, Any]


def probe(metric: Metric, inputs: Inputs, seed: int = 0) -> Probe:
    """Return the probe that fits what a metric measures, on images in model space."""
    model = LinearProbe(inputs, seed).to(inputs[0].device).eval()
    if metric.profile.family in _KINDS:
        explanations, roles = _KINDS[metric.profile.family](model, inputs, seed)
    else:
        explanations, roles = _maps(metric, model, inputs, seed)
    return Probe(model, tuple(explanations), tuple(roles), _more(model, inputs, seed))


Explained = tuple[list[Explanation], list[str]]


def _given(model: nn.Module, inputs: Inputs, values: Inputs, name: str) -> Explanation:
    return Explanation.from_values(values[0] if len(values) == 1 else values, model, inputs, name=name)


def _drawn(inputs: Inputs, seed: int, number: int) -> Inputs:
    random = torch.Generator().manual_seed(hash_seed("probe map", seed, number))
    return tuple(torch.randn(x.shape, generator=random).to(x) for x in inputs)


def _contributions(model: nn.Module, inputs: Inputs, fill: Any) -> Inputs:
    """Return w · (x − fill) of the predicted class, element by element: what hiding an element takes off, exactly."""
    weights = model.get_parameter("sum.weight").detach()[model(*inputs).argmax(1)]
    filled = reference(fill if inputs[0].ndim > 2 else "zero", inputs, [0] * len(inputs[0]))
    parts = torch.split(weights, [x[0].numel() for x in inputs], 1)
    return tuple((x - gone) * part.view_as(x) for x, gone, part in zip(inputs, filled, parts, strict=True))


def _maps(metric: Metric, model: nn.Module, inputs: Inputs, seed: int) -> Explained:
    exact = _contributions(model, inputs, metric.settings.get("fill", "mean"))
    maps = {"exact": exact, "negated": tuple(-part for part in exact)}
    maps |= {f"random {number}": _drawn(inputs, seed, number) for number in range(_RANDOM)}
    return [_given(model, inputs, values, name) for name, values in maps.items()], [name.split()[0] for name in maps]


def _stable(model: nn.Module, inputs: Inputs, seed: int) -> Explained:  # noqa: ARG001  # nothing is drawn here
    return [explain(model, inputs, method) for method in (_blind(), _shaky())], ["exact", "random"]


def _dependent(model: nn.Module, inputs: Inputs, seed: int) -> Explained:  # noqa: ARG001
    return [explain(model, inputs, method) for method in (gradient(), _blind())], ["exact", "random"]


def _complete(model: nn.Module, inputs: Inputs, seed: int) -> Explained:
    exact = explain(model, inputs, "integrated_gradients(steps=2)")
    before = torch.zeros_like(exact.output) if exact.reference_output is None else exact.reference_output
    total = sum(part.flatten(1).sum(1).cpu() for part in _drawn(inputs, seed, 0))
    wrong = (total * exact.output.abs().mean() - (exact.output - before)).abs()
    return [exact, replace(exact, method="random", gap=wrong)], ["exact", "random"]


def _concentrated(model: nn.Module, inputs: Inputs, seed: int) -> Explained:
    exact = _contributions(model, inputs, "zero")
    strongest = torch.cat([part.abs().flatten(1) for part in exact], 1).amax(1)
    peaks = tuple(part * (part.abs() == strongest.view(-1, *[1] * (part.ndim - 1))) for part in exact)
    maps = {"exact": peaks} | {f"random {number}": _drawn(inputs, seed, number) for number in range(_RANDOM)}
    return [_given(model, inputs, values, name) for name, values in maps.items()], [name.split()[0] for name in maps]


def _agreeing(model: nn.Module, inputs: Inputs, seed: int) -> Explained:
    exact = _contributions(model, inputs, "zero")
    maps = {"exact": exact, "random": _drawn(inputs, seed, 0)}
    for number in (1, 2):
        noise = _drawn(inputs, seed, number)
        near = tuple(part + 0.1 * part.std() * one for part, one in zip(exact, noise, strict=True))
        maps[f"near {number}"] = near
    return [_given(model, inputs, values, name) for name, values in maps.items()], ["exact", "random", "", ""]


_KINDS: dict[str, Callable[[nn.Module, Inputs, int], Explained]] = {
    "robustness": _stable,
    "randomisation": _dependent,
    "axiom": _complete,
    "complexity": _concentrated,
    "agreement": _agreeing,
}


def _more(model: nn.Module, inputs: Inputs, seed: int) -> dict[str, Any]:
    """Return masks of the tenth with most evidence, slices as regions, and a model that learnt nearly the same."""
    again = LinearProbe(inputs, seed).to(inputs[0].device).eval()
    with torch.no_grad():
        noise = torch.randn(again.sum.weight.shape, generator=streams([seed], "probe again")[0])
        again.sum.weight.add_(0.01 * again.sum.weight.std() * noise.to(again.sum.weight))
    if len(inputs) > 1:
        return {"models": [again]}
    grid, exact = Grid.of(inputs), _contributions(model, inputs, "mean")[0]
    placed = exact.sum(1).flatten(1) if exact.ndim > 2 else exact
    count = max(1, round(0.1 * placed.shape[1]))
    masks = (placed >= placed.topk(count, dim=1).values[:, -1:]).reshape(-1, *grid.shapes[0])
    places = torch.arange(placed.shape[1]) * 16 // placed.shape[1]
    return {"models": [again], "masks": masks.cpu(), "regions": 1 + places.reshape(grid.shapes[0])}
