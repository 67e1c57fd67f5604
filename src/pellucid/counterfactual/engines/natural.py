"""Natural counterfactuals: the most similar real images that the model calls something else; nothing is generated."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rich.progress import track

from pellucid.counterfactual.engines.spaces import Space
from pellucid.errors import BadTarget, ShapeError

__all__ = ["SCHEMA", "natural_counterfactuals"]

SCHEMA = pa.schema(
    {"image": pa.string(), "called": pa.int64(), "space": pa.string(), "rank": pa.int64(), "counterfactual": pa.string(),
     "counterfactual_called": pa.int64(), "distance": pa.float64(), "own_kind_distance": pa.float64(), "tied": pa.int64(),
     "reason": pa.string()}
)  # fmt: skip
"""One row an image and rank. `own_kind_distance` is the distance to the nearest image that is called the same, the
yardstick of "similar"; `tied` counts further images at just the same distance; `reason` says why there is none."""

_ROUNDING = 1e-12


def natural_counterfactuals(
    space: Space,
    called: Sequence[int],
    ids: Sequence[str],
    *,
    groups: Sequence[Hashable] | None = None,
    of: Sequence[str] | None = None,
    target: int | None = None,
    neighbours: int = 1,
    progress: bool = False,
) -> pa.Table:
    """Find, for each image, the most similar real images that the model calls something else.

    Images of the same group (patient, plate) are passed over: they resemble each other for reasons of their own. At
    equal distance the ids decide, so the order of the images does not matter.

    Parameters
    ----------
    space
        In which sense images are alike; see `pixel_space`, `embedding_space` and `phenotype_space`.
    called
        The class number that the model gives to each image of the space.
    ids
        The id of each.
    groups
        The unit of each image, or None where every image is one.
    of
        For which images to look; default all.
    target
        The class wanted; default any other.
    neighbours
        How many an image.
    progress
        Whether to show a bar.

    Returns
    -------
    pyarrow.Table
        See `SCHEMA`.

    Raises
    ------
    ShapeError
        When the parts do not fit each other.
    BadTarget
        When no image is called `target`, or all are called the same.

    References
    ----------
    Goyal et al., Counterfactual visual explanations, ICML 2019 (the distractor image); Kenny and Keane, On generating
    plausible counterfactual and semi-factual explanations for deep learning, AAAI 2021 (nearest unlike neighbour).
    """
    if neighbours < 1:
        raise ShapeError(f"natural_counterfactuals(neighbours={neighbours}): at least one neighbour is needed")
    cases = _Cases.of(space, called, ids, groups)
    cases.refuse_target(target)
    known = {name: row for row, name in enumerate(cases.ids)}
    wanted = cases.ids if of is None else tuple(of)
    for name in wanted:
        if name not in known:
            raise ShapeError(f"there is no image {name!r} among the {len(cases.ids)} of the space {space.name!r}")
    shown = track(wanted, "finding similar images", transient=True, disable=not progress)
    rows = [row for name in shown for row in cases.nearest(known[name], target, neighbours)]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


@dataclass(frozen=True)
class _Cases:
    """The images among which to look."""

    space: Space
    called: NDArray[np.int64]
    ids: tuple[str, ...]
    group: NDArray[np.int64]

    @classmethod
    def of(cls, space: Space, called: Sequence[int], ids: Sequence[str], groups: Sequence[Hashable] | None) -> "_Cases":
        lengths = {"features": len(space.features), "called": len(called), "ids": len(ids)}
        if groups is not None:
            lengths["groups"] = len(groups)
        if len(set(lengths.values())) != 1 or len(set(ids)) != len(ids):
            told = ", ".join(f"{count} {name}" for name, count in lengths.items())
            raise ShapeError(f"natural_counterfactuals needs one entry an image and unique ids, and was given {told}")
        number: dict[Hashable, int] = {}
        units = ids if groups is None else groups
        group = np.array([number.setdefault(unit, len(number)) for unit in units], dtype=np.int64)
        return cls(space, np.asarray(called, dtype=np.int64), tuple(ids), group)

    def refuse_target(self, target: int | None) -> None:
        classes = sorted({int(one) for one in self.called})
        if target is not None and target not in classes:
            raise BadTarget(f"none of the {len(self.ids)} images is called {target}; the model calls them {classes}")
        if target is None and len(classes) < 2:
            raise BadTarget(f"all {len(self.ids)} images are called {classes[0]}: there is no real counterfactual")

    def nearest(self, row: int, target: int | None, count: int) -> list[dict[str, Any]]:
        distances = self.space.distances(row)
        own = self.called == self.called[row]
        other = ~own if target is None else (self.called == target) & ~own
        elsewhere = (self.group != self.group[row]) & np.isfinite(distances)
        told = {"image": self.ids[row], "called": int(self.called[row]), "space": self.space.name}
        own_kind = distances[own & elsewhere]
        told["own_kind_distance"] = float(own_kind.min()) if len(own_kind) else None
        eligible = np.flatnonzero(other & elsewhere)
        if not len(eligible):
            return [told | {"rank": 1, "reason": self._why(row, other, target)}]
        order = sorted(map(int, eligible), key=lambda place: (distances[place], self.ids[place]))[:count]
        return [told | self._row(rank, place, distances, eligible) for rank, place in enumerate(order, 1)]

    def _row(
        self, rank: int, place: int, distances: NDArray[np.float64], eligible: NDArray[np.int64]
    ) -> dict[str, Any]:
        same = np.isclose(distances[eligible], distances[place], rtol=_ROUNDING, atol=0.0)
        return {
            "rank": rank, "counterfactual": self.ids[place], "counterfactual_called": int(self.called[place]),
            "distance": float(distances[place]), "tied": int(same.sum()) - 1, "reason": "",
        }  # fmt: skip

    def _why(self, row: int, other: NDArray[np.bool_], target: int | None) -> str:
        if target == self.called[row]:
            return f"the image itself is called {target}"
        if not (other & (self.group != self.group[row])).any():
            return "every image that is called otherwise is of the same group"
        return "no image that is called otherwise has a feature in common"
