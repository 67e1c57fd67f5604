"""The gate: no counterfactual is shown before its generator was tried on images that it never saw."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pellucid.counterfactual.generator import FittedGenerator
from pellucid.counterfactual.guidance import one_input
from pellucid.counterfactual.moves import LatentMove
from pellucid.counterfactual.parts import in_parts, rebuilt
from pellucid.counterfactual.realism import RandomFilters, grain, novelty
from pellucid.counterfactual.search import Search
from pellucid.counterfactual.seek import Sought, seek
from pellucid.counterfactual.support import LIMIT, Support
from pellucid.counterfactual.verdict import Check, GateVerdict
from pellucid.errors import ShapeError
from pellucid.intervals import share_interval
from pellucid.models import Model, Passes
from pellucid.models.predict import two_columns
from pellucid.models.targets import Output

__all__ = ["gate"]

_AGREEMENT, _CORRELATION = 0.9, 0.9
_SUPPORTED, _REAL = 0.8, 0.8
_GRAIN = 0.85
_OFF_TARGET = 1.0
_COMPOSED, _CYCLES = 1.0, 10
_STABLE, _JITTER, _STRAY = 0.5, 0.3, 1.7
_LEAST, _REPEATED = 8, 32


def gate(
    fitted: FittedGenerator,
    model: Model,
    images: Tensor,
    *,
    training: Tensor | None = None,
    search: Search | str | None = None,
    target: Any = None,
    value: Any = None,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    most: int = 64,
    batch_size: int | None = None,
) -> GateVerdict:
    """Try a generator on held-out images and say whether its counterfactuals may be shown.

    Parameters
    ----------
    fitted
        The generator.
    model
        The model whose answers are to be explained.
    images
        ``(N, C, *S)`` that the generator never saw, 8 or more.
    training
        The images that it was fitted to; default: `images`, which makes the limits of the support too wide.
    search, target, value
        As for `counterfactual`; without a target a classifier's images go to the likeliest other class, and a regression's
        to the other side of the training images' middle half.
    ids, seed
        As everywhere.
    most
        Held-out images that changes are searched for.
    batch_size
        Rows at once.

    Returns
    -------
    GateVerdict
        With the support that `counterfactual` works within.

    Raises
    ------
    ShapeError
        When there are fewer than 8 images.
    """
    if len(images) < _LEAST:
        raise ShapeError(f"gate() needs {_LEAST} held-out images or more, not {tuple(images.shape)}")
    known = images if training is None else training
    support = Support.of(fitted, model, known, batch_size=batch_size)
    with Passes(model, batch_size=batch_size) as passes:
        trip = _round_trip(passes, fitted, images)
        drawn = images[:most]
        if target is None and value is None and (model.task == "regression" or support.outputs.shape[1:] == (1,)):
            target, value = _across(passes, drawn, support)
        names = None if ids is None else list(ids)[:most]
        found = seek(passes, drawn, fitted, support, target=target, value=value, search=search, ids=names, seed=seed)
        again = _again(passes, found, drawn, fitted, support, target, value, names, seed)
    checks = (
        *trip, *_shown(found, support, known, images, drawn), _composition(fitted, support, drawn),
        *_stability(again, support),
    )  # fmt: skip
    return GateVerdict(str(fitted.generator), str(found.search), checks, support, len(images))


def _across(passes: Passes, x: Tensor, support: Support) -> tuple[Any, Any]:
    """Return the default aim of a model of numbers: from below the median to the third quartile, and the reverse."""
    first = support.outputs.flatten(1)[:, 0].double()
    low, middle, high = (float(first.quantile(share)) for share in (0.25, 0.5, 0.75))
    now = passes.outputs((one_input(passes.model, x),)).flatten(1)[:, 0]
    return Output(0), torch.where(now.double() < middle, high, low)


def _share(name: str, meaning: str, good: Tensor, limit: float, real: Tensor | None = None) -> Check:
    found = share_interval(int(good.sum()), len(good))
    beside = None if real is None else float(real.double().mean())
    return Check(name, meaning, found.value, limit, rising=True, real=beside, low=found.low, high=found.high, n=found.n)


def _round_trip(passes: Passes, fitted: FittedGenerator, images: Tensor) -> list[Check]:
    """Compare what the model says of images and of their reconstructions."""
    with torch.no_grad():
        again = rebuilt(fitted, images)
    before, after = (passes.outputs((one_input(passes.model, x),)).flatten(1).cpu() for x in (images, again))
    checks = [
        Check("score_correlation", "least correlation of an output between images and their reconstructions",
              _correlation(before, after), _CORRELATION, rising=True, n=len(images)),
    ]  # fmt: skip
    if passes.model.task not in {"regression", "segmentation"}:
        same = two_columns(before).argmax(1) == two_columns(after).argmax(1)
        told = "share of reconstructions that the model puts in the image's own class"
        checks.insert(0, _share("class_agreement", told, same, _AGREEMENT))
    return checks


def _correlation(before: Tensor, after: Tensor) -> float:
    """Return the least correlation over outputs that differ between images; NaN where reconstructions are all alike."""
    pairs = [(a, b) for a, b in zip(before.double().T, after.double().T, strict=True) if a.std() > 1e-9]
    found = [float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in pairs]
    return min(found) if found and all(number == number for number in found) else float("nan")


def _shown(found: Sought, support: Support, known: Tensor, images: Tensor, drawn: Tensor) -> list[Check]:
    """Judge the images that would be shown, by eyes other than the model's."""
    rows = torch.arange(len(drawn))
    with torch.no_grad():
        shown = torch.cat([found.move.at(1.0, part) for part in in_parts(rows)]).cpu()
        strain, at_rest = (
            torch.cat([found.move.strain(dose, part, seen[part]) for part in in_parts(rows)]).cpu()
            for dose, seen in ((1.0, shown), (0.0, drawn))
        )
    eye = RandomFilters(support.low, support.high)
    features = eye(known)
    limit = novelty(features, features).quantile(LIMIT)
    changes = shown - drawn
    moved = changes.flatten(1).abs().amax(1) > 0
    sizes = changes.flatten(1).abs().mean(1)[moved] / support.typical_difference
    others = images[:: max(1, len(images) // 256)]
    real = grain(others - others.roll(len(others) // 2, 0))
    return [
        _share("support", "share of shown images within the limits of the training images", strain <= 1, _SUPPORTED,
               at_rest <= 1),
        _share("realism", "share of shown images no stranger to fixed random filters than 99 % of real ones",
               novelty(eye(shown), features) <= limit, _REAL, novelty(eye(drawn), features) <= limit),
        Check("grain", "median share of the change between neighbouring pixels: 1 is noise", _median(grain(changes[moved])),
              _GRAIN, rising=False, real=_median(real), n=int(moved.sum())),
        Check("off_target", "median change, in shares of the difference between two real images", _median(sizes),
              _OFF_TARGET, rising=False, real=1.0, n=int(moved.sum())),
    ]  # fmt: skip


def _median(values: Tensor) -> float:
    return float(values.double().median()) if len(values) else float("nan")


@torch.no_grad()
def _composition(fitted: FittedGenerator, support: Support, images: Tensor) -> Check:
    """Send images round again and again: a faithful round trip does not wander off."""
    x = images
    for _ in range(_CYCLES):
        x = fitted.decode(fitted.encode(x))
    drift = (x.cpu() - images.cpu()).abs().flatten(1).mean(1) / support.typical_difference
    told = f"median drift after {_CYCLES} round trips, in shares of the difference between two real images"
    return Check("composition", told, _median(drift), _COMPOSED, rising=False, real=1.0, n=len(images))


def _again(
    passes: Passes, found: Sought, x: Tensor, fitted: FittedGenerator, support: Support, target: Any, value: Any,
    ids: list[str] | None, seed: int,
) -> list[Sought]:  # fmt: skip
    """Search anew from two random places, on a few images."""
    names = [str(row) for row in range(len(x))] if ids is None else ids
    jitter = min(_JITTER, _STRAY / support.latents.shape[1] ** 0.5)  # many numbers together stray no further than a few
    few, aimed = x[:_REPEATED], value[:_REPEATED] if isinstance(value, Tensor) and value.ndim else value
    wanted = target[:_REPEATED] if isinstance(target, list | tuple | Tensor) else target
    return [
        seek(passes, few, fitted, support, target=wanted, value=aimed, search=found.search, ids=names[:_REPEATED],
             seed=seed + place, jitter=jitter)
        for place in (1, 2)
    ]  # fmt: skip


def _stability(again: list[Sought], support: Support) -> list[Check]:
    """Compare the moves of two searches that began elsewhere; a change of pixels has no chance in it."""
    first, second = (sought.move for sought in again)
    if not (isinstance(first, LatentMove) and isinstance(second, LatentMove)):
        return []
    reached = again[0].reached & again[1].reached
    ways = [(move.step @ support.whiten).cpu()[reached] for move in (first, second)]
    cosines = torch.nn.functional.cosine_similarity(ways[0], ways[1])
    told = "median cosine of the steps of two searches that began at random places"
    return [Check("stability", told, _median(cosines), _STABLE, rising=True, n=int(reached.sum()))]
