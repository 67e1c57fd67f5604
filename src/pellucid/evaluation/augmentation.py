"""Robustness to natural changes: a map should keep up with the image as well as the model's own answer does."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from pellucid.evaluation.bench import Bench
from pellucid.evaluation.metric import METRICS, Metric, Outcome, Profile
from pellucid.evaluation.positions import place
from pellucid.evaluation.reexplain import explain_again
from pellucid.evaluation.statistics import pearson, spearman
from pellucid.evaluation.subsets import Share
from pellucid.evaluation.transforms import TRANSFORMS, TransformName
from pellucid.models import Inputs, Normalise, ReadOut, targets

__all__ = ["augmentation_robustness", "steadiness"]

_CONTROL = "a control never looks at the model, so that it keeps up says nothing"
_CUT = "the model's own answer changes too much under every change, or the map is constant"


@METRICS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class augmentation_robustness(Metric):
    """How well the map keeps up with changes of light, colour and pose, relative to how well the model's answer does.

    For every change and direction: the area under the similarity of the map to that of the changed image (brought
    back), over the strength, divided by the area under the model's own steadiness; up to the strength at which the
    answer has changed by more than `cut`. Steadiness is the smaller over the larger of the class probabilities before
    and after (of the scores, where the target is no class). 1: the map is as steady as the model. What a pose moves out
    of sight is left out; both maps go through the same interpolation. Changes that need three channels or two axes
    are left out elsewhere.

    Attributes
    ----------
    transforms
        Which changes, of `pellucid.evaluation.transforms.TRANSFORMS`.
    steps
        Strengths in each direction.
    strength
        The largest, in parts of that of the published study.
    similarity
        ``"pearson"``, ``"spearman"`` or ``"cosine"`` over positions.
    cut
        Part by which the model's answer may change.
    """

    transforms: Annotated[tuple[TransformName, ...], Field(min_length=1)] = (
        "brightness", "hue", "saturation", "rotation", "translation", "scale",
    )  # fmt: skip
    steps: Annotated[int, Field(ge=1)] = 2
    strength: Annotated[float, Field(gt=0, le=1)] = 1.0
    similarity: Literal["pearson", "spearman", "cosine"] = "pearson"
    cut: Share = 0.1

    profile: ClassVar[Profile] = Profile(
        family="robustness",
        direction="higher",
        range=(-torch.inf, torch.inf),
        measures="where the model calls the changed image the same, the map stays with the same structures",
        cost="2 × steps × len(transforms) explanations an image and method, fewer where the model gives way; as many "
        "forwards an image for all methods",
        failure="a map that ignores the model keeps up perfectly; a model that gives way at once leaves little to compare",
        reference="Tětková and Hansen 2023, Robustness of visual explanations to common data augmentation, CVPRW",
        needs=("method",),
        resolution=1e-4,
    )

    def score(self, bench: Bench) -> Sequence[Outcome]:
        """Explain the same changed images with every method."""
        fitting = [name for name in self.transforms if TRANSFORMS[name].fits(bench.inputs[0])]
        if len(bench.inputs) > 1 or not fitting:
            shapes = " and ".join(str(tuple(x.shape[1:])) for x in bench.inputs)
            reason = f"{', '.join(self.transforms)} cannot be done to inputs of shape {shapes} (C, *S)"
            return [Outcome.missing(len(bench), reason) for _ in bench.explanations]
        return [self._outcome(bench, index, fitting) for index in range(len(bench.explanations))]

    def _outcome(self, bench: Bench, index: int, fitting: Sequence[str]) -> Outcome:
        reason = _CONTROL if bench.control(index) else bench.maps[index].reason
        if reason:
            return Outcome.missing(len(bench), reason)
        sides, why = [], ""
        for name in fitting:
            for sign in (-1, 1):
                value, said = self._side(bench, index, name, sign)
                sides.append(value)
                why = said or why
        return Outcome.of(torch.stack(sides).nanmean(0), why or _CUT)

    def _side(self, bench: Bench, index: int, name: str, sign: int) -> tuple[Tensor, str]:
        """Return the ratio of the two areas ``(N,)`` in one direction of one change; NaN where the model gives way."""
        rows = torch.arange(len(bench))
        alike = torch.zeros(len(bench), self.steps + 1, dtype=torch.float64)
        steady, alike[:, 0], why = torch.ones_like(alike), 1.0, ""
        last = torch.zeros(len(bench), dtype=torch.long)
        for step in range(1, self.steps + 1):
            strength = sign * self.strength * step / self.steps
            steady[:, step] = steadiness(bench, index, name, strength)
            rows = rows[steady[rows, step] >= 1 - self.cut]
            if not len(rows):
                break
            alike[rows, step], said = self.alike(bench, index, name, strength, rows)
            last[rows], why = step, said or why
        value = torch.stack([_area(alike, k) / _area(steady, k) for k in range(1, self.steps + 1)], 1)
        reached = value.gather(1, (last - 1).clamp_min(0)[:, None])[:, 0]
        return torch.where(last > 0, reached, torch.nan), why

    def alike(self, bench: Bench, index: int, name: str, strength: float, rows: Tensor) -> tuple[Tensor, str]:
        """Return how similar the maps of some rows are to those of the changed rows, brought back."""
        scores = partial(_scores, bench, ("augmented", name, strength), rows)
        ((maps, why),) = explain_again(bench, (index,), _changed(bench, name, strength, rows), rows, scores)
        if maps is None:
            return torch.full((len(rows),), torch.nan, dtype=torch.float64), why
        own = bench.explanations[index].tensors[0]
        again = place((maps.reshape(len(rows), *own.shape[1:]),), bench.grid).values
        shape = (len(rows), 1, *bench.grid.shapes[0])
        plain = bench.maps[index].values[rows].double().reshape(shape)
        before, after, seen = TRANSFORMS[name].round_trip(plain, again.double().reshape(shape), strength)
        missing = again.isnan().any(1)
        pair = [part.flatten(2)[:, 0][:, seen.flatten()].nan_to_num() for part in (before, after)]
        value = _SIMILAR[self.similarity](*pair) if bool(seen.any()) else torch.full(missing.shape, torch.nan)
        return value.masked_fill(missing, torch.nan).cpu(), why


def _cosine(left: Tensor, right: Tensor) -> Tensor:
    sizes = left.norm(dim=1) * right.norm(dim=1)
    return torch.where(sizes > 0, (left * right).sum(1) / sizes.clamp_min(1e-300), torch.nan)


_SIMILAR = {"pearson": pearson, "spearman": spearman, "cosine": _cosine}


def _area(curve: Tensor, last: int) -> Tensor:
    return torch.trapezoid(curve[:, : last + 1], dx=1 / last, dim=1)


def _changed(bench: Bench, name: str, strength: float, rows: Tensor) -> Inputs:
    """Return changed images in model space; light and colour change in the image's own units where these are known."""
    x, transform, way = (
        bench.inputs[0][rows.to(bench.inputs[0].device)],
        TRANSFORMS[name],
        bench.passes.model.preprocess,
    )
    if transform.colour is not None and isinstance(way, Normalise):
        return (way(transform.apply(way.inverse(x), strength)),)
    return (transform.apply(x, strength),)


def _chances(bench: Bench) -> list[ReadOut]:
    """Return for every target of the bench what stands for the model's answer: log-odds of a class, else the score."""
    found = []
    for target, read in zip(bench.targets, bench.reads, strict=True):
        decided = isinstance(target, targets.Class | targets.LogOdds) and bench.decides(target)
        odds = targets.LogOdds(target.index) if decided else target  # type: ignore[attr-defined]  # both name a class
        found.append(odds.freeze(bench.passes.model, bench.plain()) if decided else read)
    return found


def _answers(bench: Bench, name: str, strength: float) -> Tensor:
    """Return ``(2 T, N)`` every target's value and answer on the changed images, in slabs; one forward for all methods."""
    reads = [*bench.reads, *bench.once("chances", lambda: _chances(bench))]
    slabs = torch.split(torch.arange(len(bench)), bench.passes.batch_size(bench.inputs))
    parts = [bench.read(_changed(bench, name, strength, slab), slab, reads=reads) for slab in slabs]
    return torch.cat(parts, 1)


def _scores(bench: Bench, key: tuple[str, str, float], rows: Tensor, index: int) -> Tensor:
    answers: Tensor = bench.once(key, partial(_answers, bench, *key[1:]))
    return bench.own(answers, index)[rows.to(answers.device)]


def steadiness(bench: Bench, index: int, name: str, strength: float) -> Tensor:
    """Return ``(N,)`` how much of the model's answer for the target of explanation `index` stays under one change, at most 1."""
    answers: Tensor = bench.once(("augmented", name, strength), partial(_answers, bench, name, strength))
    return bench.own(_steadiness(bench, answers), index)


def _steadiness(bench: Bench, answers: Tensor) -> Tensor:
    """Return ``(T, N)`` the smaller over the larger of the answers before and after; 0 where they differ in sign."""
    rows, count = torch.arange(len(bench)), len(bench.reads)
    reads = bench.once("chances", lambda: _chances(bench))
    before = bench.once("plain answers", lambda: bench.read(bench.inputs, rows, reads=reads))
    after, found = answers[count:], []
    for target, old, new in zip(bench.targets, before, after, strict=True):
        one, two = (old.sigmoid(), new.sigmoid()) if bench.decides(target) else (old, new)
        larger = torch.maximum(one.abs(), two.abs())
        ratio = torch.minimum(one.abs(), two.abs()) / larger.clamp_min(torch.finfo(larger.dtype).tiny)
        found.append(torch.where((one * two > 0) | (larger == 0), torch.where(larger == 0, 1.0, ratio), 0.0))
    return torch.stack(found).cpu()
