"""Image, changed image, difference, and the smallest part of the change that still flips the answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from pellucid.show.counterfactual import difference_colours, view_of
from pellucid.show.picture import address, outline_path, rgb
from pellucid.show.view import View
from pellucid.study import Study
from pellucid.study.counterfactual_pairs import MASKS, shown_pairs

__all__ = ["Minimal", "Pair", "drawable", "pairs_content", "picture"]

_EDGE = 96


@dataclass(frozen=True)
class Minimal:
    """The image with the smallest part of the change in it that flips the answer.

    Attributes
    ----------
    src
        The picture.
    rim
        SVG path of the part's rim in pixels, and the size of the picture ``width``, ``height`` that it is drawn in.
    size
        Part of the whole image that is changed; None where only the whole flips.
    area
        Under the answer's change against the changed part.
    """

    src: str
    rim: str
    width: int
    height: int
    size: float | None
    area: float


@dataclass(frozen=True)
class Pair:
    """An image, its counterfactual, the difference, and what of it is enough."""

    image: str
    told: str
    before: str
    after: str
    difference: str
    scale: float
    minimal: Minimal | None


def drawable(study: Study) -> bool:
    """Say whether the study's images can be drawn as pictures: signals cannot."""
    return len(study.images.record.spatial) > 1


def picture(study: Study, image: Tensor, view: View, edge: int = _EDGE) -> str:
    """Return the address of an image ``(C, *S)``, seen in one plane, `edge` pixels wide or high."""
    return address(rgb(view.plane(image.float()), study.images.record.display_range), edge=edge)


def pairs_content(study: Study, rows: Sequence[dict[str, Any]], kept: Mapping[str, Tensor]) -> list[Pair]:
    """Return the pairs that are drawn: valid ones, the pairs of classes in turn."""
    if not drawable(study):
        return []
    table = study.tables.get("counterfactual_masks", pa.table({})).to_pylist()
    masks = {(row["image"], row["target"]): row for row in table if row["chosen"]}
    tensors = study.tensors(MASKS) if masks else None
    made = []
    for place in shown_pairs(rows):
        row, before, after = rows[place], kept["images"][place], kept["changed"][place]
        mask = masks.get((row["image"], row["target"]))
        minimal = None if mask is None or tensors is None else _minimal(study, mask, tensors)
        made.append(_pair(study, row, before, after, minimal))
    return made


def _pair(study: Study, row: dict[str, Any], before: Tensor, after: Tensor, minimal: Minimal | None) -> Pair:
    change = after - before
    view = view_of(change, study.images.record)
    return Pair(
        row["image"], f"{row['source']} → {row['target']}: score {row['start']:.2f} → {row['score']:.2f}",
        picture(study, before, view), picture(study, after, view), address(difference_colours(change, view), edge=_EDGE),
        float(torch.as_tensor(change.mean(0).abs().max())), minimal,
    )  # fmt: skip


def _minimal(study: Study, row: dict[str, Any], tensors: Mapping[str, Tensor]) -> Minimal:
    """Draw a hybrid in the plane that holds most of its mask."""
    mask, hybrid = tensors["masks"][row["mask"]], tensors["hybrids"][row["mask"]]
    view = view_of(mask[None], study.images.record)
    plane = view.plane(mask) > 0.5
    height, width = plane.shape
    return Minimal(picture(study, hybrid, view), outline_path(plane), width, height, row["size"], row["area"])
