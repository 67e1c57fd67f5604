"""The minimal mask: the smallest part of a counterfactual that, pasted into the real image, still changes the model's answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from pellucid.counterfactual.candidates import CANDIDATES, Candidate
from pellucid.counterfactual.nested import mask_sweep
from pellucid.counterfactual.pairs import Pairs
from pellucid.errors import ShapeError
from pellucid.intervals import Interval, mean_interval, or_null, share_interval
from pellucid.models import Model, Passes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["MinimalMask", "minimal_mask"]

_DEFAULT = ("difference", "discriminative", "gradient_x_difference")


@dataclass(frozen=True, eq=False)
class MinimalMask:
    """Where pairs of real image and counterfactual differ for the model.

    Attributes
    ----------
    pairs
        The pairs with their scores.
    values
        Candidate maps ``(N, C, *S)`` by name.
    curves
        One row a pair, map and mask: ``image``, ``map``, ``level``, ``size`` (part of the image that is pasted),
        ``change`` (part of the score's change that the hybrid reaches) and ``flipped``.
    table
        One row a pair and map: ``image``, ``map``, ``area`` (under change against size; 1 is best), ``size`` (of the
        smallest mask that flips, null where only the whole does), ``best_size`` and ``best_change`` (where size less
        change is least), ``chosen`` (the map of the smallest mask of this pair).
    masks, hybrids
        ``(N, *S)`` and ``(N, C, *S)``: the smallest mask over all maps, and the real image with the counterfactual in it.
    """

    pairs: Pairs
    values: Mapping[str, Tensor]
    curves: pa.Table
    table: pa.Table
    masks: Tensor
    hybrids: Tensor

    def areas(self, *, groups: Sequence[str] | None = None) -> dict[str, Interval]:
        """Return the mean area under the curve by map, best first, with its interval over groups."""
        rows = self.table.to_pylist()
        found = {
            name: mean_interval([row["area"] for row in rows if row["map"] == name], groups=groups)
            for name in self.values
        }
        return dict(sorted(found.items(), key=lambda item: -item[1].value))

    def flips(self) -> Interval:
        """Return the share of pairs that a part of the image flips."""
        sizes = [row["size"] for row in self.table.to_pylist() if row["chosen"]]
        return share_interval(sum(size is not None and size < 1 for size in sizes), len(sizes))

    def plot(self, *, rows: Sequence[int] | None = None, most: int = 6) -> "Figure":
        """Draw real image, counterfactual, hybrid with its mask's rim, and the curves, a pair a line."""
        from pellucid.show import plot_minimal_mask  # noqa: PLC0415  # pictures know results, not the reverse

        return plot_minimal_mask(self, rows=rows, most=most)


def minimal_mask(
    model: Model | Callable[..., Any],
    real: Tensor,
    counterfactual: Tensor,
    *,
    maps: Sequence[str | Candidate] | Mapping[str, Tensor] = _DEFAULT,
    sweep: mask_sweep | None = None,
    enough: float | None = None,
    output: int | None = None,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = False,
) -> MinimalMask:
    """Find the smallest part of each counterfactual that alone changes the model's answer to the real image.

    Every candidate map is cut at many levels; each mask is joined, widened and faded, the counterfactual is pasted
    through it into the real image, and the model is asked. The area under change against mask size judges the map.

    Parameters
    ----------
    model
        The explained model.
    real, counterfactual
        Pairs ``(N, C, *S)``, as the model takes them.
    maps
        Candidate maps by text or value, or maps ``(N, C, *S)`` by name, positive where the change matters.
    sweep
        How masks are cut; default `mask_sweep()`.
    enough
        Share of the score's change that counts as flipped; None: the model's class is the counterfactual's. A model
        without classes needs it.
    output
        The read output of a regression net.
    ids, seed, batch_size, progress
        As for `pellucid.explain`.

    Raises
    ------
    ShapeError
        When pairs, ids or maps do not fit each other.
    CannotExplain
        When the model answers the same for both images of a pair, or a map needs what the model does not offer.

    References
    ----------
    Eckstein et al. 2021, Discriminative attribution from counterfactuals, arXiv 2109.13412.
    """
    pairs = Pairs.of(model, real, counterfactual, output=output, ids=ids, batch_size=batch_size)
    if enough is None and not pairs.classified:
        raise ShapeError(
            "a model without classes has no flip: give enough= as a share of the score's change, such as 0.9"
        )
    values = _values(pairs, maps, seed, batch_size)
    judge = _Judge(pairs, sweep or mask_sweep(), enough)
    with Passes(pairs.model, batch_size=batch_size) as passes:
        turns = track(range(len(pairs)), "pasting masks", disable=not progress, transient=True)
        found = [[judge.curve(passes, row, name, maps_[row]) for name, maps_ in values.items()] for row in turns]
    chosen = [_smallest(curves) for curves in found]
    masks = torch.stack([curves[best].mask for curves, best in zip(found, chosen, strict=True)])
    return MinimalMask(
        pairs, values,
        pa.Table.from_pylist([row for curves in found for curve in curves for row in curve.rows()]),
        pa.Table.from_pylist([curve.summary() | {"chosen": place == best} for curves, best in zip(found, chosen, strict=True)
                              for place, curve in enumerate(curves)], schema=_SUMMARY),
        masks, _pasted(pairs.real, pairs.counterfactual, masks),
    )  # fmt: skip


_SUMMARY = pa.schema([
    ("image", pa.string()), ("map", pa.string()), ("area", pa.float64()), ("size", pa.float64()),
    ("best_size", pa.float64()), ("best_change", pa.float64()), ("chosen", pa.bool_()),
])  # fmt: skip


def _values(
    pairs: Pairs, maps: Sequence[str | Candidate] | Mapping[str, Tensor], seed: int, batch_size: int | None
) -> dict[str, Tensor]:
    if not isinstance(maps, Mapping):
        recipes = [CANDIDATES.parse(one) for one in maps]
        return {str(one): one.values(pairs, seed=seed, batch_size=batch_size) for one in recipes}
    for name, given in maps.items():
        if len(given) != len(pairs) or given.ndim != pairs.real.ndim or given.shape[2:] != pairs.real.shape[2:]:
            raise ShapeError(
                f"map {name!r} is {tuple(given.shape)} and does not fit pairs {tuple(pairs.real.shape)}: give (N, C, *S)"
            )
    return dict(maps)


def _pasted(real: Tensor, counterfactual: Tensor, masks: Tensor) -> Tensor:
    """Return real images with the counterfactual inside masks ``(N, *S)``; exactly one or the other where a mask is 0 or 1."""
    share = masks[:, None].to(real)
    return torch.where(
        share == 1, counterfactual, torch.where(share == 0, real, torch.lerp(real, counterfactual, share))
    )


@dataclass(frozen=True, eq=False)
class _Curve:
    image: str
    name: str
    sizes: NDArray[np.float64]
    changes: NDArray[np.float64]
    flipped: NDArray[np.bool_]
    masks: Tensor

    @property
    def first(self) -> int:
        """The smallest mask that flips; the whole image where none does."""
        return int(self.flipped.argmax()) if self.flipped.any() else len(self.sizes) - 1

    @property
    def area(self) -> float:
        sizes, changes = np.append(0.0, self.sizes), np.append(0.0, self.changes)
        return float(np.trapezoid(changes, sizes))

    @property
    def mask(self) -> Tensor:
        return self.masks[self.first]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"image": self.image, "map": self.name, "level": level, "size": size, "change": change, "flipped": flipped}
            for level, (size, change, flipped) in enumerate(
                zip(self.sizes.tolist(), self.changes.tolist(), self.flipped.tolist(), strict=True), 1
            )
        ]

    def summary(self) -> dict[str, Any]:
        best = int((self.sizes - self.changes).argmin())
        size = float(self.sizes[self.first]) if self.flipped.any() else np.nan
        return {"image": self.image, "map": self.name, "area": self.area, "size": or_null(size),
                "best_size": float(self.sizes[best]), "best_change": float(self.changes[best])}  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Judge:
    pairs: Pairs
    sweep: mask_sweep
    enough: float | None

    def curve(self, passes: Passes, row: int, name: str, values: Tensor) -> _Curve:
        """Paste every mask of one map of one pair and ask the model."""
        pairs, masks = self.pairs, self.sweep.masks(values)
        ends = (one[row : row + 1].expand(len(masks), *one.shape[1:]) for one in (pairs.real, pairs.counterfactual))
        changes, flipped = pairs.judged(passes, row, _pasted(*ends, masks))
        if self.enough is not None:
            flipped = changes >= self.enough - 1e-9
        sizes = masks.double().flatten(1).mean(1)
        return _Curve(pairs.ids[row], name, sizes.numpy(), changes.numpy(), flipped.numpy(), masks)


def _smallest(curves: Sequence[_Curve]) -> int:
    """Return the place of the curve whose flipping mask is smallest; among equals the one of the largest area."""
    return min(range(len(curves)), key=lambda place: (curves[place].sizes[curves[place].first], -curves[place].area))
