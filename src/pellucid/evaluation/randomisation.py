"""Randomisation: a map of what a model has learnt must change when that is taken away.

Weights are randomised in a copy; one set of copies per seed serves all methods, and the untouched model is not
counted among them.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from pellucid.attribution.method import row_seeds
from pellucid.errors import CannotExplain
from pellucid.evaluation.bench import Bench
from pellucid.evaluation.metric import METRICS, Metric, Outcome, Profile
from pellucid.evaluation.positions import streams
from pellucid.evaluation.reexplain import explain_again
from pellucid.evaluation.statistics import spearman
from pellucid.models import Inputs, Model, Passes, ReadOut, take_rows
from pellucid.models.targets import Class

__all__ = ["parameter_randomisation", "random_logit", "randomised"]

_CONSTANT = "the map is constant, before or after"


def _learnt(model: Model, passes: Passes, inputs: Inputs) -> list[str]:
    """Return the names of the layers that hold parameters, in the order in which a forward first calls them."""
    module = model.module
    if module is None:
        raise CannotExplain("the weights of a plain callable cannot be randomised; wrap an nn.Module")
    holding = [name for name, part in module.named_modules() if part._parameters]  # noqa: SLF001
    called: list[str] = []
    hooks = [
        module.get_submodule(name).register_forward_hook(lambda *_, name=name: called.append(name)) for name in holding
    ]
    try:
        passes.outputs(take_rows(inputs, slice(0, 1)))
    finally:
        for hook in hooks:
            hook.remove()
    return list(dict.fromkeys(called + holding))


def _redraw(part: nn.Module) -> None:
    """Draw a layer's parameters anew: as the layer itself initialises them, else normal with their own spread."""
    reset = getattr(part, "reset_parameters", None) or getattr(part, "_reset_parameters", None)
    if callable(reset):
        reset()
        return
    for parameter in part.parameters(recurse=False):
        spread = float(parameter.double().std(correction=0))
        parameter.copy_(torch.randn(parameter.shape) * spread + parameter.double().mean())


def randomised(model: Model, layers: Sequence[str], seed: int) -> Model:
    """Return a copy of the model with those layers drawn anew; the model itself stays as it is.

    Raises
    ------
    CannotExplain
        When the model is no ``nn.Module`` or cannot be copied.
    """
    if model.module is None:
        raise CannotExplain("the weights of a plain callable cannot be randomised; wrap an nn.Module")
    try:
        module = copy.deepcopy(model.module)
    except (RuntimeError, TypeError) as error:
        raise CannotExplain(f"the model cannot be copied to randomise its weights: {error}") from None
    module.cpu()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for name in layers:
            torch.manual_seed(row_seeds(seed, (f"weights:{name}",), 1)[0])
            _redraw(module.get_submodule(name))
    clone = copy.copy(model)
    clone.network = module.to(model.device)
    return clone


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class parameter_randomisation(Metric):
    """Size of the rank correlation between the map and that of the same method on models with randomised weights.

    Layers are randomised from the output down, cumulatively, in `stages` equal groups; the mean over the stages.

    Attributes
    ----------
    stages
        Groups of layers; 1 randomises the whole model at once.
    """

    stages: Annotated[int, Field(ge=1)] = 3

    profile: ClassVar[Profile] = Profile(
        family="randomisation",
        direction="lower",
        range=(0.0, 1.0),
        measures="the map shows what the model has learnt: without its weights the map is another",
        chance="0",
        cost="stages explanations an image and method",
        failure="noisy maps pass by being unlike anything; small nets keep part of the image's edges in every map",
        reference="Adebayo et al. 2018, Sanity checks for saliency maps, NeurIPS",
        needs=("method", "weights"),
    )

    def score(self, bench: Bench) -> Sequence[Outcome]:
        """Explain the images on every randomised copy with every method."""
        try:
            copies = bench.once(("randomised", self.stages), lambda: self._copies(bench))
        except CannotExplain as error:
            return [Outcome.missing(len(bench), str(error)) for _ in bench.explanations]
        every, rows = range(len(bench.explanations)), torch.arange(len(bench))
        alike: list[list[Tensor]] = [[] for _ in every]
        reasons = [""] * len(alike)
        for stage, clone in enumerate(copies):
            with bench.beside(clone) as passes:
                scores = partial(_scores, bench, (self.stages, stage), passes)
                again = explain_again(bench, every, bench.inputs, rows, scores, passes=passes)
                for index, (maps, why) in zip(every, again, strict=True):
                    reasons[index] = why or reasons[index]
                    alike[index] += [] if maps is None else [_similar(bench, index, maps)]
        return [
            Outcome.of(torch.stack(each).nanmean(0), reason or _CONSTANT, torch.zeros(len(bench)))
            if len(each) == len(copies)
            else Outcome.missing(len(bench), reason)
            for each, reason in zip(alike, reasons, strict=True)
        ]

    def _copies(self, bench: Bench) -> list[Model]:
        model = bench.passes.model
        layers = _learnt(model, bench.passes, bench.inputs)[::-1]
        if not layers:
            raise CannotExplain("the model has no parameters to randomise")
        bounds = sorted({max(1, round(len(layers) * stage / self.stages)) for stage in range(1, self.stages + 1)})
        return [randomised(model, layers[:bound], bench.seed) for bound in bounds]


def _scores(bench: Bench, stage: tuple[int, int], passes: Passes, index: int) -> Tensor:
    """Return the target's value on a randomised model, computed once for all methods that ask."""
    rows = torch.arange(len(bench))
    return bench.own(bench.once(("randomised scores", stage), lambda: bench.read(bench.inputs, rows, passes)), index)


def _similar(bench: Bench, index: int, maps: Tensor) -> Tensor:
    """Return |rank correlation| of flat maps ``(N, E)`` with an explanation's own, both summed over channels."""
    tensors = bench.explanations[index].tensors
    sizes = [part[0].numel() for part in tensors]
    again = [part.reshape(tensor.shape) for part, tensor in zip(torch.split(maps, sizes, 1), tensors, strict=True)]
    pairs = [(_summed(old.to(new.device)), _summed(new)) for old, new in zip(tensors, again, strict=True)]
    before, after = (torch.cat(side, 1) for side in zip(*pairs, strict=True))
    missing = after.isnan().any(1)
    value = spearman(before, after.nan_to_num()).abs()
    return torch.where(missing, torch.nan, value)


def _summed(values: Tensor) -> Tensor:
    return values.double().sum(1).flatten(1) if values.ndim > 2 else values.double()


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class random_logit(Metric):
    """Size of the rank correlation between the map of the explained class and that of another class, drawn per image."""

    profile: ClassVar[Profile] = Profile(
        family="randomisation",
        direction="lower",
        range=(0.0, 1.0),
        measures="the map tells this class from another",
        chance="0",
        cost="1 explanation an image and method",
        failure="with two classes of opposite logits a right map of the other class is the same map with its sign changed",
        reference="Sixt, Granz and Landgraf 2020, When explanations lie, ICML",
        needs=("method",),
    )

    def score(self, bench: Bench) -> Sequence[Outcome]:
        """Explain another class with every method."""
        outputs = bench.plain()
        return [self._outcome(bench, index, outputs) for index in range(len(bench.explanations))]

    @staticmethod
    def _outcome(bench: Bench, index: int, outputs: Tensor) -> Outcome:
        rows = torch.arange(len(bench))
        if type(bench.explanations[index].target) is not Class or outputs.ndim != 2 or outputs.shape[1] < 2:
            return Outcome.missing(
                len(bench), "the target is no class among several, so there is no other to compare with"
            )
        read = _other(bench, index, outputs)
        scores = read(outputs, rows.to(outputs.device)).double()
        ((maps, why),) = explain_again(bench, (index,), bench.inputs, rows, lambda _: scores, read=read)
        if maps is None:
            return Outcome.missing(len(bench), why)
        return Outcome.of(_similar(bench, index, maps), why or _CONSTANT, torch.zeros(len(bench)))


def _other(bench: Bench, index: int, outputs: Tensor) -> ReadOut:
    """Return the read-out of another class an image than the explained one."""
    classes = outputs.shape[1]
    marked = torch.arange(classes, dtype=outputs.dtype, device=outputs.device).expand(len(bench), classes)
    own = bench.read_of(index)(marked, torch.arange(len(bench), device=outputs.device)).long()
    shift = [int(torch.randint(1, classes, (), generator=stream)) for stream in streams(bench.seeds, "other class")]
    other = Class(tuple(((own.cpu() + torch.tensor(shift)) % classes).tolist()))
    return other.freeze(bench.passes.model, outputs)
