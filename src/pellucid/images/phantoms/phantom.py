"""A phantom: synthetic images whose every factor, label rule and responsible pixel is known."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pellucid.errors import BadImage
from pellucid.images.imageset import ImageRecord, ImageSet
from pellucid.images.phantoms.rule import Factor
from pellucid.images.phantoms.scene import Scene
from pellucid.images.phantoms.writing import write_phantom

__all__ = ["Member", "Phantom", "assemble", "check_size", "group_of", "split_of", "stream"]

GROUP = 5
"""Images a slide."""

_SPLITS = ("train", "test", "val", "train", "train", "train", "test", "train", "train", "train")

Paint = Callable[[int, Mapping[str, float]], Scene]


def stream(seed: int, index: int, purpose: int) -> np.random.Generator:
    """Return the random stream of one image for one purpose, whatever the number of images."""
    return np.random.default_rng([seed, index, purpose])


def group_of(index: int) -> int:
    """Return the slide on which image `index` lies: five images share one slide and its illumination."""
    return index // GROUP


def split_of(index: int) -> str:
    """Return the split of image `index`: 70 % train, 20 % test, 10 % val, whole slides only."""
    return _SPLITS[group_of(index) % len(_SPLITS)]


def check_size(name: str, count: int, size: tuple[int, ...]) -> None:
    """Refuse a count or a size that cannot be painted."""
    if len(size) != 2 or min(size) < 24 or count < 0:
        raise BadImage(f"{name} need a count and a size (Y, X) of at least 24 pixels, not {count} and {size}")


@dataclass(frozen=True)
class Member:
    """One image of a phantom before it is rendered: its label and the value of every factor."""

    label: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Phantom:
    """Synthetic images with planted truth.

    Attributes
    ----------
    name
        Of the family: ``"cells"`` or ``"grains"``.
    images
        Images with labels, splits, groups (slides) and the masks ``"object"``, ``"truth"``, one a factor.
    factors
        One row an image: ``image`` and a column for each factor, in the unit that `dials` names.
    dials
        Name, unit, range and meaning of each factor.
    rule
        The label as a sentence.
    causes
        The factors that decide the label; the mask ``"truth"`` is the union of theirs.
    """

    name: str
    images: ImageSet
    factors: pa.Table = field(repr=False)
    dials: tuple[Factor, ...] = field(repr=False)
    rule: str
    causes: tuple[str, ...]
    _paint: Paint = field(repr=False)
    _classify: Callable[[Mapping[str, float]], int] = field(repr=False)

    def _values(self, image: str, changes: Mapping[str, float]) -> tuple[int, dict[str, float]]:
        if image not in self.images.ids:
            raise BadImage(f"there is no image {image!r} among the {len(self.images)} of this phantom")
        index = self.images.ids.index(image)
        row = self.factors.slice(index, 1).to_pylist()[0]
        values = {dial.name: float(row[dial.name]) for dial in self.dials}
        dials = {dial.name: dial for dial in self.dials}
        for name, value in changes.items():
            if name not in dials:
                raise BadImage(f"this phantom has no factor {name!r}; it has {', '.join(dials)}")
            values[name] = dials[name].check(value)
        return index, values

    def render(self, image: str, **changes: float) -> Tensor:
        """Render an image anew with some factors changed and everything else, noise included, as it was.

        Without changes the result equals the image bit for bit: the pair is a true counterfactual.

        Parameters
        ----------
        image
            Its id.
        **changes
            New values by factor, in the factor's unit.

        Returns
        -------
        Tensor
            Float32 ``(C, *S)``.

        Raises
        ------
        BadImage
            When there is no such image or factor, or the value is outside the factor's range.
        """
        return torch.from_numpy(self._paint(*self._values(image, changes)).image)

    def label(self, image: str, **changes: float) -> int:
        """Return the class number that the rule gives to an image with these factors changed."""
        return self._classify(self._values(image, changes)[1])

    def factor_mask(self, name: str, ids: Sequence[str] | None = None) -> Tensor:
        """Return the exact pixels that carry a factor.

        For a local factor these are the pixels it touches (spots, nucleus, ring, tag, lesion); for a global
        one such as size or eccentricity the whole object.

        Returns
        -------
        Tensor
            Boolean ``(N, *S)``.
        """
        masks = self.images.mask(name, ids)
        found = [mask.bool() for mask in masks if mask is not None]
        return torch.stack(found) if found else torch.empty(0, *self.images.shape[1:], dtype=torch.bool)

    def write(self, folder: str | Path, *, progress: bool = False) -> Path:
        """Write a folder that `pellucid.read_images` opens like any other; see `write_phantom`."""
        return write_phantom(self.images, self.factors, folder, progress=progress)


def assemble(
    name: str,
    record: ImageRecord,
    shape: tuple[int, ...],
    members: Sequence[Member],
    *,
    dials: tuple[Factor, ...],
    classes: tuple[str, ...],
    rule: str,
    causes: tuple[str, ...],
    paint: Paint,
    classify: Callable[[Mapping[str, float]], int],
) -> Phantom:
    """Put rendered-on-demand images and their truth together."""
    ids = tuple(f"{name.rstrip('s')}_{index:05d}" for index in range(len(members)))
    number = {image: index for index, image in enumerate(ids)}

    def scene(image: str) -> Scene:
        return paint(number[image], members[number[image]].values)

    def mask_reader(mask: str) -> Callable[[str], Tensor]:
        wanted = causes if mask == "truth" else (mask,)

        def read(image: str) -> Tensor:
            masks = scene(image).masks
            return torch.from_numpy(np.logical_or.reduce([masks[key] for key in wanted]).astype(np.int64))

        return read

    images = ImageSet(
        ids=ids,
        record=record,
        shape=shape,
        load=lambda image: torch.from_numpy(scene(image).image),
        classes=classes,
        labels=tuple(member.label for member in members),
        metadata=_metadata(len(members)),
        masks={mask: mask_reader(mask) for mask in ("object", "truth", *(dial.name for dial in dials))},
    )
    factors = _factor_table(ids, members, dials)
    return Phantom(name, images, factors, dials, rule, causes, paint, classify)


def _metadata(count: int) -> pa.Table:
    return pa.table(
        {
            "split": pa.array([split_of(index) for index in range(count)], pa.string()),
            "group": pa.array([f"slide_{group_of(index):04d}" for index in range(count)], pa.string()),
        }
    )


def _factor_table(ids: Sequence[str], members: Sequence[Member], dials: Sequence[Factor]) -> pa.Table:
    columns: dict[str, pa.Array] = {"image": pa.array(ids, pa.string())}
    for dial in dials:
        values = [member.values[dial.name] for member in members]
        columns[dial.name] = pa.array(values, pa.float64()).cast(pa.int64() if dial.whole else pa.float64())
    return pa.table(columns)
